package etcd

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	url1, url2, url3, url4 = "https://10.0.0.1:2380", "https://10.0.0.2:2380", "https://10.0.0.3:2380", "https://10.0.0.4:2380"
)

func voter(id uint64, name, peer string) Member {
	return Member{ID: id, Name: name, PeerURLs: []string{peer}, ClientURLs: []string{strings.Replace(peer, "2380", "2379", 1)}}
}

func learner(id uint64, name, peer string) Member {
	m := voter(id, name, peer)
	m.Learner = true
	return m
}

// unstarted is a member that has been added, and not more.
func unstarted(m Member) Member {
	m.Name, m.ClientURLs = "", nil
	return m
}

func aliveOnly(ids ...uint64) map[uint64]bool {
	alive := map[uint64]bool{}
	for _, id := range ids {
		alive[id] = true
	}
	return alive
}

// The host is always cp-2 at url2; cp-1 is a living voter.
func TestPlan(t *testing.T) {
	cp1, cp3 := voter(1, "cp-1", url1), voter(3, "cp-3", url3)
	own := voter(2, "cp-2", url2)
	fresh := Steps{AddLearner: true, Start: true, Promote: true}
	with := func(s Steps, change func(*Steps)) Steps {
		change(&s)
		return s
	}
	removed := func(members ...Member) func(*Steps) {
		return func(s *Steps) {
			for _, m := range members {
				s.Remove = append(s.Remove, Removal{Member: m})
			}
		}
	}
	tests := []struct {
		name    string
		members []Member
		alive   map[uint64]bool
		hasData bool
		waited  bool
		want    Steps
	}{
		{"no member", []Member{cp1}, aliveOnly(1), false, false, fresh},
		{"no member, but data of a former one", []Member{cp1}, aliveOnly(1), true, false,
			with(fresh, func(s *Steps) { s.RemoveData = true })},
		{"a living voter", []Member{cp1, own}, aliveOnly(1, 2), true, false, Steps{Member: own}},
		{"a living voter whose data is elsewhere", []Member{cp1, own}, aliveOnly(1, 2), false, false, Steps{Member: own}},
		{"a voter that is down", []Member{cp1, own, cp3}, aliveOnly(1, 3), true, false, Steps{Start: true, Member: own}},
		{"a voter whose host was replaced", []Member{cp1, own, cp3}, aliveOnly(1, 3), false, false, with(fresh, removed(own))},
		{"a learner that was never started", []Member{cp1, unstarted(learner(2, "", url2))}, aliveOnly(1), false, false,
			Steps{Start: true, Promote: true, Member: unstarted(learner(2, "", url2))}},
		{"a learner that was never started, and data", []Member{cp1, unstarted(learner(2, "", url2))}, aliveOnly(1), true, false,
			with(fresh, func(s *Steps) { removed(unstarted(learner(2, "", url2)))(s); s.RemoveData = true })},
		{"a learner that runs", []Member{cp1, learner(2, "cp-2", url2)}, aliveOnly(1, 2), true, false,
			Steps{Promote: true, Member: learner(2, "cp-2", url2)}},
		{"a learner that is down", []Member{cp1, learner(2, "cp-2", url2)}, aliveOnly(1), true, false,
			Steps{Start: true, Promote: true, Member: learner(2, "cp-2", url2)}},
		{"a learner whose host was replaced", []Member{cp1, learner(2, "cp-2", url2)}, aliveOnly(1), false, false,
			with(fresh, removed(learner(2, "cp-2", url2)))},
		{"a voter that was added by hand and not started", []Member{cp1, cp3, unstarted(own)}, aliveOnly(1, 3), false, false,
			Steps{Start: true, Member: unstarted(own)}},

		{"its name at another address, dead", []Member{cp1, cp3, voter(4, "cp-2", url4)}, aliveOnly(1, 3), false, false,
			with(fresh, removed(voter(4, "cp-2", url4)))},
		{"its name at another address, dead, and its data is here", []Member{cp1, cp3, voter(4, "cp-2", url4)}, aliveOnly(1, 3), true, false,
			with(fresh, func(s *Steps) { removed(voter(4, "cp-2", url4))(s); s.RemoveData = true })},
		{"its address under another name, dead", []Member{cp1, cp3, voter(4, "old", url2)}, aliveOnly(1, 3), false, false,
			with(fresh, removed(voter(4, "old", url2)))},
		{"two of its name, one of them dead", []Member{cp1, voter(4, "cp-2", url4), own}, aliveOnly(1, 2), true, false,
			with(Steps{Member: own}, removed(voter(4, "cp-2", url4)))},
		{"two at its address", []Member{cp1, cp3, unstarted(learner(4, "", url2)), own}, aliveOnly(1, 2, 3), true, false,
			with(Steps{Member: own}, removed(unstarted(learner(4, "", url2))))},
		{"two at its address, both dead", []Member{cp1, cp3, unstarted(learner(4, "", url2)), own}, aliveOnly(1, 3), true, false,
			with(Steps{Start: true, Member: own}, removed(unstarted(learner(4, "", url2))))},
		{"a learner at its new address, a dead voter at the old one", []Member{cp1, cp3, voter(4, "cp-2", url4), unstarted(learner(2, "", url2))},
			aliveOnly(1, 3), false, false,
			with(Steps{Start: true, Promote: true, Member: unstarted(learner(2, "", url2))}, removed(voter(4, "cp-2", url4)))},

		{"another's learner that runs", []Member{cp1, learner(3, "cp-3", url3)}, aliveOnly(1, 3), false, true,
			with(fresh, func(s *Steps) { s.WaitFor = []Member{learner(3, "cp-3", url3)} })},
		{"another's learner that may be about to start", []Member{cp1, unstarted(learner(3, "", url3))}, aliveOnly(1), false, false,
			with(fresh, func(s *Steps) { s.WaitFor = []Member{unstarted(learner(3, "", url3))} })},
		{"another's learner that nobody starts", []Member{cp1, unstarted(learner(3, "", url3))}, aliveOnly(1), false, true,
			with(fresh, removed(unstarted(learner(3, "", url3))))},
		{"another's learner is not in the way of who has a member", []Member{cp1, own, learner(3, "cp-3", url3)}, aliveOnly(1, 2), true, true,
			Steps{Member: own}},
		{"an address that is written otherwise", []Member{cp1, voter(2, "cp-2", "HTTPS://10.0.0.2:2380/")}, aliveOnly(1, 2), true, false,
			Steps{Member: voter(2, "cp-2", "HTTPS://10.0.0.2:2380/")}},
		{"an unstarted member elsewhere has no name that could be ours", []Member{cp1, unstarted(voter(3, "", url3))}, aliveOnly(1), false, false, fresh},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Plan(tt.members, tt.alive, Host{Name: "cp-2", PeerURL: url2, HasData: tt.hasData, Waited: tt.waited})
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range got.Remove {
				if r.Why == "" {
					t.Errorf("%s goes without a reason", r.Member)
				}
				got.Remove[i].Why = ""
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if done := cmp.Equal(got, Steps{Member: got.Member}); got.Done() != done {
				t.Errorf("Done is %v of %+v", got.Done(), got)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	cp1 := voter(1, "cp-1", url1)
	for _, tt := range []struct {
		name    string
		members []Member
		alive   map[uint64]bool
		want    string
	}{
		{"a living member of its name elsewhere", []Member{cp1, voter(4, "cp-2", url4)}, aliveOnly(1, 4),
			"etcd member cp-2 is alive at https://10.0.0.4:2380, and not at https://10.0.0.2:2380; hint: two hosts have this name"},
		{"a living member of another name here", []Member{cp1, voter(4, "old", url2)}, aliveOnly(1, 4),
			"the etcd member at https://10.0.0.2:2380 is alive and named old, not cp-2; hint: the host has been renamed"},
		{"a living member here and one of its name elsewhere", []Member{cp1, voter(2, "cp-2", url2), voter(4, "cp-2", url4)}, aliveOnly(1, 2, 4),
			"hint: two hosts have this name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steps, err := Plan(tt.members, tt.alive, Host{Name: "cp-2", PeerURL: url2})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !cmp.Equal(steps, Steps{}) {
				t.Errorf("%+v, %v", steps, err)
			}
		})
	}
	t.Run("to break quorum", func(t *testing.T) {
		// Of cp-1 and the lost cp-2, none can agree on anything.
		_, err := Plan([]Member{cp1, voter(2, "cp-2", url2)}, aliveOnly(1), Host{Name: "cp-2", PeerURL: url2})
		var quorum *QuorumError
		if !errors.As(err, &quorum) || quorum.After || quorum.Member.ID != 2 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("to break quorum by the second of two removals", func(t *testing.T) {
		// 1 and 5 agree as long as one of three is down; the removal of both lives of cp-2 leaves them a quorum, too.
		members := []Member{cp1, voter(5, "cp-5", url3), voter(2, "old", url2), voter(4, "cp-2", url4)}
		if _, err := Plan(members, aliveOnly(1, 5), Host{Name: "cp-2", PeerURL: url2}); err == nil {
			t.Error("two of four are no quorum")
		}
		members = append(members, voter(6, "cp-6", "https://10.0.0.6:2380"))
		steps, err := Plan(members, aliveOnly(1, 5, 6), Host{Name: "cp-2", PeerURL: url2})
		if err != nil || len(steps.Remove) != 2 {
			t.Errorf("%+v, %v", steps, err)
		}
	})
}

func TestCanRemove(t *testing.T) {
	one, two, three := voter(1, "cp-1", url1), voter(2, "cp-2", url2), voter(3, "cp-3", url3)
	l := learner(4, "cp-4", url4)
	for _, tt := range []struct {
		name    string
		members []Member
		alive   map[uint64]bool
		id      uint64
		want    string // of the error; empty: it can be
	}{
		{"one of three", []Member{one, two, three}, aliveOnly(1, 2, 3), 1, ""},
		{"the dead one of three", []Member{one, two, three}, aliveOnly(1, 2), 3, ""},
		{"a living one of three, one dead", []Member{one, two, three}, aliveOnly(1, 2), 1,
			"remove member cp-1: would break etcd's quorum: 1 of 2 voting members alive, 2 needed; hint: start"},
		{"a dead one of three, two dead", []Member{one, two, three}, aliveOnly(1), 3,
			"remove member cp-3: etcd has no quorum: 1 of 3 voting members alive, 2 needed; hint: start"},
		{"one of two", []Member{one, two}, aliveOnly(1, 2), 1, ""},
		{"the dead one of two", []Member{one, two}, aliveOnly(1), 2, "etcd has no quorum"},
		{"the only one", []Member{one, l}, aliveOnly(1, 4), 1, "etcd member cp-1 is the only one that votes; hint:"},
		{"a learner", []Member{one, two, three, l}, aliveOnly(1), 4, ""},
		{"a living learner counts for nothing", []Member{one, two, three, l}, aliveOnly(1, 2, 4), 1, "1 of 2 voting members"},
		{"one that is not there", []Member{one}, aliveOnly(1), 9, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := CanRemove(tt.members, tt.alive, tt.id)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var quorum *QuorumError
			if !errors.As(err, &quorum) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
