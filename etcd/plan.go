package etcd

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Host is a control plane that is to have a voting member.
type Host struct {
	Name    string // of the node, which is the member's
	PeerURL string // such as https://10.0.0.2:2380
	HasData bool   // the host's data folder holds a member's data

	// Waited says that learners of other hosts have had time to start: those that are still dead are in nobody's hands.
	// Before that, a learner that does not run may have been added a moment ago by whoever is about to start it.
	Waited bool
}

// Steps are what is to happen, in the order of the fields, for a host to have a voting member. The zero value, but for
// Member, says that it has one that is alive.
type Steps struct {
	Remove     []Removal // members of former lives of this host, and learners that nobody will promote
	RemoveData bool      // the host's data is of a member that is no more; etcd must not run while it goes
	WaitFor    []Member  // learners of other hosts: none can be added before they are promoted or removed
	AddLearner bool      // for the host's peer URL
	Start      bool      // the host's etcd does not run
	Promote    bool      // the host's member is a learner, or will be

	Member Member // the host's member, when there is one that stays; else AddLearner gives it
}

// Removal is a member that has to go, and the reason.
type Removal struct {
	Member Member
	Why    string // such as "its host has lost its data"
}

// Done says that the host has a voting member that is alive, and that nothing stands in the way of the next host.
func (s Steps) Done() bool {
	return len(s.Remove) == 0 && !s.RemoveData && !s.AddLearner && !s.Start && !s.Promote
}

// Plan says what is to happen for a host to become a voting member, whatever an earlier run, an earlier host of that name
// or an earlier one at that address has left behind. It never plans a second member for a host.
//
// The error is a *QuorumError when what has to be removed would break quorum, or tells of a living member that is in the
// place of the host's.
func Plan(members []Member, alive map[uint64]bool, h Host) (Steps, error) {
	var s Steps
	own, err := ownMember(members, alive, h, &s)
	if err != nil {
		return Steps{}, err
	}
	switch {
	case own == nil:
		s.AddLearner = true
	case alive[own.ID]:
		s.Promote = own.Learner
	case own.Started() && h.HasData, !own.Started() && !h.HasData:
		s.Start, s.Promote = true, own.Learner
	case own.Started():
		s.remove(*own, "its host has lost its data")
	default:
		// What is there may be an earlier member's, or this one's: a leader never again sends what a member once had.
		s.remove(*own, "it was not started, and its host has data of which nobody knows whose it is")
	}
	if s.AddLearner {
		s.RemoveData, s.Start, s.Promote = h.HasData, true, true
		s.clearWay(members, alive, h)
	} else {
		s.Member = *own
	}
	return s, s.keepsQuorum(members, alive)
}

// ownMember finds the member that the host can go on with, and plans the removal of others that are in its place.
func ownMember(members []Member, alive map[uint64]bool, h Host, s *Steps) (*Member, error) {
	var own *Member
	for _, m := range candidates(members, alive, h) {
		isHost := m.hasPeer(h.PeerURL) && (!m.Started() || m.Name == h.Name)
		switch {
		case isHost && own == nil:
			own = &m
		case alive[m.ID] && m.Name == h.Name:
			return nil, fmt.Errorf("etcd member %s is alive at %s, and not at %s; hint: two hosts have this name, or the host's "+
				"address has changed: reset the one that runs, or name this one otherwise", m.Name, strings.Join(m.PeerURLs, ", "), h.PeerURL)
		case alive[m.ID]:
			return nil, fmt.Errorf("the etcd member at %s is alive and named %s, not %s; hint: the host has been renamed: "+
				"reset it under its old name first", h.PeerURL, m.Name, h.Name)
		case isHost:
			s.Remove = append(s.Remove, Removal{m, "its host has another member"})
		case m.hasPeer(h.PeerURL):
			s.Remove = append(s.Remove, Removal{m, "it is dead, and its address is now " + h.Name + "'s"})
		default:
			s.Remove = append(s.Remove, Removal{m, "it is dead, and its host is now at " + h.PeerURL})
		}
	}
	return own, nil
}

// candidates are the members with the host's name or peer URL. Those that are worth most come first: alive, then voting,
// then started.
func candidates(members []Member, alive map[uint64]bool, h Host) []Member {
	var found []Member
	for _, m := range members {
		if m.Name == h.Name && m.Started() || m.hasPeer(h.PeerURL) {
			found = append(found, m)
		}
	}
	slices.SortStableFunc(found, func(a, b Member) int {
		return worth(b, alive) - worth(a, alive)
	})
	return found
}

func worth(m Member, alive map[uint64]bool) int {
	w := 0
	if alive[m.ID] {
		w += 4
	}
	if !m.Learner {
		w += 2
	}
	if m.Started() {
		w++
	}
	return w
}

// remove plans to remove the host's own member, and to add one in its place.
func (s *Steps) remove(m Member, why string) {
	s.Remove = append(s.Remove, Removal{m, why})
	s.AddLearner = true
}

// clearWay sees to the learners of other hosts: etcd takes one at a time.
func (s *Steps) clearWay(members []Member, alive map[uint64]bool, h Host) {
	for _, m := range members {
		goes := func(r Removal) bool { return r.Member.ID == m.ID }
		switch {
		case !m.Learner, slices.ContainsFunc(s.Remove, goes):
		case !alive[m.ID] && h.Waited:
			s.Remove = append(s.Remove, Removal{m, "it is a dead learner, which keeps others from being added"})
		default:
			s.WaitFor = append(s.WaitFor, m)
		}
	}
}

// keepsQuorum checks the removals, one after the other.
func (s *Steps) keepsQuorum(members []Member, alive map[uint64]bool) error {
	left := slices.Clone(members)
	for _, r := range s.Remove {
		if err := CanRemove(left, alive, r.Member.ID); err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(m Member) bool { return m.ID == r.Member.ID })
	}
	return nil
}

// hasPeer says that the member is reached by its peers at the URL.
func (m Member) hasPeer(peerURL string) bool {
	return slices.ContainsFunc(m.PeerURLs, func(u string) bool { return normal(u) == normal(peerURL) })
}

// normal is a URL without what makes no difference to etcd.
func normal(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}
