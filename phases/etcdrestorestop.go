package phases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// stoppedPods are the components that must not outlive the data that they know. All start anew with the kubelet.
var stoppedPods = []string{manifests.ControllerManagerName, manifests.SchedulerName, manifests.APIServerName, manifests.EtcdName}

// runningScript prints the names of those of the components $1 whose container runs, each with the container's ID. The
// other arguments are containerd's client.
const runningScript = `
names=$1; shift
set -f
tasks=$("$@" tasks ls 2>/dev/null) || exit 0
for name in $names; do
	for id in $("$@" containers ls -q "labels.\"io.kubernetes.container.name\"==$name,labels.\"io.kubernetes.pod.namespace\"==kube-system"); do
		printf '%s\n' "$tasks" | grep -q "^$id .*RUNNING" && echo "$name $id"
	done
done
true
`

// endTaskScript ends the task of the container $1 by SIGTERM and, when it has not ended after $2 tenths of a second, by
// SIGKILL. The other arguments are containerd's client.
const endTaskScript = `
id=$1 left=$2; shift 2
runs() { "$@" tasks ls | grep -q "^$id .*RUNNING"; }
runs "$@" || exit 0
"$@" tasks kill --signal SIGTERM "$id" || true
while runs "$@"; do
	[ "$left" -gt 0 ] || { "$@" tasks kill --signal SIGKILL "$id" || true; left=100; }
	left=$((left - 1))
	sleep 0.1
done
`

// How many tenths of a second components get to end by themselves. etcd closes its database in that time; the others have
// nothing to lose, and wait for an answer of etcd's that never comes when it has no quorum.
const (
	etcdEndPatience   = "200"
	clientEndPatience = "20"
)

// stopControlPlane ends the static pods of the control plane on hosts without a kubelet that would start them anew.
func stopControlPlane(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	return workflow.Phase{
		Name:  "stop-control-plane",
		Short: "end etcd, the API server and its clients",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			running, err := runningPods(ctx, c, r)
			var changes []workflow.Change
			for _, p := range running {
				changes = append(changes, workflow.Change{Action: workflow.Run, Object: p.name, Detail: "stop"})
			}
			return changes, err
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			running, err := runningPods(ctx, c, h)
			if err != nil {
				return err
			}
			var clients errgroup.Group
			for _, p := range running {
				if p.name != manifests.EtcdName {
					clients.Go(func() error { return p.end(ctx, c, h, clientEndPatience) })
				}
			}
			if err := clients.Wait(); err != nil {
				return err
			}
			for _, p := range running {
				if p.name == manifests.EtcdName {
					err = errors.Join(err, p.end(ctx, c, h, etcdEndPatience))
				}
			}
			return err
		},
	}
}

type runningPod struct{ name, id string }

func (p runningPod) end(ctx context.Context, c *cluster.Cluster, h host.Host, patience string) error {
	argv := append([]string{"sh", "-c", endTaskScript, "sh", p.id, patience}, ctr(c).Argv...)
	if _, err := h.Run(ctx, host.Command(argv...)); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	return nil
}

// runningPods are the components that run.
func runningPods(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]runningPod, error) {
	argv := append([]string{"sh", "-c", runningScript, "sh", strings.Join(stoppedPods, " ")}, ctr(c).Argv...)
	out, err := r.Query(ctx, host.Command(argv...))
	if err != nil {
		return nil, fmt.Errorf("list the control plane's containers: %w", err)
	}
	var running []runningPod
	for line := range strings.Lines(string(out)) {
		if name, id, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			running = append(running, runningPod{name, id})
		}
	}
	return running, nil
}

// stop is a phase that stops something everywhere, as long as the new data is not in place.
func (r *EtcdRestore) stop(p workflow.Phase) workflow.Phase {
	check := p.Check
	p.Check = func(ctx context.Context, reader host.Reader) ([]workflow.Change, error) {
		if done, err := r.swapped(ctx); done || err != nil {
			return nil, err
		}
		return check(ctx, reader)
	}
	return allOrNone(p)
}

// setAside takes the other control planes' members out of the way, and their static pods: what is left is a host that
// joins as any new one does. The old data is kept.
func (r *EtcdRestore) setAside() workflow.Phase {
	pods := make([]string, 0, len(stoppedPods))
	for _, name := range stoppedPods {
		pods = append(pods, manifests.StaticPodPath(name))
	}
	return allOrNone(workflow.Phase{
		Name:  "set-aside",
		Short: "set the other members' data aside",
		Hosts: cluster.Hosts(r.Others),
		Check: func(ctx context.Context, reader host.Reader) ([]workflow.Change, error) {
			if done, err := r.swapped(ctx); done || err != nil {
				return nil, err
			}
			dir := r.dataDir(r.c.Node(reader))
			infos, err := reader.Stat(ctx, append(slices.Clone(pods), dir+"/member")...)
			var changes []workflow.Change
			for _, info := range infos {
				switch {
				case !info.Exists:
				case slices.Contains(pods, info.Path):
					changes = append(changes, workflow.Change{Action: workflow.Delete, Object: info.Path})
				default:
					changes = append(changes, workflow.Change{Action: workflow.Update, Object: info.Path, Detail: "move it to " + asidePrefix + "..."})
				}
			}
			return changes, err
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			if err := h.Remove(ctx, pods...); err != nil {
				return err
			}
			dir := r.dataDir(r.c.Node(h))
			if !hasObject(changes, dir+"/member") {
				return nil
			}
			return move(ctx, h, dir+"/member", aside(dir, r.c.Now()))
		},
	})
}

// startKubelet starts what stop-kubelet has stopped.
func startKubelet(n *cluster.Node) workflow.Phase {
	kubelet := unit{name: "kubelet.service", files: []string{config.KubeletConfigFile}}
	return workflow.Phase{
		Name:  "start-kubelet",
		Short: "start the kubelet",
		Hosts: cluster.Hosts([]*cluster.Node{n}),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) { return diffUnit(ctx, r, kubelet) },
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error { return startUnit(ctx, h, kubelet) },
	}
}

// allOrNone makes of a phase on hosts one on the cluster: when it fails on one of them, nothing that follows is done on any.
func allOrNone(p workflow.Phase) workflow.Phase {
	one := p
	p.Hosts = nil
	p.Check = func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
		found := make([][]workflow.Change, len(one.Hosts))
		err := onEach(one.Hosts, func(i int, h host.Host) (err error) {
			found[i], err = one.Check(ctx, h)
			for j := range found[i] {
				found[i][j].Object = h.Name() + ": " + found[i][j].Object
			}
			return err
		})
		return slices.Concat(found...), err
	}
	p.Apply = func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
		return onEach(one.Hosts, func(_ int, h host.Host) error {
			changes, err := one.Check(ctx, h)
			if err != nil || len(changes) == 0 {
				return err
			}
			return one.Apply(ctx, h, changes)
		})
	}
	return p
}

// onEach does something on all hosts at once.
func onEach(hosts []host.Host, do func(i int, h host.Host) error) error {
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			if err := do(i, h); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.Name(), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
