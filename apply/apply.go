// Package apply makes of a document's hosts the cluster that it describes. Where there is none, the phases of init make it on
// the control plane that starts it, and those of join take all other hosts into it, at the same time. Where there is one,
// its hosts are changed in turns to what the document says (package upgrade), and hosts that are new join it.
package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/certs"
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
	Settle          time.Duration // how long a cluster that is not well may take to become so before it is upgraded
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

// change has the members of a running cluster follow the document, and takes the other hosts into it. First comes what the
// hosts run, control planes before all else, one at a time; with another version it goes in the order of an upgrade. Then
// come what is in the API, and those hosts for which all of this may have been made.
func change(c *cluster.Cluster, s *State, opts Options) []workflow.Step {
	servers, workers := split(s.Members)
	j := join.Fresh(c, s.Founder)
	joining := join.Options{IgnorePreflight: opts.IgnorePreflight, Patience: opts.Patience}
	rolling := upgrade.Options{
		From: s.From(), Document: true, IgnorePreflight: opts.IgnorePreflight, Settle: opts.Settle, Patience: opts.Patience,
		MaxUnavailable: opts.MaxUnavailable, Drain: opts.Drain,
	}
	preflight := phases.Preflight(c, c.Nodes, phases.PreflightOptions{Ignore: opts.IgnorePreflight})
	prepare := []workflow.Step{
		workflow.Pipeline(phases.ExternalEtcd(c, servers)),
		workflow.Parallel(
			phases.Prepare(c, c.Nodes),
			phases.Folders(c, s.Members),
		),
		workflow.Pipeline( // credentials that change are placed while the kubelet is stopped
			join.Credentials(c, without(s.Members, s.Founder), j),
			phases.ResumeKubelet(s.Members),
		),
	}
	objects := []workflow.Step{
		phases.WaitAPI(c, s.Founder, opts.Patience),
		workflow.Parallel(
			phases.UploadConfig(c),
			phases.BootstrapAccess(c, s.Founder),
			phases.Addons(c),
			phases.Network(c),
			phases.Endpoint(c),
		),
	}
	arrive := []workflow.Step{
		join.Arrive(c, s.Arriving, j, joining),
		join.Settle(c, c.Nodes, j, joining),
		phases.Endpoint(c), // names the load balancers of hosts that have come
		phases.MoveEndpoint(c),
		upgrade.Tidy(c, s.Members),
	}
	// Within Ahead, where all is as it should be, one look sees it.
	if s.Upgrades(c.Config.Spec.KubernetesVersion) {
		steps := append([]workflow.Step{preflight}, upgrade.Steps(c.Of(s.Members), rolling)...)
		return append(steps, workflow.Ahead(slices.Concat(prepare, objects, arrive)...))
	}
	return []workflow.Step{workflow.Ahead(slices.Concat(
		[]workflow.Step{preflight}, prepare,
		[]workflow.Step{upgrade.ConvergeControlPlanes(c, servers, rolling)}, objects,
		[]workflow.Step{upgrade.ConvergeWorkers(c, workers, rolling)}, arrive,
	)...)}
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
// balancer of a document that names none. A cluster that does not answer is brought up with those of the document, unless its
// control plane shows that it has a load balancer, of which the document would know nothing: what is down for a moment is not
// to lose it.
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
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case kube.NotFound(err): // myadm has not made it
		return nil
	case err != nil:
		return unheard(ctx, c, err)
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

// unheard refuses a document that names no load balancer for a cluster that could not be asked, where a control plane shows
// that there is one.
func unheard(ctx context.Context, c *cluster.Cluster, cause error) error {
	if c.Config.Spec.LoadBalancer.Type != "" {
		return nil
	}
	for _, n := range c.ControlPlanes() {
		shows, err := showsBalancer(ctx, c, n)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		if shows != "" {
			return fmt.Errorf("%s: %s, so that the cluster may have a load balancer of which the document says nothing, and its API cannot be asked for it: %w; hint: wait until the API answers, write spec.loadBalancer as it was, or advertiseAddress and apiServerPort if they have changed",
				n.Name(), shows, cause)
		}
	}
	return nil
}

// showsBalancer is what on a control plane shows that its cluster has a load balancer; empty when nothing does.
func showsBalancer(ctx context.Context, c *cluster.Cluster, n *cluster.Node) (string, error) {
	pod := manifests.StaticPodPath(manifests.HAProxyName)
	infos, err := n.Stat(ctx, pod)
	if err != nil {
		return "", err
	}
	if infos[0].Exists {
		return pod + " is there", nil
	}
	admin, err := n.ReadFile(ctx, config.AdminConf)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	own := net.JoinHostPort(n.Spec.AdvertiseAddress, strconv.Itoa(int(c.Config.Spec.APIServerPort)))
	if _, differs, err := certs.PointAt(admin, "https://"+own); err == nil && differs { // what nobody can read is written anew
		return config.AdminConf + " does not lead to its own API server", nil
	}
	return "", nil
}

const learnTimeout = 5 * time.Second
