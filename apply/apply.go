// Package apply makes of a document's hosts the cluster that it describes. Where there is none, the phases of init make it on
// the control plane that starts it, and those of join take all other hosts into it, at the same time. Where there is one,
// its hosts are changed in turns to what the document says (package upgrade), and hosts that are new join it.
package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/join"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/upgrade"
	"github.com/myadm/myadm/workflow"
)

// Options are the user's word on apply.
type Options struct {
	IgnorePreflight []string
	Patience        time.Duration // for the control planes to become healthy, and for nodes to become Ready
	TokenTTL        time.Duration // of the token for hosts that are not in the document
	MaxUnavailable  string        // of the workers, while they are changed: a number or a percentage
	Drain           upgrade.DrainOptions
}

// Steps are what makes the document's cluster of the hosts, as s has found them.
func Steps(c *cluster.Cluster, s *State, opts Options) []workflow.Step {
	if len(s.Members) == 0 {
		return create(c, s.Founder, opts)
	}
	return change(c, s, opts)
}

// create is init's list and join's in one.
func create(c *cluster.Cluster, founder *cluster.Node, opts Options) []workflow.Step {
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
		workflow.Parallel(
			workflow.Leading( // the others wait for its API server and its etcd
				workflow.Parallel(
					phases.Prepare(c, []*cluster.Node{founder}),
					workflow.Sequence(
						phases.Kubeconfigs(c, founder),
						phases.StaticPods(c, founder), // a kubelet that runs already would make an empty file of each that is missing
					),
				),
				phases.Start(c, founder, phases.InitOptions{IgnorePreflight: opts.IgnorePreflight, Patience: opts.Patience, TokenTTL: opts.TokenTTL}),
			),
			join.Arrive(c, others, j, joining),
		),
		join.Settle(c, others, j, joining),
	}
}

// change has the members of a running cluster follow the document, and takes the other hosts into it. A version comes
// first and by itself, since it has an order of its own; then what the hosts run, control planes before all else, one at a
// time, and what is in the API; then those hosts join for which all of this may have been made.
func change(c *cluster.Cluster, s *State, opts Options) []workflow.Step {
	servers, workers := split(s.Members)
	j := join.Fresh(c, s.Founder)
	joining := join.Options{IgnorePreflight: opts.IgnorePreflight, Patience: opts.Patience}
	rolling := upgrade.Options{
		From: s.From(), IgnorePreflight: opts.IgnorePreflight, Patience: opts.Patience, MaxUnavailable: opts.MaxUnavailable, Drain: opts.Drain,
	}
	steps := []workflow.Step{
		phases.Preflight(c, c.Nodes, phases.PreflightOptions{Ignore: opts.IgnorePreflight}),
	}
	var upgrading []workflow.Step
	if s.Upgrades(c.Config.Spec.KubernetesVersion) {
		upgrading, steps = append(steps, upgrade.Steps(c.Of(s.Members), rolling)...), nil
	}
	steps = append(steps,
		workflow.Pipeline(phases.ExternalEtcd(c, servers)),
		workflow.Parallel(
			phases.Prepare(c, c.Nodes),
			phases.Folders(c, s.Members),
		),
		workflow.Pipeline( // credentials that change are placed while the kubelet is stopped
			join.Credentials(c, without(s.Members, s.Founder), j),
			phases.ResumeKubelet(s.Members),
		),
		upgrade.ConvergeControlPlanes(c, servers, s.From(), rolling),
		phases.WaitAPI(c, s.Founder, opts.Patience),
		workflow.Parallel(
			phases.UploadConfig(c),
			phases.BootstrapAccess(c, s.Founder),
			phases.Addons(c),
			phases.Network(c),
			phases.Endpoint(c),
		),
		upgrade.ConvergeWorkers(c, workers, rolling),
		join.Arrive(c, s.Arriving, j, joining),
		join.Settle(c, c.Nodes, j, joining),
		phases.Endpoint(c), // names the load balancers of hosts that have come
		phases.MoveEndpoint(c),
		upgrade.Tidy(c, s.Members),
	)
	return append(upgrading, workflow.Ahead(steps...)) // where all is as it should be, one look sees it
}

// split tells control planes and workers apart.
func split(nodes []*cluster.Node) (servers, workers []*cluster.Node) {
	for _, n := range nodes {
		if n.Spec.HasRole(config.RoleControlPlane) {
			servers = append(servers, n)
		} else {
			workers = append(workers, n)
		}
	}
	return servers, workers
}

func without(nodes []*cluster.Node, one *cluster.Node) []*cluster.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *cluster.Node) bool { return n == one })
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

// Learn asks a cluster that there is for its API servers, since some may have joined without the document, and for the load
// balancer of a document that names none. A cluster that does not answer is brought up with those of the document.
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
	if c.Config.Spec.LoadBalancer.Type == "" { // nothing was said: a cluster that has shrunk keeps its endpoint
		c.Config.Spec.LoadBalancer = settings.LoadBalancer
	}
	return nil
}

const learnTimeout = 5 * time.Second
