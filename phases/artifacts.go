package phases

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// rolesOf are the reasons for a host to get artifacts, the runtime's aside: that one is sent before the others.
func rolesOf(c *cluster.Cluster, n *cluster.Node) []bundle.Role {
	roles := []bundle.Role{bundle.RoleNode, bundle.RoleWorker}
	if n.Spec.HasRole(config.RoleControlPlane) {
		roles = []bundle.Role{bundle.RoleNode, bundle.RoleControlPlane}
	}
	if c.Config.Spec.Networking.Plugin == config.PluginFlannel {
		roles = append(roles, bundle.RoleCNI, bundle.RoleFlannel)
	}
	if len(balanced(c, []*cluster.Node{n})) > 0 {
		roles = append(roles, bundle.RoleLoadBalancer)
	}
	return roles
}

// artifacts selects what a host gets. A bundle that has nothing for the host's architecture is an error.
func artifacts(c *cluster.Cluster, n *cluster.Node, kind bundle.Kind, roles ...bundle.Role) ([]bundle.Artifact, error) {
	if c.Bundle == nil {
		return nil, nil
	}
	if _, err := c.Bundle.Binary("kubelet", n.Facts.Arch); err != nil {
		return nil, err
	}
	var selected []bundle.Artifact
	for _, a := range c.Bundle.Select(n.Facts.Arch, roles...) {
		if a.Kind == kind {
			selected = append(selected, a)
		}
	}
	return selected, nil
}

// NodeBinaries are all binaries that the bundle has for a host, those of the runtime that myadm brings included.
func NodeBinaries(c *cluster.Cluster, n *cluster.Node) (runtime, others []bundle.Artifact, err error) {
	others, err = nodeBinaries(c, n)
	if err != nil || c.Config.Spec.Runtime.Type == config.RuntimeExisting {
		return nil, others, err
	}
	runtime, err = artifacts(c, n, bundle.KindBinary, bundle.RoleRuntime)
	return runtime, others, err
}

// nodeBinaries are the binaries of a host besides those that come with the runtime that myadm brings: the two are sent
// at the same time.
func nodeBinaries(c *cluster.Cluster, n *cluster.Node) ([]bundle.Artifact, error) {
	binaries, err := artifacts(c, n, bundle.KindBinary, rolesOf(c, n)...)
	if c.Config.Spec.Runtime.Type == config.RuntimeExisting {
		return binaries, err
	}
	return slices.DeleteFunc(binaries, func(a bundle.Artifact) bool { return slices.Contains(a.Roles, bundle.RoleRuntime) }), err
}

// DiffBinaries compares binaries with what is on the host, by checksum and in one round trip.
func DiffBinaries(ctx context.Context, r host.Reader, binaries []bundle.Artifact) ([]workflow.Change, error) {
	paths := make([]string, len(binaries))
	for i, a := range binaries {
		paths[i] = a.Target
	}
	infos, err := r.Sums(ctx, paths...)
	if err != nil {
		return nil, err
	}
	var changes []workflow.Change
	for i, a := range binaries {
		if change, differs := diffFile(infos[i], a.Target, fs.FileMode(a.Mode), a.Blobs[0].SHA256); differs {
			change.Detail = a.Version
			changes = append(changes, change)
		}
	}
	return changes, nil
}

// SendBinaries brings the binaries that changes names.
func SendBinaries(ctx context.Context, c *cluster.Cluster, h host.Host, binaries []bundle.Artifact, changes []workflow.Change) error {
	var wanted []bundle.Artifact
	var total int64 // each place counts, also where two have the same content
	for _, a := range binaries {
		if hasObject(changes, a.Target) {
			wanted = append(wanted, a)
			total += a.Size()
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	return c.Delivery().Files(ctx, c.Node(h).Delivery(), wanted, newCounter(ctx, total).set)
}

// counter sums up the bytes of several transfers for the one line of their phase.
type counter struct {
	ctx   context.Context
	total int64
	mu    sync.Mutex
	sent  map[string]int64
}

func newCounter(ctx context.Context, total int64) *counter {
	return &counter{ctx: ctx, total: total, sent: map[string]int64{}}
}

func (c *counter) set(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent[name] = n
	var sum int64
	for _, n := range c.sent {
		sum += n
	}
	workflow.ReportProgress(c.ctx, "sent", sum, c.total)
}

// Binaries places the kubelet, kubectl and the network plugins on the hosts, and tells the runtime to use flannel's.
func Binaries(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	files := func(ctx context.Context, r host.Reader) ([]host.File, error) {
		unit, err := kubeletUnit(ctx, c, r)
		if err != nil || c.Config.Spec.Networking.Plugin != config.PluginFlannel {
			return []host.File{unit}, err
		}
		conflist, err := manifests.FlannelConflist()
		return []host.File{unit, conflist}, err
	}
	return workflow.Phase{
		Name:  "binaries",
		Short: "place the kubelet, kubectl and network plugins",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			if c.Bundle == nil {
				if err := requirePrepared(ctx, r, manifests.BinDir+"/kubelet"); err != nil {
					return nil, err
				}
			}
			binaries, err := nodeBinaries(c, c.Node(r))
			if err != nil {
				return nil, err
			}
			changes, err := DiffBinaries(ctx, r, binaries)
			if err != nil {
				return nil, err
			}
			more, err := diffRendered(ctx, r, files)
			return append(changes, more...), err
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			binaries, err := nodeBinaries(c, c.Node(h))
			if err != nil {
				return err
			}
			wanted, err := files(ctx, h)
			if err != nil {
				return err
			}
			// The unit goes first: it names the binaries, so that reset finds them also when the run is cut now. The conflist
			// goes last: a runtime with it and without the plugins would start pods that fail.
			if err := writeChanged(ctx, h, wanted[:1], changes); err != nil {
				return err
			}
			if err := SendBinaries(ctx, c, h, binaries, changes); err != nil {
				return err
			}
			return writeChanged(ctx, h, wanted[1:], changes)
		},
	}
}

// requirePrepared is what a host without a bundle must have already.
func requirePrepared(ctx context.Context, r host.Reader, paths ...string) error {
	infos, err := r.Stat(ctx, paths...)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if !info.Exists {
			return fmt.Errorf("%s is missing and there is no bundle to take it from; hint: --bundle PATH, --mirror URL, or spec.artifacts in the document", info.Path)
		}
	}
	return nil
}
