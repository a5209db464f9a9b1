package phases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// etcdClient is a client of a member.
func etcdClient(t testing.TB, m *etcdtest.Member) *etcd.Client {
	t.Helper()
	client, err := etcd.Connect(etcd.Options{Endpoints: []string{m.ClientURL()}, TLS: m.ClientTLS()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// promoted makes a member a voting one, beside those that there are.
func promoted(t testing.TB, one, m *etcdtest.Member, others ...*etcdtest.Member) {
	t.Helper()
	client := etcdClient(t, one)
	added, err := client.AddLearner(context.Background(), m.PeerURL())
	if err != nil {
		t.Fatal(err)
	}
	m.Start(append(others, one)...)
	if err := client.Promote(context.Background(), added.ID); err != nil {
		t.Fatal(err)
	}
}

// join is the phase for the hosts after the first.
func (q *quorum) join() workflow.Phase {
	return EtcdJoin(q.c, q.c.Nodes[1:], q.connect, time.Minute)
}

func TestEtcdJoinMakesVotersOfAll(t *testing.T) {
	t.Parallel()
	q := newQuorum(t, true, "cp-1", "cp-2", "cp-3")
	p := q.join()
	want := []string{"create " + config.EtcdDataDir, "create etcd member cp-2"}
	if diff := cmp.Diff(want, check(t, p, q.c.Nodes[1])); diff != "" {
		t.Errorf("on a blank host (-want +got):\n%s", diff)
	}
	run(t, p) // both at the same time
	q.votes("cp-1", "cp-2", "cp-3")
	for _, n := range q.c.Nodes[1:] {
		settled(t, p, n)
	}
	// Whoever came first knew of two members, the other of three; and neither forgets it.
	var sizes []int
	for _, m := range q.machines[1:] {
		named, existing := manifests.EtcdInitialCluster(content(t, m, etcdPodPath))
		if !existing {
			t.Errorf("%s: etcd was to begin a cluster", m.Name())
		}
		sizes = append(sizes, len(named))
		if file, _ := m.Get(etcdPodPath); file.Mode != 0o600 {
			t.Errorf("%s: the static pod has mode %04o", m.Name(), file.Mode)
		}
	}
	slices.Sort(sizes)
	if !slices.Equal(sizes, []int{2, 3}) {
		t.Errorf("the static pods name %d members", sizes)
	}
}

// lives are what a host may have been through before it joins.
var lives = []struct {
	name    string
	before  func(t *testing.T, q *quorum)
	keeps   bool     // its member goes on
	removed []string // from the host
	warning string   // a part of the only one; empty: there is none
}{
	{"the run before was killed when the learner was added", func(t *testing.T, q *quorum) { q.added(t) }, true, nil, ""},
	{"the run before was killed when the static pod was there", func(t *testing.T, q *quorum) {
		q.added(t)
		q.placed(t)
		q.late = func() { q.start(q.machines[1], q.members[1]) }
	}, true, nil, ""},
	{"the run before was killed when etcd was about to tell its name", func(t *testing.T, q *quorum) {
		q.added(t)
		q.placed(t)
		q.machines[1].Mkdir(etcdData, 0o700)
		q.late = func() { q.start(q.machines[1], q.members[1]) }
	}, true, nil, ""},
	{"the run before was killed before the promotion", func(t *testing.T, q *quorum) {
		q.added(t)
		q.placed(t)
		q.start(q.machines[1], q.members[1])
	}, true, nil, ""},
	{"it votes, and its static pod is gone", func(t *testing.T, q *quorum) {
		q.voted(t)
		promoted(t, q.members[0], q.members[2], q.members[1]) // or there is no quorum without it
		q.stop(q.members[1])
		q.machines[1].Delete(etcdPodPath)
	}, true, nil, ""},
	{"it votes, and is just being started again", func(t *testing.T, q *quorum) {
		q.voted(t)
		promoted(t, q.members[0], q.members[2], q.members[1])
		q.stop(q.members[1])
		q.late = func() { q.start(q.machines[1], q.members[1]) }
	}, true, nil, ""},
	{"it was a member, and its disk was wiped", func(t *testing.T, q *quorum) {
		q.voted(t)
		promoted(t, q.members[0], q.members[2], q.members[1]) // or there is no quorum to remove it with
		q.stop(q.members[1])
		q.wiped(t)
	}, false, nil, "removed etcd member cp-2: its host has lost its data"},
	{"it was a member, was removed, and has its data still", func(t *testing.T, q *quorum) {
		q.voted(t)
		if err := q.client.Remove(t.Context(), q.members[1].ID()); err != nil {
			t.Fatal(err)
		}
	}, false, []string{etcdPodPath, etcdData}, ""},
	{"it was added, and its disk holds what nobody knows", func(t *testing.T, q *quorum) {
		q.added(t)
		q.machines[1].Mkdir(etcdData, 0o700)
	}, false, []string{etcdData}, "it was not started, and its host has data of which nobody knows whose it is"},
}

// added adds the second host's member as a learner.
func (q *quorum) added(t *testing.T) {
	t.Helper()
	if _, err := q.client.AddLearner(t.Context(), q.members[1].PeerURL()); err != nil {
		t.Fatal(err)
	}
}

// placed places the second host's static pod, as EtcdJoin does, while no kubelet runs.
func (q *quorum) placed(t *testing.T) {
	t.Helper()
	m := q.machines[1]
	m.Mkdir(config.EtcdDataDir, 0o700)
	node := nodeOf(q.c.Nodes[1])
	for _, o := range q.members[:2] {
		node.InitialCluster = append(node.InitialCluster, manifests.Member{Name: o.Name, PeerURL: o.PeerURL()})
	}
	slices.SortFunc(node.InitialCluster, func(a, b manifests.Member) int { return strings.Compare(a.PeerURL, b.PeerURL) })
	pod, err := manifests.Etcd(params(q.c), node)
	if err != nil {
		t.Fatal(err)
	}
	m.touch(pod.Path, pod.Mode, string(pod.Data))
}

// voted makes the second host's member a voting one.
func (q *quorum) voted(t *testing.T) {
	t.Helper()
	q.added(t)
	q.placed(t)
	q.start(q.machines[1], q.members[1])
	if err := q.client.Promote(t.Context(), q.id(1)); err != nil {
		t.Fatal(err)
	}
}

// wiped gives the second host a new disk.
func (q *quorum) wiped(t *testing.T) {
	t.Helper()
	q.machines[1].Delete(config.EtcdDataDir)
	q.machines[1].Delete(config.KubernetesDir)
	q.kubelet(q.machines[1], q.members[1], etcdData)
}

// Whatever a host has been through: in the end it has one member, alive and voting.
func TestEtcdJoinAfterAnyLife(t *testing.T) {
	for _, tt := range lives {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := newQuorum(t, false, "cp-1", "cp-2", "cp-3")
			tt.before(t, q)
			before, m := q.id(1), q.machines[1]
			pod, placed := m.Get(etcdPodPath)
			m.ResetRecord()
			var warnings []string
			r := workflow.Runner{Report: serial(func(e workflow.Event) {
				if e.Kind == workflow.Warning {
					warnings = append(warnings, e.Message)
				}
			})}
			p := EtcdJoin(q.c, q.c.Nodes[1:2], q.connect, time.Minute)
			if _, err := r.Run(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			members := []string{"cp-1", "cp-2"}
			if q.id(2) != 0 {
				members = append(members, "cp-3")
			}
			q.votes(members...)
			if after := q.id(1); (after == before) != tt.keeps {
				t.Errorf("its member was %x and is %x, want it to go on: %t", before, after, tt.keeps)
			}
			if after, _ := m.Get(etcdPodPath); placed && tt.keeps && string(after.Data) != string(pod.Data) {
				t.Errorf("its static pod has changed, so that the kubelet starts it anew (-before +after):\n%s", cmp.Diff(string(pod.Data), string(after.Data)))
			}
			if !slices.Equal(m.Removed(), tt.removed) {
				t.Errorf("removed %q, want %q", m.Removed(), tt.removed)
			}
			if all := strings.Join(warnings, "\n"); !strings.Contains(all, tt.warning) || (all == "") != (tt.warning == "") {
				t.Errorf("warned of %q, want %q", all, tt.warning)
			}
			settled(t, p, q.c.Nodes[1])
		})
	}
}

// Wherever a run is killed on a host with the data of a former member, the next one makes it a voting one.
func TestEtcdJoinGoesOnAfterACut(t *testing.T) {
	const most = 4 // things that are done: the pod goes, etcd ends, its data goes, the new pod comes
	for cut := range most + 1 {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			q := newQuorum(t, false, "cp-1", "cp-2")
			q.placed(t)
			q.machines[1].Mkdir(etcdData, 0o700)
			q.machines[1].left = cut
			ctx, kill := context.WithCancelCause(t.Context())
			defer kill(nil)
			q.machines[1].onCut = func() { kill(errCut) }
			_, err := new(workflow.Runner).Run(ctx, q.join())
			if cut == most {
				if err != nil {
					t.Errorf("it takes more than %d things: %v", most, err)
				}
				return
			}
			if !errors.Is(err, errCut) {
				t.Fatalf("cut after %d: %v", cut, err)
			}
			q.machines[1].left = -1
			run(t, q.join())
			q.votes("cp-1", "cp-2")
			settled(t, q.join(), q.c.Nodes[1])
		})
	}
}

// etcd takes one learner at a time: that of a host that somebody else takes in is waited for.
func TestEtcdJoinWaitsForAnotherLearner(t *testing.T) {
	t.Parallel()
	q := newQuorum(t, false, "cp-1", "cp-2", "cp-3")
	stranger := q.members[2]
	added, err := q.client.AddLearner(t.Context(), stranger.PeerURL())
	if err != nil {
		t.Fatal(err)
	}
	stranger.Start(q.members[0])
	short := EtcdJoin(q.c, q.c.Nodes[1:2], q.connect, 300*time.Millisecond)
	q.machines[1].OnPrefix("sh", "-c", lastWordsScript, "sh", "etcd").Return("")
	_, err = new(workflow.Runner).Run(t.Context(), short)
	if want := "etcd member cp-3 is still a learner, and etcd takes one at a time"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	done := make(chan error, 1)
	go func() { done <- q.client.Promote(t.Context(), added.ID) }()
	run(t, EtcdJoin(q.c, q.c.Nodes[1:2], q.connect, time.Minute))
	if err := <-done; err != nil {
		t.Error(err)
	}
	q.votes("cp-1", "cp-2", "cp-3")
}

// What no waiting changes is told at once.
func TestEtcdJoinRefusesAHostThatIsTakenForAnother(t *testing.T) {
	t.Parallel()
	q := newQuorum(t, false, "cp-1", "cp-2", "cp-3")
	namesake := q.members[2]
	namesake.Name = "cp-2"
	promoted(t, q.members[0], namesake)
	_, err := new(workflow.Runner).Run(t.Context(), EtcdJoin(q.c, q.c.Nodes[1:2], q.connect, time.Hour))
	for _, part := range []string{"cp-2: etcd-join: ", "etcd member cp-2 is alive at " + namesake.PeerURL(), "; hint: two hosts have this name"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not hold %q", err, part)
		}
	}
	if len(q.machines[1].Writes()) > 0 {
		t.Errorf("wrote %q", q.machines[1].Writes())
	}
}

func TestEtcdJoinWithoutAnEtcdThatAnswers(t *testing.T) {
	c, machines := testCluster(t, "cp-1", "cp-2")
	down := errors.New("connection refused")
	connect := func(context.Context) (*etcd.Client, error) { return nil, down }
	p := EtcdJoin(c, c.Nodes[1:], connect, time.Millisecond)
	changes, err := p.Check(t.Context(), c.Nodes[1])
	if err != nil || len(changes) != 2 || changes[1].Detail != "once etcd answers" {
		t.Errorf("planned %+v, %v", changes, err)
	}
	machines[1].On("sh", "-c", lastWordsScript, "sh", "etcd").Return("etcd: no space left on device\n")
	_, err = new(workflow.Runner).Run(t.Context(), p)
	for _, part := range []string{"cp-2: etcd-join: after 1ms: connection refused", "last log lines:\netcd: no space left on device"} {
		if !errors.Is(err, down) || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not hold %q", err, part)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	patient := EtcdJoin(c, c.Nodes[1:], func(context.Context) (*etcd.Client, error) { cancel(); return nil, down }, time.Hour)
	if err := patient.Apply(ctx, machines[1], nil); !errors.Is(err, down) && !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: got %v", err)
	}
}
