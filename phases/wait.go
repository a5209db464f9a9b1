package phases

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// pollEvery lies between two attempts at what cannot be watched: a server that does not answer yet.
const pollEvery = 100 * time.Millisecond

// lastWordsTimeout bounds the look at logs after something else has taken too long.
const lastWordsTimeout = 5 * time.Second

// Component is a part of the control plane and where it tells of its health, as seen from its host.
type Component struct {
	Name string
	url  func(c *cluster.Cluster, n *cluster.Node) string
}

// Components are those that run on every control plane, in the order in which they come up. etcd and the API server must
// be ready. Of the two that are their clients it is enough that they live, as for kubeadm: what makes them ready is a list
// that the API server may have refused while it started, and that they ask for again after seconds.
func Components(c *cluster.Cluster) []Component {
	all := []Component{
		{manifests.EtcdName, func(*cluster.Cluster, *cluster.Node) string { return "http://127.0.0.1:2381/readyz" }},
		{manifests.APIServerName, func(c *cluster.Cluster, n *cluster.Node) string {
			return "https://" + localEndpoint(c, n) + "/readyz"
		}},
		{manifests.ControllerManagerName, func(*cluster.Cluster, *cluster.Node) string { return "https://127.0.0.1:10257/healthz" }},
		{manifests.SchedulerName, func(*cluster.Cluster, *cluster.Node) string { return "https://127.0.0.1:10259/livez" }},
	}
	if c.Config.Spec.Etcd.External != nil {
		return all[1:]
	}
	return all
}

// Probe is the component's health endpoint on a node. The certificates are not looked at: the scheduler's and the
// controller manager's are self-signed, nothing but health is asked, and the way leads over the host's own connection.
func (p Component) Probe(c *cluster.Cluster, n *cluster.Node) kube.Probe {
	return kube.Probe{URL: p.url(c, n), TLS: &tls.Config{InsecureSkipVerify: true}, Dial: n.Dial}
}

// WaitAPI waits until the API server answers its administrator. It may not call itself ready yet; what is written to it
// from then on is kept, or tried again.
func WaitAPI(c *cluster.Cluster, n *cluster.Node, patience time.Duration) workflow.Phase {
	answers := func(ctx context.Context) error {
		client, err := c.Kube(ctx)
		if err != nil {
			return err
		}
		return client.Health(ctx, "/version")
	}
	return workflow.Phase{
		Name:  "wait-api",
		Short: "wait until the API server answers",
		Hosts: cluster.Hosts([]*cluster.Node{n}),
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			if answers(ctx) == nil {
				return nil, nil
			}
			return []workflow.Change{{Action: workflow.Run, Object: "kube-apiserver", Detail: "wait until it answers"}}, ctx.Err()
		},
		Apply: func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
			waiting, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			if err := poll(waiting, answers); err != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return fmt.Errorf("the API server does not answer after %s: %w%s", patience, err, LastWords(ctx, n, "kube-apiserver"))
			}
			return nil
		},
	}
}

// poll tries until try gives no error, and returns its last one when ctx ends: that of an attempt which ctx has not ended,
// if there was any, because the others do not know what is missing.
func poll(ctx context.Context, try func(ctx context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}

// WaitControlPlane waits until every component of the control plane is healthy by its own word.
func WaitControlPlane(c *cluster.Cluster, nodes []*cluster.Node, patience time.Duration) workflow.Phase {
	return workflow.Phase{
		Name:  "wait-control-plane",
		Short: "wait until the control plane is healthy",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			n, components := c.Node(r), Components(c)
			ill := make([]bool, len(components))
			var g errgroup.Group
			for i, part := range components {
				g.Go(func() error {
					ill[i] = kube.Healthy(ctx, part.Probe(c, n)) != nil
					return ctx.Err()
				})
			}
			if err := g.Wait(); err != nil {
				return nil, err
			}
			var changes []workflow.Change
			for i, part := range components {
				if ill[i] {
					changes = append(changes, workflow.Change{Action: workflow.Run, Object: part.Name, Detail: "wait until it is healthy"})
				}
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			n := c.Node(h)
			waiting, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			g, waiting := errgroup.WithContext(waiting)
			for _, part := range Components(c) {
				g.Go(func() error {
					err := kube.WaitHealthy(waiting, part.Probe(c, n))
					if errors.Is(err, context.DeadlineExceeded) {
						return fmt.Errorf("%s: %w%s", part.Name, err, LastWords(ctx, n, part.Name))
					}
					return err
				})
			}
			return g.Wait()
		},
	}
}

// lastWordsScript prints the end of the newest log of the static pod $1, and of the kubelet's.
const lastWordsScript = `
exec 2>/dev/null
log=$(ls -t /var/log/pods/kube-system_$1-*/$1/*.log | head -n 1)
[ -n "$log" ] && tail -n 5 "$log"
journalctl -u kubelet -n 5 --no-pager -o cat
true
`

// LastWords is what a component and the kubelet said last, for an error message.
func LastWords(ctx context.Context, r host.Reader, component string) string {
	ctx, cancel := context.WithTimeout(ctx, lastWordsTimeout)
	defer cancel()
	out, err := r.Query(ctx, host.Command("sh", "-c", lastWordsScript, "sh", component))
	if err != nil || len(out) == 0 {
		return "; hint: journalctl -u kubelet on the host"
	}
	return "; last log lines:\n" + strings.TrimRight(string(out), "\n")
}

// NodeReady waits until the control plane's own node is Ready.
func NodeReady(c *cluster.Cluster, n *cluster.Node, patience time.Duration) workflow.Phase {
	return workflow.Phase{
		Name:  "node-ready",
		Short: "wait until the node is Ready",
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			client, err := c.Kube(ctx)
			if errors.Is(err, cluster.ErrNoCluster) {
				return notReady(n), nil
			}
			if err != nil {
				return nil, err
			}
			ready, err := IsReady(ctx, client, n.Spec.Name, time.Time{})
			if err != nil || ready {
				return nil, err
			}
			return notReady(n), nil
		},
		Apply: func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
			client, err := c.Kube(ctx)
			if err != nil {
				return err
			}
			return WaitReady(ctx, client, n, time.Time{}, patience)
		},
	}
}

func notReady(n *cluster.Node) []workflow.Change {
	return []workflow.Change{{Action: workflow.Run, Object: "Node " + n.Spec.Name, Detail: "wait until it is Ready"}}
}

// waitScript ends when the file $1 has content.
const waitScript = `until [ -s "$1" ]; do sleep 0.1; done`

// WaitForFiles is WaitForFile for several, at the same time.
func WaitForFiles(ctx context.Context, r host.Reader, patience time.Duration, paths ...string) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, path := range paths {
		g.Go(func() error { return WaitForFile(ctx, r, path, patience) })
	}
	return g.Wait()
}

// WaitForFile waits on the host itself, in one command, until the kubelet has written a file.
func WaitForFile(ctx context.Context, r host.Reader, path string, patience time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := r.Query(waiting, host.Command("sh", "-c", waitScript, "sh", path))
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		return fmt.Errorf("the kubelet has not written %s after %s%s", path, patience, LastWords(ctx, r, "kubelet"))
	}
	return err
}
