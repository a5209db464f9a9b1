package phases

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// podNetworks is what the names of the pods' network namespaces begin with, as the CRI gives them. Others beside them are
// the administrator's, made with `ip netns`.
const podNetworks = "/run/netns/cni-"

// mountPrefixes are what the mount points of the kubelet, containerd and the network plugins begin with. The folders that
// hold them may be file systems of the host's own, and stay mounted.
func mountPrefixes(ownRuntime bool) []string {
	prefixes := []string{config.KubeletDir + "/", podNetworks, "/var" + podNetworks}
	if ownRuntime {
		prefixes = append(prefixes, "/run/containerd/", "/var/lib/containerd/")
	}
	return prefixes
}

// maxOvermounts is how often a point may be mounted over; each time another mount comes to light.
const maxOvermounts = 8

// Mounts unmounts what pods have left.
func Mounts(nodes []*cluster.Node) workflow.Phase {
	left := func(ctx context.Context, r host.Reader) ([]string, error) {
		own, err := ownRuntime(ctx, r)
		if err != nil {
			return nil, err
		}
		mounts, err := r.Query(ctx, host.Command("cat", "/proc/self/mountinfo"))
		if err != nil {
			return nil, fmt.Errorf("list mounts: %w", err)
		}
		return mountsOf(mounts, mountPrefixes(own)), nil
	}
	return workflow.Phase{
		Name:  "mounts",
		Short: "unmount what pods have left",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			mounts, err := left(ctx, r)
			var changes []workflow.Change
			for _, m := range mounts {
				changes = append(changes, workflow.Change{Action: workflow.Delete, Object: "mount " + m})
			}
			return changes, err
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			for range maxOvermounts {
				mounts, err := left(ctx, h)
				if err != nil || len(mounts) == 0 {
					return err
				}
				// The innermost come first; lazily, because a process that is just ending may still be inside.
				if _, err := h.Run(ctx, host.Command(append([]string{"umount", "--lazy"}, mounts...)...)); err != nil {
					return fmt.Errorf("unmount: %w", err)
				}
			}
			return nil
		},
	}
}

// mountsOf finds the mount points in /proc/self/mountinfo that begin with one of the prefixes, the innermost first.
func mountsOf(mountinfo []byte, prefixes []string) []string {
	var found []string
	for line := range bytes.Lines(mountinfo) {
		fields := strings.Fields(string(line))
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount.Replace(fields[4])
		ours := func(prefix string) bool { return strings.HasPrefix(point, prefix) }
		if slices.ContainsFunc(prefixes, ours) && !slices.Contains(found, point) {
			found = append(found, point)
		}
	}
	slices.SortFunc(found, func(a, b string) int { return strings.Compare(b, a) })
	return found
}

// unescapeMount undoes what the kernel does to blanks in mountinfo.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// links are the network interfaces of flannel and of the CNI's bridge.
var links = []string{"cni0", "flannel.1", "flannel-v6.1"}

// Links removes the pod network's interfaces.
func Links(nodes []*cluster.Node) workflow.Phase {
	paths := make([]string, len(links))
	for i, l := range links {
		paths[i] = "/sys/class/net/" + l
	}
	return workflow.Phase{
		Name:  "links",
		Short: "remove the pod network's interfaces",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			infos, err := r.Stat(ctx, paths...)
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			for i, info := range infos {
				if info.Exists {
					changes = append(changes, workflow.Change{Action: workflow.Delete, Object: "link " + links[i]})
				}
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			for _, l := range links {
				if !hasObject(changes, "link "+l) {
					continue
				}
				if _, err := h.Run(ctx, host.Command("ip", "link", "delete", l)); err != nil {
					return fmt.Errorf("remove link %s: %w", l, err)
				}
			}
			return nil
		},
	}
}
