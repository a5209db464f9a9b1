package phases

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
)

var (
	etcdPodPath = manifests.StaticPodPath(manifests.EtcdName)
	etcdData    = config.EtcdDataDir + "/member"
)

// quorum is a cluster of control planes whose etcd is real: on each machine a kubelet runs a member as long as its static
// pod is there, with the machine's data. The first one's runs from the beginning.
type quorum struct {
	t        *testing.T
	c        *cluster.Cluster
	machines []*machine
	members  []*etcdtest.Member
	client   *etcd.Client // of the first member

	mu      sync.Mutex
	running map[string]bool // by name of the member
	starts  sync.WaitGroup
	asked   int    // how often etcd was asked for
	late    func() // what happens when it is asked for the third time: by a check, and twice by the phase at work
}

// newQuorum makes one. etcd lets its members change before they have been connected for five seconds, unless it is strict,
// as it is everywhere else.
func newQuorum(t *testing.T, strict bool, names ...string) *quorum {
	c, machines := testCluster(t, names...)
	q := &quorum{t: t, c: c, machines: machines, running: map[string]bool{}}
	all := etcdtest.NewTLS(t)
	all.Tune = func(cfg *embed.Config) { cfg.StrictReconfigCheck = strict }
	for i, n := range c.Nodes {
		member := all.Member(n.Spec.Name)
		n.Spec.AdvertiseAddress = member.Address.String()
		c.Config.Spec.Hosts[i] = n.Spec
		q.members = append(q.members, member)
		m := machines[i]
		m.onFile = func(path string) { q.kubelet(m, member, path) }
		m.OnPrefix("sh", "-c", endEtcdScript, "sh").Changes().Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
			if q.runs(member) {
				t.Errorf("%s: etcd runs on without its static pod", member.Name)
			}
			return nil, nil
		})
	}
	q.start(machines[0], q.members[0])
	q.client = etcdClient(t, q.members[0])
	t.Cleanup(q.starts.Wait)
	return q
}

func (q *quorum) runs(member *etcdtest.Member) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running[member.Name]
}

// kubelet is what the kubelet and etcd do about a path that was written or removed.
func (q *quorum) kubelet(m *machine, member *etcdtest.Member, path string) {
	_, there := m.Get(etcdPodPath)
	switch {
	case path == etcdPodPath && there && !q.runs(member):
		q.starts.Go(func() { q.start(m, member) })
	case path == etcdPodPath && !there:
		q.starts.Wait() // etcd ends before the kubelet says that the pod is gone
		q.stop(member)
	case path == etcdData:
		if err := os.RemoveAll(member.Dir); err != nil {
			q.t.Error(err)
		}
	}
}

// start runs a member, with the members that its static pod names.
func (q *quorum) start(m *machine, member *etcdtest.Member) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m.Mkdir(etcdData, 0o700)
	file, _ := m.Get(etcdPodPath)
	named, _ := manifests.EtcdInitialCluster(file.Data)
	var others []*etcdtest.Member
	for _, o := range q.members {
		if o != member && slices.ContainsFunc(named, func(n manifests.Member) bool { return n.Name == o.Name && n.PeerURL == o.PeerURL() }) {
			others = append(others, o)
		}
	}
	member.Start(others...)
	q.running[member.Name] = true
}

func (q *quorum) stop(member *etcdtest.Member) {
	q.mu.Lock()
	defer q.mu.Unlock()
	member.Stop()
	q.running[member.Name] = false
}

// connect is what EtcdJoin asks etcd through. Whenever it does, no host has two members.
func (q *quorum) connect(ctx context.Context) (*etcd.Client, error) {
	q.mu.Lock()
	q.asked++
	if q.asked == 3 && q.late != nil {
		q.starts.Go(q.late)
	}
	q.mu.Unlock()
	members, err := q.client.Members(ctx)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, m := range members {
		for _, id := range append(slices.Clone(m.PeerURLs), m.Name) {
			if id != "" && seen[id] {
				q.t.Errorf("%s has two members: %+v", id, members)
			}
			seen[id] = true
		}
	}
	return q.client, nil
}

// votes proves that exactly the named hosts have a member, that each is alive, and that it votes.
func (q *quorum) votes(names ...string) {
	q.t.Helper()
	members, err := q.client.Members(q.t.Context())
	if err != nil {
		q.t.Fatal(err)
	}
	var got []string
	for _, o := range etcd.Observe(q.t.Context(), q.client, members) {
		got = append(got, o.Member.Name)
		if o.Member.Learner || !o.Alive() {
			q.t.Errorf("%+v is a learner or dead", o)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		q.t.Errorf("the members are %q, want %q", got, names)
	}
}

// id is the ID of a host's member; 0 when it has none.
func (q *quorum) id(i int) uint64 {
	q.t.Helper()
	members, err := q.client.Members(q.t.Context())
	if err != nil {
		q.t.Fatal(err)
	}
	for _, m := range members {
		if slices.Contains(m.PeerURLs, q.members[i].PeerURL()) {
			return m.ID
		}
	}
	return 0
}
