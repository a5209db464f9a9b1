package phases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// EtcdClient gives the etcd of a cluster that a control plane joins.
type EtcdClient func(ctx context.Context) (*etcd.Client, error)

// EtcdJoin makes every host's etcd a voting member: as a learner first, promoted when it has caught up. What an earlier
// run, or an earlier host of the name, has left behind is cleared, and there is never a second member for a host. Hosts
// take turns only for what etcd must see one after the other. Where etcd is external there is nothing to join.
func EtcdJoin(c *cluster.Cluster, nodes []*cluster.Node, connect EtcdClient, patience time.Duration) workflow.Phase {
	if c.Config.Spec.Etcd.External != nil {
		nodes = nil
	}
	j := &etcdJoin{cluster: c, connect: connect}
	return workflow.Phase{
		Name:  "etcd-join",
		Short: "make etcd's members voting ones",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			return atOnce(ctx,
				func(ctx context.Context) ([]workflow.Change, error) {
					return diffFolder(ctx, r, c.Config.Spec.Etcd.DataDir, etcdDataMode)
				},
				func(ctx context.Context) ([]workflow.Change, error) {
					steps, _, err := j.plan(ctx, r, false)
					var unavailable *etcdUnavailable
					if errors.As(err, &unavailable) && ctx.Err() == nil {
						return []workflow.Change{{Action: workflow.Create, Object: memberObject(c.Node(r)), Detail: "once etcd answers"}}, nil
					}
					if err != nil {
						return nil, err
					}
					if changes := memberChanges(c, c.Node(r), steps); len(changes) > 0 {
						return changes, nil
					}
					return diffRendered(ctx, r, etcdPod(c))
				},
			)
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			if err := makeFolder(ctx, h, c.Config.Spec.Etcd.DataDir, etcdDataMode, changes); err != nil {
				return err
			}
			waiting, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			if err := j.join(waiting, h); err != nil {
				if waiting.Err() != nil && ctx.Err() == nil {
					return fmt.Errorf("after %s: %w%s", patience, err, LastWords(ctx, h, manifests.EtcdName))
				}
				return err
			}
			return writeRendered(ctx, h, etcdPod(c), changes)
		},
	}
}

// etcdJoin is the phase's state of one run.
type etcdJoin struct {
	cluster *cluster.Cluster
	connect EtcdClient
	turn    sync.Mutex // held by the host that changes the members, until its learner is promoted
}

// etcdUnavailable is an etcd that does not answer, or not yet.
type etcdUnavailable struct{ error }

func (e *etcdUnavailable) Unwrap() error { return e.error }

// learnerPatience is how long the learner of a host that is not ours may be dead before it is taken for one that nobody
// will start: more than the kubelet and etcd need to start it.
const learnerPatience = 30 * time.Second

// startPatience is how long a member of which the host has data already may take to tell etcd its name.
const startPatience = 20 * time.Second

// join takes one host's member to where it votes.
func (j *etcdJoin) join(ctx context.Context, h host.Host) error {
	began := time.Now()
	var final error // what no further attempt can change
	err := poll(ctx, func(ctx context.Context) error {
		j.turn.Lock() // given back after every attempt: what this host waits for may be another one's to do
		defer j.turn.Unlock()
		steps, members, err := j.plan(ctx, h, time.Since(began) > learnerPatience)
		var unavailable *etcdUnavailable
		switch {
		case errors.As(err, &unavailable):
			return err
		case err != nil, steps.Done():
			final = err
			return nil
		case len(steps.WaitFor) > 0 && steps.AddLearner:
			return fmt.Errorf("etcd member %s is still a learner, and etcd takes one at a time", steps.WaitFor[0])
		case doubtful(steps) && time.Since(began) < startPatience && j.placed(ctx, h):
			return errors.New("the host's etcd has data and has not told its name yet")
		}
		if err := j.step(ctx, h, steps, members); err != nil {
			return err
		}
		return errors.New("etcd has not taken the change yet")
	})
	return cmp.Or(err, final)
}

// doubtful tells of a member that would be thrown away although the host's etcd may just be starting with it.
func doubtful(steps etcd.Steps) bool {
	return steps.RemoveData && slices.ContainsFunc(steps.Remove, func(r etcd.Removal) bool { return !r.Member.Started() })
}

// placed tells whether the host has a static pod of etcd.
func (j *etcdJoin) placed(ctx context.Context, r host.Reader) bool {
	infos, err := r.Stat(ctx, manifests.StaticPodPath(manifests.EtcdName))
	return err == nil && infos[0].Exists
}

// step does what a plan says, up to where etcd has to be asked again.
func (j *etcdJoin) step(ctx context.Context, h host.Host, steps etcd.Steps, members []etcd.Member) error {
	client, err := j.connect(ctx)
	if err != nil {
		return err
	}
	if steps.RemoveData {
		if err := j.removeData(ctx, h); err != nil {
			return err
		}
	}
	for _, r := range steps.Remove {
		if err := client.Remove(ctx, r.Member.ID); err != nil {
			return err
		}
		workflow.Warn(ctx, fmt.Sprintf("removed etcd member %s: %s", r.Member, r.Why))
		members = slices.DeleteFunc(members, func(m etcd.Member) bool { return m.ID == r.Member.ID })
	}
	own := steps.Member
	n := j.cluster.Node(h)
	if steps.AddLearner {
		if own, err = client.AddLearner(ctx, nodeOf(n).EtcdPeerURL()); err != nil {
			return err
		}
		members = append(members, own)
	}
	if steps.Start && (!own.Started() || !j.placed(ctx, h)) { // else the kubelet starts it, with the flags that it had
		if err := j.place(ctx, h, members); err != nil {
			return err
		}
	}
	if !steps.Promote {
		return nil
	}
	return client.Promote(ctx, own.ID)
}

// place writes the static pod of a member that joins those that there are.
func (j *etcdJoin) place(ctx context.Context, h host.Host, members []etcd.Member) error {
	node := nodeOf(j.cluster.Node(h))
	node.InitialCluster = nil
	for _, m := range members {
		for _, peer := range m.PeerURLs {
			member := manifests.Member{Name: m.Name, PeerURL: peer}
			if peer == node.EtcdPeerURL() {
				member.Name = node.Name
			}
			node.InitialCluster = append(node.InitialCluster, member)
		}
	}
	// In an order of its own: etcd's differs from time to time, and a pod that changes is started anew.
	slices.SortFunc(node.InitialCluster, func(a, b manifests.Member) int { return cmp.Compare(a.PeerURL, b.PeerURL) })
	pod, err := manifests.Etcd(params(j.cluster), node)
	if err != nil {
		return err
	}
	changes, err := diffFiles(ctx, h, []host.File{pod})
	if err != nil {
		return err
	}
	return writeChanged(ctx, h, []host.File{pod}, changes)
}

// endEtcdScript waits until no etcd runs with the data folder $1.
const endEtcdScript = `
runs() { for f in /proc/[0-9]*/cmdline; do tr '\0' ' ' <"$f" 2>/dev/null | grep -q -- "^etcd .*--data-dir=$dir " && return 0; done; return 1; }
dir=$1
while runs; do sleep 0.1; done
`

// removeData removes a former member's data. The kubelet ends an etcd whose static pod goes.
func (j *etcdJoin) removeData(ctx context.Context, h host.Host) error {
	dir := j.cluster.Config.Spec.Etcd.DataDir
	if err := h.Remove(ctx, manifests.StaticPodPath(manifests.EtcdName)); err != nil {
		return err
	}
	if _, err := h.Run(ctx, host.Command("sh", "-c", endEtcdScript, "sh", dir)); err != nil {
		return fmt.Errorf("wait for the end of etcd: %w", err)
	}
	return h.Remove(ctx, dir+"/member")
}

// plan asks etcd for its members and the host for its data.
func (j *etcdJoin) plan(ctx context.Context, r host.Reader, waited bool) (etcd.Steps, []etcd.Member, error) {
	client, err := j.connect(ctx)
	if err != nil {
		return etcd.Steps{}, nil, &etcdUnavailable{err}
	}
	var members []etcd.Member
	var infos []host.Info
	var g errgroup.Group
	g.Go(func() (err error) {
		if members, err = client.Members(ctx); err != nil {
			return &etcdUnavailable{err}
		}
		return nil
	})
	g.Go(func() (err error) {
		infos, err = r.Stat(ctx, j.cluster.Config.Spec.Etcd.DataDir+"/member")
		return err
	})
	if err := g.Wait(); err != nil {
		return etcd.Steps{}, nil, err
	}
	n := j.cluster.Node(r)
	steps, err := etcd.Plan(members, etcd.Alive(etcd.Observe(ctx, client, members)), etcd.Host{
		Name: n.Spec.Name, PeerURL: nodeOf(n).EtcdPeerURL(), HasData: infos[0].Exists, Waited: waited,
	})
	return steps, members, err
}

func memberObject(n *cluster.Node) string { return "etcd member " + n.Spec.Name }

// memberChanges tells the steps as changes.
func memberChanges(c *cluster.Cluster, n *cluster.Node, steps etcd.Steps) []workflow.Change {
	var changes []workflow.Change
	add := func(action workflow.Action, object, detail string) {
		changes = append(changes, workflow.Change{Action: action, Object: object, Detail: detail})
	}
	for _, r := range steps.Remove {
		add(workflow.Delete, "etcd member "+r.Member.String(), r.Why)
	}
	if steps.RemoveData {
		add(workflow.Delete, c.Config.Spec.Etcd.DataDir+"/member", "data of a member that is no more")
	}
	switch {
	case steps.AddLearner:
		add(workflow.Create, memberObject(n), "as a learner, then promote it")
	case steps.Start:
		add(workflow.Run, memberObject(n), "start it")
	case steps.Promote:
		add(workflow.Update, memberObject(n), "promote it")
	}
	return changes
}
