package phases

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/cri"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// pullsAtOnce is how many images a runtime is asked to pull at the same time. Each comes by several layers at once.
const pullsAtOnce = 3

// orPulled is a phase that imports images, except where the runtime is the user's and takes no import: CRI has none, and
// that of containerd's own client is only there with containerd. Such a runtime pulls what it lacks, by the names that pods
// have, with its own mirrors and credentials.
func orPulled(c *cluster.Cluster, imported workflow.Phase, names func(*cluster.Cluster, *cluster.Node) ([]string, error)) workflow.Phase {
	if c.Config.Spec.Runtime.Type != config.RuntimeExisting {
		return imported
	}
	phase := imported
	phase.Check = func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
		_, imports, err := HostImages(ctx, c, r)
		if err != nil {
			return nil, err
		}
		if imports {
			return imported.Check(ctx, r)
		}
		return lackingImages(ctx, c, c.Node(r), names)
	}
	phase.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
		_, imports, err := HostImages(ctx, c, h)
		if err != nil {
			return err
		}
		if imports {
			return imported.Apply(ctx, h, changes)
		}
		return pullImages(ctx, c, c.Node(h), names, changes)
	}
	return phase
}

// lackingImages are those of the names that the runtime has not. What it has by a name is taken for the image: the digest of
// a pulled one may be that of an index for all platforms, with which nothing here can be compared.
func lackingImages(ctx context.Context, c *cluster.Cluster, n *cluster.Node, names func(*cluster.Cluster, *cluster.Node) ([]string, error)) ([]workflow.Change, error) {
	wanted, err := names(c, n)
	if err != nil || len(wanted) == 0 {
		return nil, err
	}
	client, err := cri.Open(ctx, c.Config.Spec.Runtime.Socket, n.Dial)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	images, err := client.Images(ctx)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, image := range images {
		for _, tag := range image.Tags {
			have[tag] = true
		}
	}
	var changes []workflow.Change
	for _, name := range wanted {
		if !have[name] {
			changes = append(changes, workflow.Change{Action: workflow.Create, Object: "image " + name, Detail: "pulled by " + client.Version().RuntimeName})
		}
	}
	return changes, nil
}

func pullImages(ctx context.Context, c *cluster.Cluster, n *cluster.Node, names func(*cluster.Cluster, *cluster.Node) ([]string, error), changes []workflow.Change) error {
	wanted, err := names(c, n)
	if err != nil {
		return err
	}
	wanted = slices.DeleteFunc(wanted, func(name string) bool { return !hasObject(changes, "image "+name) })
	client, err := cri.Open(ctx, c.Config.Spec.Runtime.Socket, n.Dial)
	if err != nil {
		return err
	}
	defer client.Close()
	var pulled atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(pullsAtOnce)
	for _, name := range wanted {
		g.Go(func() error {
			if _, err := client.Pull(ctx, name, cri.Auth{}); err != nil {
				return fmt.Errorf("%w; hint: the host's own runtime pulls: give it a way to the registry, set spec.imageRepository, or load the image into it", err)
			}
			workflow.Tell(ctx, fmt.Sprintf("pulled %s (%d of %d)", name, pulled.Add(1), len(wanted)))
			return nil
		})
	}
	return g.Wait()
}

// imageNames are the images of the pods on a node, by the names that the pods have. The pause image is not among them: which
// one it is, is for the runtime's own configuration to say.
func imageNames(c *cluster.Cluster, n *cluster.Node) ([]string, error) {
	images, err := config.ImagesOf(c.Config)
	if err != nil {
		return nil, err
	}
	names := []string{images.Proxy, images.CoreDNS, images.Flannel}
	if n.Spec.HasRole(config.RoleControlPlane) {
		names = append(names, images.Etcd, images.APIServer, images.ControllerManager, images.Scheduler)
	}
	balancer, err := balancerImageNames(c, n)
	names = append(names, balancer...)
	return slices.DeleteFunc(names, func(name string) bool { return name == "" }), err
}

// balancerImageNames are those of the load balancer in front of the API servers, where the node has one.
func balancerImageNames(c *cluster.Cluster, n *cluster.Node) ([]string, error) {
	images, err := config.ImagesOf(c.Config)
	if err != nil || len(balanced(c, []*cluster.Node{n})) == 0 {
		return nil, err
	}
	return slices.DeleteFunc([]string{images.HAProxy, images.Keepalived}, func(name string) bool { return name == "" }), nil
}
