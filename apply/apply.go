// Package apply makes a whole cluster of a document: the phases of init for the control plane that starts it, and those of
// join for all other hosts, at the same time.
package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/join"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// Options are the user's word on apply.
type Options struct {
	IgnorePreflight []string
	Patience        time.Duration // for the control planes to become healthy, and for nodes to become Ready
	TokenTTL        time.Duration // of the token for hosts that are not in the document
}

// Steps are what makes the document's cluster. founder is the control plane that starts it, or any that is in it.
func Steps(c *cluster.Cluster, founder *cluster.Node, opts Options) []workflow.Step {
	var others []*cluster.Node
	for _, n := range c.Nodes {
		if n != founder {
			others = append(others, n)
		}
	}
	j := join.Fresh(c, founder)
	joining := join.Options{IgnorePreflight: opts.IgnorePreflight, Patience: opts.Patience}
	return []workflow.Step{
		phases.Preflight(c, c.Nodes, phases.PreflightOptions{Ignore: opts.IgnorePreflight}),
		workflow.Pipeline(phases.ExternalEtcd(c, []*cluster.Node{founder})),
		phases.Certs(c, founder), // before all else: what the others share comes from here
		phases.Kubeconfigs(c, founder),
		workflow.Parallel(
			workflow.Leading( // the others wait for its API server and its etcd
				workflow.Parallel(
					phases.Prepare(c, []*cluster.Node{founder}),
					phases.StaticPods(c, founder),
				),
				phases.Start(c, founder, phases.InitOptions{IgnorePreflight: opts.IgnorePreflight, Patience: opts.Patience, TokenTTL: opts.TokenTTL}),
			),
			join.Arrive(c, others, j, joining),
		),
		join.Settle(c, others, j, joining),
	}
}

// Founder picks the control plane that starts the cluster: one that is in it, or the document's first one when none is. A
// control plane that could not be reached may be in it, and then there must be another that is.
func Founder(ctx context.Context, c *cluster.Cluster) (*cluster.Node, error) {
	present, _, err := join.Present(ctx, c)
	if err != nil {
		return nil, err
	}
	if len(present) > 0 {
		return present[0], nil
	}
	servers := c.ControlPlanes()
	errs := make([]error, len(servers))
	var all sync.WaitGroup
	for i, n := range servers {
		all.Go(func() { _, errs[i] = n.ReadFile(ctx, config.SuperAdminConf) })
	}
	all.Wait()
	for i, n := range servers { // an earlier run may have come only so far
		if errs[i] == nil {
			return n, nil
		}
		if !errors.Is(errs[i], fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", n.Name(), errs[i])
		}
	}
	named := 0
	for _, h := range c.Config.Spec.Hosts {
		if h.HasRole(config.RoleControlPlane) {
			named++
		}
	}
	if len(servers) < named {
		return nil, errors.New("none of the control planes that were reached is in a cluster, and one that was not reached may be; hint: start it, or take it out of the document")
	}
	return servers[0], nil
}

// Learn asks a cluster that there is for its API servers: some may have joined without the document. A cluster that does
// not answer is brought up with those of the document.
func Learn(ctx context.Context, c *cluster.Cluster) error {
	client, err := c.Kube(ctx)
	if errors.Is(err, cluster.ErrNoCluster) {
		return nil
	}
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	ref := kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: manifests.MyadmConfigName}
	ours, err := kube.Get[corev1.ConfigMap](asking, client, ref)
	if err != nil {
		return ctx.Err()
	}
	settings, err := manifests.ReadMyadmConfig(ours.Data)
	if err != nil {
		return err // it names the ConfigMap
	}
	c.Learned = settings.APIServers
	return nil
}

const learnTimeout = 5 * time.Second

// CheckVersion refuses a document of another Kubernetes version than that of the cluster that there is: changing it takes
// more than placing files.
func CheckVersion(ctx context.Context, c *cluster.Cluster, founder *cluster.Node) error {
	infos, err := founder.Stat(ctx, manifests.StaticPodPath(manifests.APIServerName))
	if err != nil || !infos[0].Exists {
		return err
	}
	data, err := founder.ReadFile(ctx, manifests.StaticPodPath(manifests.APIServerName))
	if err != nil {
		return fmt.Errorf("%s: %w", founder.Name(), err)
	}
	var pod corev1.Pod
	if err := yaml.Unmarshal(data, &pod); err != nil || len(pod.Spec.Containers) == 0 {
		return fmt.Errorf("%s: %s is no pod; hint: remove it, and the phase control-plane writes it anew", founder.Name(), manifests.StaticPodPath(manifests.APIServerName))
	}
	images, err := config.ImagesOf(c.Config)
	if err != nil {
		return err
	}
	if have := pod.Spec.Containers[0].Image; have != images.APIServer {
		return fmt.Errorf("the cluster runs %s, and the document wants %s; hint: neither apply nor init changes the version, `myadm upgrade apply` does; to stay, write that of the cluster, as a label such as stable moves", have, images.APIServer)
	}
	return nil
}
