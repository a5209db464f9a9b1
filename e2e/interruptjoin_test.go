//go:build e2e

package e2e

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/myadm/myadm/e2e/lab"
)

// etcdMoments are those at which control planes join etcd, as the member list shows them.
var etcdMoments = []struct {
	name    string
	voters  int  // started members that vote
	started bool // whether the learner beside them has started
}{
	{"a member is added and has not started", 1, false},
	{"a learner has started and is not promoted", 1, true},
	{"the next member is added and has not started", 2, false},
	{"the next learner has started and is not promoted", 2, true},
}

// attempts is how often a test tries to hit a moment. A learner that has caught up is promoted in the blink of an eye.
const attempts = 4

// TestInterruptedEtcdJoin kills myadm while two control planes join, at each step that etcd takes: each run carries on from
// where the one before was killed, and the last one ends in three voting members.
func TestInterruptedEtcdJoin(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 3, ControlPlanes: 3})
	s.init(t)
	etcd := s.etcd(t, "h1")
	for _, tt := range etcdMoments {
		t.Run(tt.name, func(t *testing.T) {
			here := func(list []*etcdserverpb.Member) bool { return atMoment(list, tt.voters, tt.started) }
			for range attempts {
				missed := s.tryInterrupt(t, syscall.SIGKILL, s.joinArgs("-v"), nil, func(ctx context.Context) error {
					return etcd.await(ctx, here)
				})
				if missed != nil {
					missed.want(t, 0)
				}
				list, err := etcd.list(t.Context())
				must(t, err)
				if here(list) {
					t.Logf("killed with these members: %v", list)
					return
				}
				s.leaveEtcd(t, etcd)
			}
			t.Fatalf("it went on before it was killed, %d times", attempts)
		})
	}
	s.join(t, "-v")
	s.wantReady(t, "h1", "h2", "h3")
	s.wantMembers(t, "h1", "h2", "h3")
	if r := s.join(t); !strings.Contains(r.stdout, "with 0 changes") {
		t.Errorf("there is still something to do: %s", r)
	}
	for _, h := range s.Hosts {
		if left := s.halfWritten(t, h.Name); left != "" {
			t.Errorf("half-written files are left on %s:\n%s", h.Name, left)
		}
		if left := s.shell(t, h.Name, "ls -A /var/lib/etcd"); strings.TrimSpace(left) != "member" {
			t.Errorf("/var/lib/etcd of %s has %q", h.Name, left)
		}
	}
}

// leaveEtcd takes the two that have joined, as far as they have come, out of the cluster again.
func (s *site) leaveEtcd(t *testing.T, etcd members) {
	t.Helper()
	s.myadm(t, nil, "reset", "h2", "h3", "-f", s.document, "--yes").want(t, 0)
	eventually(t, 30*time.Second, "the members of etcd after reset", func(ctx context.Context) error { return etcd.whole(ctx, "h1") })
	s.wantReady(t, "h1")
}

// atMoment tells whether a member list has so many voters and one learner that has started, or has not.
func atMoment(list []*etcdserverpb.Member, voters int, started bool) bool {
	learners := 0
	for _, m := range list {
		if !m.IsLearner {
			voters--
		} else if (m.Name != "") == started {
			learners++
		}
	}
	return voters == 0 && learners == 1
}

// await looks at the member list, as often as it can be had, until it is as wanted.
func (m members) await(ctx context.Context, wanted func([]*etcdserverpb.Member) bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if list, err := m.list(ctx); err == nil && wanted(list) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
