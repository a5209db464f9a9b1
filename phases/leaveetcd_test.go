package phases

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// stack is a cluster whose control planes have real members of etcd.
type stack struct {
	*realm
	members []*etcdtest.Member

	mu      sync.Mutex
	dialled []string
}

func newStack(t *testing.T, names ...string) *stack {
	t.Helper()
	c, machines := testCluster(t, names...)
	s := &stack{realm: &realm{Cluster: c, machines: machines, api: kubetest.NewServer(t)}}
	all := etcdtest.NewTLS(t)
	all.Tune = func(cfg *embed.Config) { cfg.StrictReconfigCheck = false } // or it would want to see its members connected for a while
	for i, n := range c.Nodes {
		m := all.Member(n.Spec.Name)
		if i == 0 {
			m.Start()
		} else {
			promoted(t, s.members[0], m, s.members[1:]...)
		}
		s.members = append(s.members, m)
		n.Spec.Roles, n.Spec.Address, n.Spec.AdvertiseAddress = []config.Role{config.RoleControlPlane}, m.Address.String(), m.Address.String()
		c.Config.Spec.Hosts[i] = n.Spec
		for path, data := range m.PKI() {
			machines[i].touch(path, 0o600, string(data))
		}
		for _, name := range []string{config.AdminConf, config.SuperAdminConf} {
			machines[i].touch(name, 0o600, string(s.api.Kubeconfig()))
		}
		machines[i].OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.dialled = append(s.dialled, address)
			return new(net.Dialer).DialContext(ctx, network, address)
		})
		s.api.Put(t, nodeAt(n.Spec.Name, n.Spec.AdvertiseAddress))
	}
	run(t, UploadConfig(c))
	s.Cluster = &cluster.Cluster{Config: c.Config, Nodes: c.Nodes, Bundle: c.Bundle, Now: c.Now}
	t.Cleanup(func() { s.Close() })
	for _, m := range machines {
		m.ResetRecord()
	}
	return s
}

// stop ends a member as a power loss does.
func (s *stack) stop(names ...string) {
	for _, m := range s.members {
		if slices.Contains(names, m.Name) {
			m.Stop()
		}
	}
}

// known are the members that one of them knows of, and who leads them.
func (s *stack) known(t *testing.T, of int) (names []string, leader string) {
	t.Helper()
	client := etcdClient(t, s.members[of])
	members, err := client.KnownMembers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	status, err := client.Status(t.Context(), s.members[of].ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		names = append(names, m.String())
		if m.ID == status.Leader {
			leader = m.Name
		}
	}
	slices.Sort(names)
	return names, leader
}

func (s *stack) wantMembers(t *testing.T, want ...string) {
	t.Helper()
	of := slices.IndexFunc(s.members, func(m *etcdtest.Member) bool { return m.Name == want[0] })
	if got, _ := s.known(t, of); !slices.Equal(got, want) {
		t.Errorf("the members are %q, want %q", got, want)
	}
}

func (s *stack) wantCleaned(t *testing.T, names ...string) {
	t.Helper()
	for _, m := range s.machines {
		if cleaned := len(m.Paths(config.KubernetesDir)) == 0; cleaned != slices.Contains(names, m.Name()) {
			t.Errorf("%s is cleaned: %t", m.Name(), cleaned)
		}
	}
}

// lead makes a member the leader.
func (s *stack) lead(t *testing.T, i int) {
	t.Helper()
	if err := etcdClient(t, s.members[i]).MoveLeader(t.Context(), s.members[i].ID()); err != nil {
		t.Fatal(err)
	}
}

func TestMembersLeaveOneAfterTheOther(t *testing.T) {
	t.Parallel()
	s := newStack(t, "cp-1", "cp-2", "cp-3")
	s.lead(t, 2)
	l := s.leave(t, s.specs("cp-2", "cp-3"), false)
	p := LeaveEtcd(l)
	if diff := cmp.Diff([]string{"delete etcd member cp-2", "delete etcd member cp-3"}, check(t, p, nil)); diff != "" {
		t.Errorf("the one that leads is not the last (-want +got):\n%s", diff)
	}
	var warnings []string
	runner := workflow.Runner{Report: serial(func(e workflow.Event) {
		if e.Kind == workflow.Warning {
			warnings = append(warnings, e.Message)
		}
	})}
	if _, err := runner.Run(t.Context(), l.Steps()...); err != nil {
		t.Fatal(err)
	}
	s.wantMembers(t, "cp-1")
	s.wantCleaned(t, "cp-2", "cp-3")
	if len(warnings) > 0 { // as it would be if the leader could not hand over
		t.Errorf("warnings %q", warnings)
	}
	if s.api.Object(nodeRef("cp-1")) == nil || s.api.Object(nodeRef("cp-2")) != nil || s.api.Object(nodeRef("cp-3")) != nil {
		t.Error("the wrong Nodes are left")
	}
	if summary := run(t, s.leave(t, s.Leaving, false).Steps()...); summary.Changes != 0 {
		t.Errorf("once more makes %d changes", summary.Changes)
	}
}

// A host that is gone is not asked for anything, and neither is its member.
func TestMemberOfAHostThatIsGone(t *testing.T) {
	t.Parallel()
	s := newStack(t, "cp-1", "cp-2", "cp-3")
	s.stop("cp-2")
	gone := s.lose(false, "cp-2")
	gone[0].Address, gone[0].AdvertiseAddress = "cp-2.example", ""
	s.Config.Spec.Hosts[1] = gone[0]
	s.machines[1].Lose(errors.New("it was asked"))
	s.dialled = nil
	run(t, s.leave(t, gone, false).Steps()...)
	s.wantMembers(t, "cp-1", "cp-3")
	if dead := s.members[1].Address.String(); slices.ContainsFunc(s.dialled, func(a string) bool { return strings.HasPrefix(a, dead+":") }) {
		t.Errorf("its member was asked: %q", s.dialled)
	}
	if s.api.Object(nodeRef("cp-2")) != nil {
		t.Error("its Node is left")
	}
}

// A host that was to join and never did has a learner without a name.
func TestLearnerThatWasNeverStarted(t *testing.T) {
	t.Parallel()
	s := newStack(t, "cp-1", "cp-2")
	joiner, _ := testCluster(t, "x", "y", "cp-3")
	n := joiner.Nodes[2]
	n.Spec.Roles = []config.Role{config.RoleControlPlane}
	s.Nodes, s.Config.Spec.Hosts = append(s.Nodes, n), append(s.Config.Spec.Hosts, n.Spec)
	if _, err := etcdClient(t, s.members[0]).AddLearner(t.Context(), "https://10.0.0.3:2380"); err != nil {
		t.Fatal(err)
	}
	run(t, s.leave(t, []config.Host{n.Spec}, false).Steps()...)
	s.wantMembers(t, "cp-1", "cp-2")
}

func TestLeavingWouldBreakQuorum(t *testing.T) {
	t.Parallel()
	s := newStack(t, "cp-1", "cp-2", "cp-3")
	s.stop("cp-3")
	s.lose(true, "cp-3")
	hosts, version := s.Config.Spec.Hosts, s.api.Version()
	_, err := NewLeave(t.Context(), s.Cluster, s.specs("cp-2"), false)
	var refused *etcd.QuorumError
	if !errors.As(err, &refused) || !refused.After || !strings.HasSuffix(err.Error(), "; hint: start the members that are down first, or: --force cleans cp-2 whatever becomes of the cluster") {
		t.Fatalf("got %v", err)
	}
	if m := s.machines[1]; len(m.Writes())+len(m.Removed())+len(m.Runs()) > 0 || s.api.Version() != version {
		t.Fatal("something was changed")
	}

	s.Config.Spec.Hosts = hosts
	l := s.leave(t, s.specs("cp-2"), true)
	if len(l.Warnings) != 2 || !strings.HasPrefix(l.Warnings[0], "etcd member cp-2 stays in the list, and etcd loses its quorum") {
		t.Errorf("warnings %q", l.Warnings)
	}
	run(t, l.Steps()...)
	s.wantMembers(t, "cp-1", "cp-2", "cp-3")
	s.wantCleaned(t, "cp-2")
	if s.api.Object(nodeRef("cp-2")) != nil {
		t.Error("its Node is left")
	}
}

// Without a quorum nothing can be taken out of the cluster. By force, a host can be cleaned all the same.
func TestLeavingWithoutQuorum(t *testing.T) {
	t.Parallel()
	s := newStack(t, "cp-1", "cp-2")
	hosts := s.Config.Spec.Hosts
	s.stop("cp-2")
	for _, force := range []bool{false, true} { // what is gone is not cleaned either
		all := s.Nodes
		gone := s.lose(false, "cp-2")
		_, err := NewLeave(t.Context(), s.Cluster, gone, force)
		var refused *etcd.QuorumError
		if !errors.As(err, &refused) || refused.After || !strings.HasSuffix(err.Error(), "see myadm etcd restore") {
			t.Errorf("force %t: got %v", force, err)
		}
		s.Nodes, s.Config.Spec.Hosts = all, hosts
	}
	version := s.api.Version()
	l := s.leave(t, s.specs("cp-2"), true)
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "etcd has no quorum: 0 of 2 voting members alive") {
		t.Errorf("warnings %q", l.Warnings)
	}
	run(t, l.Steps()...)
	s.wantMembers(t, "cp-1", "cp-2")
	s.wantCleaned(t, "cp-2")
	if s.api.Version() != version {
		t.Error("the API was told something")
	}
}

// A control plane that is named without a document is known by what is on it, and leaves through itself.
func TestMemberLeavesThroughItself(t *testing.T) {
	t.Parallel()
	s := newStack(t, "cp-1", "cp-2")
	s.lose(false, "cp-1")
	s.Nodes[0].Spec.Roles = []config.Role{config.RoleWorker}
	s.machines[1].touch(manifests.StaticPodPath(manifests.EtcdName), 0o600, "")
	s.Config.Spec.Hosts = []config.Host{s.Nodes[0].Spec}
	s.lead(t, 1)
	l := s.leave(t, s.specs("cp-2"), false)
	run(t, l.Steps()...)
	s.wantMembers(t, "cp-1")
	s.wantCleaned(t, "cp-2")
	if len(l.Warnings) > 0 || s.api.Object(nodeRef("cp-2")) != nil {
		t.Errorf("its Node is left, or there are warnings: %q", l.Warnings)
	}
}

// The last one ends the cluster: on purpose when nothing else is named, and by force when the document has others that
// never joined.
func TestLastMember(t *testing.T) {
	t.Parallel()
	s := newStack(t, "cp-1")
	other := config.Host{Name: "cp-2", Address: "10.0.0.2", AdvertiseAddress: "10.0.0.2", Roles: []config.Role{config.RoleControlPlane}}
	leaving := s.specs("cp-1")
	both := []config.Host{leaving[0], other}
	s.Config.Spec.Hosts = both
	_, err := NewLeave(t.Context(), s.Cluster, leaving, false)
	if err == nil || !strings.Contains(err.Error(), "etcd member cp-1 is the only one that votes") {
		t.Errorf("got %v", err)
	}
	for name, named := range map[string][]config.Host{"by force": both, "on purpose": leaving} {
		s.Config.Spec.Hosts = named
		l := s.leave(t, leaving, len(named) == 2)
		if phases := l.Steps(); len(phases) != 2 || len(l.Warnings) > 0 {
			t.Errorf("%s: there is more to do than to clean: %v, %q", name, phases, l.Warnings)
		}
	}
	s.stop("cp-1") // as on a control plane that was never finished
	s.Config.Spec.Hosts = leaving
	l := s.leave(t, leaving, false)
	if len(l.Warnings) != 1 || !strings.HasPrefix(l.Warnings[0], "etcd does not answer, and may keep a member of cp-1: ") {
		t.Errorf("warnings %q", l.Warnings)
	}
	run(t, l.Steps()...)
	s.wantCleaned(t, "cp-1")
}

// Dead members and learners go first, and the leader last: so etcd always does as well as it can.
func TestOrderInWhichMembersLeave(t *testing.T) {
	member := func(id uint64, learner bool) etcd.Member { return etcd.Member{ID: id, Name: "m", Learner: learner} }
	m := membership{
		members: []etcd.Member{member(1, false), member(2, false), member(3, false), member(4, true), member(5, false)},
		alive:   map[uint64]bool{1: true, 2: true, 4: true, 5: true}, leader: 1,
		applied: map[uint64]uint64{1: 9, 2: 7, 5: 8},
	}
	m.leaving = slices.Clone(m.members[:4])
	slices.SortStableFunc(m.leaving, func(a, b etcd.Member) int { return m.worth(a) - m.worth(b) })
	var order []uint64
	for _, o := range m.leaving {
		order = append(order, o.ID)
	}
	if want := []uint64{4, 3, 2, 1}; !slices.Equal(order, want) {
		t.Errorf("they go in the order %v, want %v", order, want)
	}
	if err := m.removable(); err != nil {
		t.Error(err)
	}
	if m.heir() != 5 || !m.lasts() {
		t.Errorf("the heir is %d", m.heir())
	}
	m.leaving = append(m.leaving[:2], m.members[4])
	if m.heir() != 1 {
		t.Errorf("of those that stay, %d leads on", m.heir())
	}
}

// A member is a host's by its name or by its address, and never when another host of the document is there.
func TestOwnerOfAMember(t *testing.T) {
	l := &Leave{c: &cluster.Cluster{
		Config: &config.Cluster{Spec: config.Spec{Hosts: []config.Host{{Name: "cp-4", AdvertiseAddress: "10.0.0.4"}, {Name: "cp-5", Address: "cp-5.example"}}}},
		Leaving: []config.Host{
			{Name: "cp-1", Address: "cp-1.example"}, {Name: "cp-2", Address: "203.0.113.2", AdvertiseAddress: "fd00::2"}, {Name: "cp-3", Address: "10.0.0.3"},
		},
	}}
	for _, tt := range []struct {
		member etcd.Member
		want   string // empty: nobody
	}{
		{etcd.Member{Name: "cp-1", PeerURLs: []string{"https://10.0.0.1:2380"}}, "cp-1"},
		{etcd.Member{PeerURLs: []string{"https://10.0.0.1:2380"}}, ""},
		{etcd.Member{PeerURLs: []string{"https://[fd00:0::2]:2380"}}, "cp-2"},
		{etcd.Member{Name: "old", PeerURLs: []string{"https://10.0.0.3:2380"}}, "cp-3"},
		{etcd.Member{Name: "cp-3", PeerURLs: []string{"https://10.0.0.4:2380"}}, ""},
		{etcd.Member{Name: "cp-5", PeerURLs: []string{"https://cp-5.example:2380"}}, ""},
		{etcd.Member{}, ""},
	} {
		got := ""
		if h := l.owner(tt.member); h != nil {
			got = h.Name
		}
		if got != tt.want {
			t.Errorf("%+v is %q's, want %q", tt.member, got, tt.want)
		}
	}
}
