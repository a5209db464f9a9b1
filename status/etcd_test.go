package status

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/etcd"
)

// seen is a member that answers and follows the leader 0xa.
func seen(name string, id, applied uint64) etcd.Observation {
	return etcd.Observation{
		Member: etcd.Member{ID: id, Name: name, PeerURLs: []string{"p"}, ClientURLs: []string{"c"}},
		Status: etcd.Status{ID: id, Leader: 0xa, Version: "3.7.0", DBSize: 8, DBSizeInUse: 4, RaftIndex: applied, AppliedIndex: applied},
	}
}

func TestMembers(t *testing.T) {
	follower := seen("cp-1", 0xb, 90)
	ahead := seen("cp-4", 0xd, 101) // it was asked a moment after the leader
	ahead.Member.Learner, ahead.Status.Learner = true, true
	down := etcd.Observation{Member: etcd.Member{ID: 0xc, Name: "cp-3", PeerURLs: []string{"p"}}, Err: errors.New("refused")}
	added := etcd.Observation{Member: etcd.Member{ID: 0xe, PeerURLs: []string{"p"}, Learner: true}, Err: errors.New("not started")}
	full := seen("cp-5", 0xf, 100)
	full.Status.Errors = []string{"NOSPACE", "CORRUPT"}
	cut := seen("cp-6", 0x10, 80)
	cut.Status.Leader = 0

	got := Members([]etcd.Observation{added, cut, full, ahead, down, seen("cp-2", 0xa, 100), follower})
	p, c := []string{"p"}, []string{"c"}
	lag := func(n uint64) *uint64 { return &n }
	want := []Member{
		{"cp-1", "b", voter, true, "ok", "3.7.0", 8, 4, lag(10), p, c, ""},
		{"cp-2", "a", leader, true, "ok", "3.7.0", 8, 4, lag(0), p, c, ""},
		{"cp-3", "c", voter, false, "no answer", "", 0, 0, nil, p, nil, "refused"},
		{"cp-4", "d", learner, true, "ok", "3.7.0", 8, 4, lag(0), p, c, ""},
		{"cp-5", "f", voter, false, "NOSPACE, CORRUPT", "3.7.0", 8, 4, lag(0), p, c, ""},
		{"cp-6", "10", voter, false, "no leader", "3.7.0", 8, 4, lag(20), p, c, ""},
		{"", "e", learner, false, "not started", "", 0, 0, nil, p, nil, "not started"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// Nobody knows what is agreed on while the leader does not answer.
	for _, m := range Members([]etcd.Observation{follower, down}) {
		if m.Lag != nil || m.Role == leader {
			t.Errorf("without a leader: %+v", m)
		}
	}
}

func TestFaultTolerance(t *testing.T) {
	for _, tt := range []struct{ alive, down, learners, want int }{
		{1, 0, 0, 0}, {2, 0, 0, 0}, {3, 0, 0, 1}, {3, 0, 1, 1}, {2, 1, 0, 0}, {2, 1, 1, 0}, {4, 0, 0, 1}, {5, 0, 0, 2}, {4, 1, 0, 1}, {3, 2, 0, 0},
	} {
		var all []etcd.Observation
		for range tt.alive {
			all = append(all, seen("m", 0xa, 1))
		}
		for range tt.down {
			all = append(all, etcd.Observation{Err: errors.New("refused")})
		}
		for range tt.learners {
			o := seen("m", 0xa, 1)
			o.Member.Learner = true
			all = append(all, o)
		}
		if got := faultTolerance(all); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}
