package phases

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// LoadBalancer places the node-local load balancer: HAProxy as a static pod in front of all API servers. One that runs
// already is told of a changed list without losing a connection. Which nodes get it is balanced's to say. Hosts behind a
// virtual IP take turns, so that one of them always has it.
//
// Where a kubelet runs, the image has to be there before. A kubelet that has begun to pull an image asks the registry for it even
// when it has come in some other way since, and a node that is to reach the API by this very pod would not get out of that.
// Source: https://kubernetes.io/docs/concepts/containers/images/#ensureimagepullcredentialverification
func LoadBalancer(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	virtual, parallel := c.Config.Spec.LoadBalancer.Type == config.LoadBalancerKeepalived, 0
	if virtual {
		parallel = 1
	}
	return workflow.Phase{
		Name:     "load-balancer",
		Short:    "place the load balancer of the API servers",
		Hosts:    cluster.Hosts(balanced(c, nodes)),
		Parallel: parallel,
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			files, err := balancerFiles(c, c.Node(r))
			if err != nil {
				return nil, err
			}
			changes, err := diffFiles(ctx, r, files)
			if err != nil {
				return nil, err
			}
			folder, err := diffFolder(ctx, r, config.ManifestsDir, manifestsMode)
			if err != nil {
				return nil, err
			}
			changes = append(folder, changes...)
			if running := loadedVersion(ctx, c.Node(r)); running != "" && running != manifests.HAProxyVersion(files[0].Data) {
				changes = append(changes, workflow.Change{Action: workflow.Run, Object: manifests.HAProxyName, Detail: "load the list of API servers"})
			}
			if virtual {
				state, err := readKeepalived(ctx, r)
				if err != nil {
					return nil, err
				}
				if state.running && (state.old || hasObject(changes, manifests.KeepalivedConfigPath)) {
					changes = append(changes, workflow.Change{Action: workflow.Run, Object: manifests.KeepalivedName, Detail: "load the list of its peers"})
				}
			}
			return changes, ctx.Err()
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			n := c.Node(h)
			files, err := balancerFiles(c, n)
			if err != nil {
				return err
			}
			if err := makeFolder(ctx, h, config.ManifestsDir, manifestsMode, changes); err != nil {
				return err
			}
			for _, f := range files { // the manifest last: a pod without its configuration fails, and is started again only later
				if err := writeChanged(ctx, h, []host.File{f}, changes); err != nil {
					return err
				}
			}
			if err := reloadBalancer(ctx, h, n, manifests.HAProxyVersion(files[0].Data)); err != nil || !virtual {
				return err
			}
			return restartKeepalived(ctx, h, n)
		},
	}
}

// balanced are those of the nodes that run HAProxy: all when each has its own endpoint, the control planes behind a
// virtual IP.
func balanced(c *cluster.Cluster, nodes []*cluster.Node) []*cluster.Node {
	switch c.Config.Spec.LoadBalancer.Type {
	case config.LoadBalancerNodeLocal:
		return nodes
	case config.LoadBalancerKeepalived:
		return controlPlanes(nodes)
	}
	return nil
}

// controlPlanes are those of the nodes that run the control plane.
func controlPlanes(nodes []*cluster.Node) []*cluster.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *cluster.Node) bool { return !n.Spec.HasRole(config.RoleControlPlane) })
}

// balancerFiles are the configuration, first, and what runs by it.
func balancerFiles(c *cluster.Cluster, n *cluster.Node) ([]host.File, error) {
	p := params(c)
	pod, err := manifests.HAProxy(p)
	if err != nil {
		return nil, err
	}
	files := []host.File{manifests.HAProxyConfig(p), pod}
	if c.Config.Spec.LoadBalancer.Type != config.LoadBalancerKeepalived {
		return files, nil
	}
	var peers []netip.Addr
	priority := firstPriority
	for _, server := range p.APIServers {
		if server.Address.Addr() == n.AdvertiseAddress() {
			priority -= len(peers)
			continue
		}
		peers = append(peers, server.Address.Addr())
	}
	virtual, err := manifests.Keepalived(p, nodeOf(n), peers, priority)
	return append(files, virtual...), err
}

// Rebalance has a host's HAProxy send what is new to the API servers that the cluster has now, by the same means and
// without losing a connection. It is for a control plane that is set aside for a moment: all else of the load balancer
// stays. Hosts without one have nothing to do.
func Rebalance(ctx context.Context, c *cluster.Cluster, h host.Host) error {
	n := c.Node(h)
	if len(balanced(c, []*cluster.Node{n})) == 0 {
		return nil
	}
	file := manifests.HAProxyConfig(params(c))
	changes, err := diffFiles(ctx, h, []host.File{file})
	if err != nil {
		return err
	}
	if err := writeChanged(ctx, h, []host.File{file}, changes); err != nil {
		return err
	}
	return reloadBalancer(ctx, h, n, manifests.HAProxyVersion(file.Data))
}

// firstPriority is that of the control plane which holds the virtual IP while all are there; each next one has one less.
const firstPriority = 150

// versionURL is where HAProxy says which configuration it runs by.
var versionURL = fmt.Sprintf("http://127.0.0.1:%d/version", config.LoadBalancerHealthPort)

const (
	versionTimeout = 2 * time.Second
	maxVersion     = 256 // bytes; it is a checksum in hex
	reloadPatience = 15 * time.Second
)

// loadedVersion is the version of the configuration that the host's HAProxy runs by; empty when none answers.
func loadedVersion(ctx context.Context, n *cluster.Node) string {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	transport := &http.Transport{DialContext: n.Dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections() // which also ends a dial that outlives its request
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, versionURL, nil)
	if err != nil {
		return ""
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxVersion))
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return strings.TrimSpace(string(body))
}

// reloadScript has the master process of the HAProxy that reads the file $1 read it again. Its workers have the same
// command line, and a parent with it.
const reloadScript = `
runs() { [ -r "/proc/$1/cmdline" ] && tr '\0' ' ' <"/proc/$1/cmdline" | grep -q "^[^ ]*haproxy .*$file"; }
file=$1
for dir in /proc/[0-9]*; do
	pid=${dir#/proc/}
	runs "$pid" || continue
	parent=$(sed -n 's/^PPid:[[:space:]]*//p' "$dir/status" 2>/dev/null) || continue
	runs "$parent" || kill -USR2 "$pid"
done
true
`

// reloadBalancer has a running HAProxy take its new configuration, and waits until it says so. The kubelet starts one that
// does not run.
func reloadBalancer(ctx context.Context, h host.Host, n *cluster.Node, want string) error {
	if running := loadedVersion(ctx, n); running == "" || running == want {
		return ctx.Err()
	}
	if _, err := h.Run(ctx, host.Command("sh", "-c", reloadScript, "sh", manifests.HAProxyConfigPath)); err != nil {
		return fmt.Errorf("reload HAProxy: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	err := poll(waiting, func(ctx context.Context) error {
		if running := loadedVersion(ctx, n); running != want {
			return errors.New("it still runs by the old one")
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("HAProxy has not loaded %s after %s: %w%s", manifests.HAProxyConfigPath, reloadPatience, err, LastWords(ctx, h, manifests.HAProxyName))
	}
	return err
}
