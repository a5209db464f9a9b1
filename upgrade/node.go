package upgrade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// ControlPlanes replaces what control planes run, one control plane at a time. A control plane that does not come back is
// put back as it was, and the others are left alone.
func ControlPlanes(c *cluster.Cluster, nodes []*cluster.Node, opts Options) workflow.Phase {
	var first *cluster.Node
	if len(nodes) > 0 {
		first = nodes[0]
	}
	p := nodePhase(c, nodes, first, opts)
	p.Name, p.Short, p.Parallel = "control-planes", "replace what the control planes run", 1
	return p
}

// Workers replaces the kubelets of workers, and their runtimes where myadm brought them, as many at a time as may be
// unavailable.
func Workers(c *cluster.Cluster, nodes []*cluster.Node, opts Options) workflow.Phase {
	p := nodePhase(c, nodes, nil, opts)
	p.Name, p.Short, p.Parallel = "workers", "replace what the workers run", opts.atOnce(len(nodes))
	return p
}

// nodePhase takes hosts to another version, and with opts.Document also to what else the document says. first is the control
// plane that all others have their PKI from; workers need none.
func nodePhase(c *cluster.Cluster, nodes []*cluster.Node, first *cluster.Node, opts Options) workflow.Phase {
	if opts.Document {
		return replacing(c, nodes, opts, withBinaries(c, byDocument(c, nodes, first)))
	}
	return replacing(c, nodes, opts, func(ctx context.Context, r host.Reader) (machine, error) { return look(ctx, c, r) })
}

// replacing is the phase that makes of hosts what look says that they are to be.
func replacing(c *cluster.Cluster, nodes []*cluster.Node, opts Options, look surveyor) workflow.Phase {
	return workflow.Phase{
		Hosts:    cluster.Hosts(nodes),
		FailFast: true,
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			m, err := look(ctx, r)
			if err != nil {
				return nil, err
			}
			if changes := m.changes(); len(changes) > 0 {
				if err := phases.ShowFiles(ctx, r, changes, m.manifests()...); err != nil {
					return nil, err
				}
				if !m.stays {
					changes = append(changes, workflow.Change{Action: workflow.Run, Object: "Node " + c.Node(r).Spec.Name, Detail: "drain, start in the new version, uncordon"})
				}
				return changes, nil
			}
			return unsettled(ctx, c, c.Node(r), m)
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) (err error) {
			n := c.Node(h)
			m, err := look(ctx, h)
			if err != nil {
				return err
			}
			if len(m.pods) > 0 {
				defer func() {
					if err != nil {
						err = errors.Join(err, returnToEndpoint(ctx, c))
					}
				}()
			}
			var ended tenures
			if !m.upgrades && !wasReady(ctx, c, n) {
				silent, err := mute(ctx, c, n, m)
				if err != nil {
					return err
				}
				m.unready = !silent // else it may be the kubelet of an earlier run that is to blame
			}
			if len(m.changes()) > 0 {
				ended, err = replace(ctx, c, n, m, opts)
				m.replaced = true
				var sick *illError
				if errors.As(err, &sick) {
					return putBack(ctx, c, n, m, sick, opts)
				}
				if err != nil {
					return err
				}
			}
			return settle(ctx, c, n, m, ended, opts)
		},
	}
}

// unsettled is what is left to do on a host on which everything is in place.
func unsettled(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine) ([]workflow.Change, error) {
	want := m.wanted(c)
	found, err := ill(ctx, c, n, want)
	if err == nil && len(found) > 0 { // one answer that came too late is no illness
		found, err = ill(ctx, c, n, want)
	}
	if err != nil {
		return nil, err
	}
	var changes []workflow.Change
	for _, name := range slices.Sorted(maps.Keys(found)) {
		changes = append(changes, workflow.Change{Action: workflow.Run, Object: name, Detail: found[name]})
	}
	if !m.upgrades {
		silent, err := mute(ctx, c, n, m)
		if silent {
			changes = append(changes, workflow.Change{Action: workflow.Run, Object: "Node " + n.Spec.Name, Detail: "wait until its kubelet reports"})
		}
		return changes, err // all else of its Node is other phases' business
	}
	object := "Node " + n.Spec.Name
	client, err := c.Kube(ctx)
	if err != nil {
		return nil, err
	}
	node, err := kube.Get[corev1.Node](ctx, client, kube.Ref{APIVersion: "v1", Kind: "Node", Name: n.Spec.Name})
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return append(changes, workflow.Change{Action: workflow.Run, Object: object, Detail: "wait until it is Ready"}), nil
	}
	if why := nodeMissing(node, want[kubelet], time.Time{}); why != "" {
		changes = append(changes, workflow.Change{Action: workflow.Run, Object: object, Detail: "wait: " + why})
	}
	if Cordoned(node) {
		changes = append(changes, workflow.Change{Action: workflow.Run, Object: object, Detail: "uncordon"})
	}
	return changes, nil
}

// replace takes a node out of service, replaces what changes, and judges what has come of it. What does not become healthy
// is put back, and the error says why. It returns the leases of leaders that it has ended and that are still theirs.
func replace(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine, opts Options) (ended tenures, err error) {
	if err := requireImages(ctx, c, n, m); err != nil {
		return nil, err
	}
	if err := requireStaged(ctx, n, m); err != nil {
		return nil, err
	}
	if m.still() {
		return nil, m.write(ctx, n)
	}
	if len(m.pieces) > 0 {
		if err := forget(ctx, c, n, m); err != nil {
			return nil, err
		}
	}
	if m.enable {
		if err := phases.EnableKubelet(ctx, n); err != nil {
			return nil, err
		}
	}
	e, files := m.exchange()
	if len(m.pods) > 0 { // from here on the cluster is reached through other control planes
		c.SetAside(n)
		defer c.TakeBack()
	}
	client, err := c.Kube(ctx)
	if err != nil {
		return nil, err
	}
	if !m.stays {
		if err := empty(ctx, client, n, opts); err != nil {
			return nil, err
		}
	}
	stopped := false
	defer func() {
		if err != nil && !stopped { // all of it runs as before, and pods may come back
			err = errors.Join(err, giveBack(ctx, client, n))
		}
	}()
	if m.moves(manifests.EtcdName) {
		alone, err := lone(ctx, c, n)
		if err != nil {
			return nil, err
		}
		if alone {
			dir := c.Config.Spec.Etcd.DataDir
			if err := n.Remove(ctx, etcdCopy(dir)); err != nil { // of an earlier run: this etcd has been given data since
				return nil, fmt.Errorf("remove an old copy of etcd's data: %w", err)
			}
			e.Data, e.CopyTo = dir+"/member", etcdCopy(dir)
		}
	}
	if slices.Contains(e.End, manifests.EtcdName) {
		if err := yield(ctx, c, n); err != nil {
			return nil, err
		}
	}
	if slices.Contains(e.End, manifests.APIServerName) {
		workflow.Tell(ctx, "take it out of the endpoint")
		if err := rebalance(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := n.WriteFiles(ctx, files...); err != nil {
		return nil, err
	}
	if len(e.End) > 0 {
		ended = heldBy(ctx, client, n.Facts.Hostname)
	}
	workflow.Tell(ctx, "replace "+strings.Join(append(e.End, kubelet), ", "))
	stopped = true
	if err := e.Run(ctx, n); err != nil {
		if _, failed := host.ExitCode(err); failed { // half-way, maybe: the host is to get back what it had
			err = &illError{Component: "the replacement", Err: err}
		}
		return nil, err
	}
	workflow.Tell(ctx, "wait until it is healthy")
	if len(c.ControlPlanes()) > 1 {
		ended.release(ctx, client)
		ended = nil
	}
	return ended, nil
}

// etcdCopy is where the data of a lone member is kept while it is not known whether the new etcd gets on with it. It lies
// within the data folder, which may be a file system of its own; etcd leaves alone what it does not know there.
func etcdCopy(dataDir string) string { return dataDir + "/member.myadm-previous" }

// settle waits until a host runs what it should, and puts it back into service. What does not become healthy is put back
// as it was, if that was kept. What becomes healthy stays: what was kept is removed, so that no later run puts it back for
// another reason. ended are the leases of leaders that have ended on it.
func settle(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine, ended tenures, opts Options) error {
	err := arrive(ctx, c, n, m, m.wanted(c), ended, opts)
	var sick *illError
	if errors.As(err, &sick) {
		return putBack(ctx, c, n, m, sick, opts)
	}
	if err != nil {
		return err
	}
	kept := m.keeps()
	if !m.upgrades {
		kept = []string{folder} // there is nothing in it that a run to come would need
	}
	if err := n.Remove(ctx, kept...); err != nil {
		return fmt.Errorf("remove what was kept to go back: %w", err)
	}
	return nil
}

// arrive waits until the programs of a node are healthy and its kubelet says so, and lets pods come to it again.
func arrive(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine, want map[string]string, ended tenures, opts Options) error {
	if err := judge(ctx, c, n, want, opts.Patience); err != nil {
		return err
	}
	if hasStackedEtcd(c, n) {
		if err := forgetEtcd(ctx, c, n); err != nil {
			return err
		}
	}
	if n.Spec.HasRole(config.RoleControlPlane) {
		c.TakeBack()
		if err := rebalance(ctx, c); err != nil {
			return err
		}
	}
	client, err := c.Kube(ctx)
	if err != nil {
		return err
	}
	ended.release(ctx, client)
	if !m.unready {
		since, err := m.started(ctx, n)
		if err != nil {
			return err
		}
		if err := waitNode(ctx, client, n, want[kubelet], since, opts.Patience); err != nil {
			return err
		}
	}
	if !m.upgrades {
		return nil
	}
	return Uncordon(ctx, client, n.Spec.Name)
}

// empty has a node's pods go elsewhere, where there is an elsewhere. A node that cannot be emptied gets its pods back.
func empty(ctx context.Context, client *kube.Client, n *cluster.Node, opts Options) error {
	nodes, err := kube.List[corev1.Node](ctx, client, kube.Selector{APIVersion: "v1", Kind: "Node"})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(nodes, func(o *corev1.Node) bool { return o.Name != n.Spec.Name && takesPods(o) }) {
		workflow.Tell(ctx, "leave the pods where they are: no other node would take them")
		return nil
	}
	workflow.Tell(ctx, "drain")
	if err := Cordon(ctx, client, n.Spec.Name); err != nil {
		return err
	}
	err = Drain(ctx, client, n.Spec.Name, opts.Drain)
	if err != nil {
		err = errors.Join(err, giveBack(ctx, client, n))
	}
	return err
}

// giveBack lets pods come again to a node that was not changed, also when its host is gone. A run that was told to stop
// leaves that to the next one.
func giveBack(ctx context.Context, client *kube.Client, n *cluster.Node) error {
	if ctx.Err() != nil && n.Alive().Err() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnPatience)
	defer cancel()
	return Uncordon(ctx, client, n.Spec.Name)
}

// takesPods tells whether pods of users can go to a node.
func takesPods(node *corev1.Node) bool {
	ready, _ := kube.NodeReady(node)
	return ready && !node.Spec.Unschedulable && !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	})
}

// rebalance has the load balancers of all nodes follow the API servers that are in service, all at once. A host that
// cannot be told finds out by itself when the API server is gone.
func rebalance(ctx context.Context, c *cluster.Cluster) error {
	var g errgroup.Group
	for _, n := range c.Nodes {
		g.Go(func() error {
			if err := phases.Rebalance(ctx, c, n); err != nil && ctx.Err() == nil {
				workflow.Warn(ctx, fmt.Sprintf("%s: its load balancer was not told: %v", n.Name(), err))
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// returnPatience is how long a run that was stopped may take to leave the load balancers as it found them.
const returnPatience = 5 * time.Second

// returnToEndpoint has the load balancers send requests to all API servers again, also when the run was stopped: they find
// out by themselves which ones answer.
func returnToEndpoint(ctx context.Context, c *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnPatience)
	defer cancel()
	return rebalance(ctx, c)
}

// requireStaged refuses to stop what runs while a binary that is to take a place is not on the host.
func requireStaged(ctx context.Context, n *cluster.Node, m machine) error {
	if len(m.stale) == 0 {
		return nil
	}
	paths := make([]string, len(m.stale))
	for i, b := range m.stale {
		paths[i] = b.staged
	}
	infos, err := n.Stat(ctx, paths...)
	if err != nil {
		return err
	}
	for i, info := range infos {
		if !info.Exists {
			return fmt.Errorf("%s %s has not been brought to the host; hint: let the phase binaries run too", m.stale[i].Name, m.stale[i].Version)
		}
	}
	return nil
}

// requireImages refuses to stop what runs while an image of what is to run is not on the host. A runtime that is no
// containerd is not asked.
func requireImages(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine) error {
	have, known, err := phases.HostImages(ctx, c, n)
	if err != nil || !known {
		return err
	}
	var missing []string
	for _, p := range m.pods {
		if _, ok := have[p.image]; p.changes() && !ok {
			missing = append(missing, p.image)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the host has no image %s; hint: --bundle with a bundle of %s, or pull it there", strings.Join(missing, ", "), c.Config.Spec.KubernetesVersion)
	}
	return nil
}
