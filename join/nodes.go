package join

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// Steps are what makes nodes of hosts, workers and control planes, all at the same time. Control planes that are in the
// cluster already are only told of the new ones.
func Steps(c *cluster.Cluster, joiners, present []*cluster.Node, j *Joining, opts Options) []workflow.Step {
	steps := []workflow.Step{
		workflow.Pipeline(
			phases.Preflight(c, joiners, phases.PreflightOptions{Ignore: opts.IgnorePreflight, Dial: []string{j.endpoint()}, CA: j.CA}),
		),
		Follow(c, present, j),
		Arrive(c, joiners, j, opts),
		Settle(c, append(slices.Clone(present), joiners...), j, opts),
	}
	if j.administers && c.Config.Spec.LoadBalancer.Balanced() {
		steps = append(steps,
			phases.Endpoint(c),
			phases.MoveEndpoint(c),
			workflow.Pipeline(phases.EndpointFlag(c, present, opts.Patience)),
			phases.Endpoint(c), // once more: an API server without the flag takes the endpoints for its own until it ends
		)
	}
	return steps
}

// Follow has control planes of the cluster answer for the endpoint that it has with the new ones.
func Follow(c *cluster.Cluster, present []*cluster.Node, j *Joining) workflow.Step {
	return workflow.Pipeline(
		workflow.Parallel(
			phases.JoinCerts(c, present, j.pki),
			phases.LoadBalancerImages(c, present),
		),
		phases.LoadBalancer(c, present),
	)
}

// Arrive takes each host, by itself, from bare to a running kubelet and, on a control plane, to a voting etcd and an API
// server of its own.
func Arrive(c *cluster.Cluster, nodes []*cluster.Node, j *Joining, opts Options) workflow.Step {
	servers := controlPlanes(nodes)
	return workflow.Pipeline(
		workflow.Parallel(
			phases.Prepare(c, nodes),
			workflow.Sequence(
				phases.JoinCerts(c, servers, j.pki),
				phases.JoinKubeconfigs(c, servers, j.pki),
				j.kubeletCredentials(c, nodes),
			),
		),
		phases.Kubelet(c, nodes, j.kubelet),
		phases.EtcdJoin(c, servers, j.etcd, opts.Patience),
		phases.ControlPlane(c, servers),
	)
}

// Settle waits until the hosts are what they are to be, and marks them as such.
func Settle(c *cluster.Cluster, nodes []*cluster.Node, j *Joining, opts Options) workflow.Step {
	servers := controlPlanes(nodes)
	marked := nodes
	if !j.administers {
		marked = nil // a kubelet may not mark its node
	}
	return workflow.Pipeline(
		phases.WaitControlPlane(c, servers, opts.Patience),
		NodeReady(c, nodes, j, opts.Patience),
		workflow.Parallel(
			phases.MarkNodes(c, marked, opts.Patience),
			phases.KubeletFinalize(c, nodes, opts.Patience),
		),
	)
}

// kubeletCredentials is the way in which kubelets get their certificates: signed here where the CA's key is at
// hand, else asked for by token.
func (j *Joining) kubeletCredentials(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	if j.signs {
		return Credentials(c, nodes, j)
	}
	return TLSBootstrap(nodes, j)
}

func controlPlanes(nodes []*cluster.Node) []*cluster.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *cluster.Node) bool { return !n.Spec.HasRole(config.RoleControlPlane) })
}

// Present tells which of the control planes are in the cluster already: those with all static pods.
func Present(ctx context.Context, c *cluster.Cluster) (present, joiners []*cluster.Node, err error) {
	pods := []string{config.KubeletConf}
	for _, name := range []string{manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName} {
		pods = append(pods, manifests.StaticPodPath(name))
	}
	whole := make([]bool, len(c.Nodes))
	all, ctx := errgroup.WithContext(ctx)
	for i, n := range c.Nodes {
		if !n.Spec.HasRole(config.RoleControlPlane) {
			continue
		}
		all.Go(func() error {
			infos, err := n.Stat(ctx, pods...)
			whole[i] = !slices.ContainsFunc(infos, func(info host.Info) bool { return !info.Exists })
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, nil, err
	}
	for i, n := range c.Nodes {
		if whole[i] {
			present = append(present, n)
		} else {
			joiners = append(joiners, n)
		}
	}
	return present, joiners, nil
}
