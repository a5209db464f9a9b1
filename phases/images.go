package phases

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// Images puts a host's images into its containerd, straight from the stream. A runtime of the user's that is not
// containerd pulls its images itself.
func Images(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	return orPulled(c, images(c, nodes, imagesOf), imageNames)
}

// LoadBalancerImages is Images for nodes that have all others, and are to get a load balancer.
func LoadBalancerImages(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	imported := images(c, balanced(c, nodes), func(c *cluster.Cluster, n *cluster.Node) ([]bundle.Artifact, error) {
		all, err := imagesOf(c, n)
		return slices.DeleteFunc(all, func(a bundle.Artifact) bool { return !slices.Contains(a.Roles, bundle.RoleLoadBalancer) }), err
	})
	return orPulled(c, imported, balancerImageNames)
}

// images is the phase for those images of a node that of names.
func images(c *cluster.Cluster, nodes []*cluster.Node, of func(*cluster.Cluster, *cluster.Node) ([]bundle.Artifact, error)) workflow.Phase {
	return workflow.Phase{
		Name:  "images",
		Short: "put the images into the container runtime",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			images, err := of(c, c.Node(r))
			if err != nil || len(images) == 0 {
				return nil, err
			}
			have, _, err := HostImages(ctx, c, r) // without a containerd there is no image yet
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			for _, a := range images {
				switch digest, ok := have[a.Image]; {
				case !ok:
					changes = append(changes, workflow.Change{Action: workflow.Create, Object: "image " + a.Image})
				case digest != a.Digest:
					changes = append(changes, workflow.Change{Action: workflow.Update, Object: "image " + a.Image, Detail: "digest"})
				}
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			images, err := of(c, c.Node(h))
			if err != nil {
				return err
			}
			var wanted []bundle.Artifact
			var total int64 // each image travels whole, also the layers that another has too
			for _, a := range images {
				if hasObject(changes, "image "+a.Image) {
					wanted = append(wanted, a)
					total += a.Size()
				}
			}
			command := ctr(c, "images", "import", "-").Argv
			return c.Delivery().Images(ctx, c.Node(h).Delivery(), wanted, command, newCounter(ctx, total).set)
		},
	}
}

// NodeImages are all images that the bundle has for a host.
func NodeImages(c *cluster.Cluster, n *cluster.Node) ([]bundle.Artifact, error) {
	return imagesOf(c, n)
}

// HostImages are the digests of the images that a host's containerd has, by name; known is false where none answers: there
// is none yet, or the runtime is another.
func HostImages(ctx context.Context, c *cluster.Cluster, r host.Reader) (have map[string]string, known bool, err error) {
	out, err := r.Query(ctx, ctr(c, "images", "ls"))
	switch {
	case err == nil:
		return parseImages(out), true, nil
	case ran(err):
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("list images: %w", err)
}

// imagesOf are the images that the bundle has for a host, by the names that the cluster's pods have for them.
func imagesOf(c *cluster.Cluster, n *cluster.Node) ([]bundle.Artifact, error) {
	images, err := artifacts(c, n, bundle.KindImage, rolesOf(c, n)...)
	if c.Config.Spec.LoadBalancer.Type != config.LoadBalancerKeepalived {
		images = slices.DeleteFunc(images, func(a bundle.Artifact) bool { return a.Name == manifests.KeepalivedName })
	}
	if repository := c.Config.Spec.ImageRepository; repository != config.DefaultImageRepository {
		for i := range images {
			images[i].Image = config.InRepository(repository, images[i].Image)
		}
	}
	return images, err
}

// ctr is a command of containerd's own client, in the namespace of the CRI.
func ctr(c *cluster.Cluster, args ...string) host.Cmd {
	argv := []string{"ctr", "--namespace", "k8s.io"}
	if socket := c.Config.Spec.Runtime.Socket; socket != config.ContainerdSocket {
		argv = append(argv, "--address", socket)
	}
	return host.Command(append(argv, args...)...)
}

// parseImages reads what `ctr images ls` prints: a heading, then a line for each image with its name, the type and the
// digest of its manifest.
func parseImages(out []byte) map[string]string {
	images := map[string]string{}
	for line := range bytes.Lines(out) {
		if fields := strings.Fields(string(line)); len(fields) >= 3 && strings.HasPrefix(fields[2], "sha256:") {
			images[fields[0]] = fields[2]
		}
	}
	return images
}
