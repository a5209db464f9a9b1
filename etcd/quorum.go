package etcd

import (
	"fmt"
	"slices"
)

// QuorumError says that etcd could not go on without a member, or that it cannot agree on its removal.
type QuorumError struct {
	Member Member // that was to be removed
	Voters int    // voting members, of those that count
	Alive  int    // voting members that are alive, of the same
	After  bool   // the numbers are those after the removal; else there is no quorum already
}

// Quorum is the number of voting members that have to agree.
func (e *QuorumError) Quorum() int { return quorum(e.Voters) }

func (e *QuorumError) Error() string {
	if e.After && e.Voters == 0 {
		return fmt.Sprintf("etcd member %s is the only one that votes; hint: the cluster's data ends with it: remove the cluster instead", e.Member)
	}
	state, remedy := "etcd has no quorum", "start the members that are down, or see myadm etcd restore"
	if e.After {
		state, remedy = "would break etcd's quorum", "start the members that are down first"
	}
	return fmt.Sprintf("remove member %s: %s: %d of %d voting members alive, %d needed; hint: %s",
		e.Member, state, e.Alive, e.Voters, e.Quorum(), remedy)
}

// CanRemove says whether a member can be removed and leave a quorum of living voting members behind; if not, the error is
// a *QuorumError. Learners, and members that are not there, can always be.
func CanRemove(members []Member, alive map[uint64]bool, id uint64) error {
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == id })
	if i < 0 || members[i].Learner {
		return nil
	}
	voters, living := 0, 0
	for _, m := range members {
		if m.Learner {
			continue
		}
		voters++
		if alive[m.ID] {
			living++
		}
	}
	if living < quorum(voters) {
		return &QuorumError{Member: members[i], Voters: voters, Alive: living}
	}
	voters--
	if alive[id] {
		living--
	}
	if living < quorum(voters) {
		return &QuorumError{Member: members[i], Voters: voters, Alive: living, After: true}
	}
	return nil
}

// quorum is raft's majority. Of no voters it is 1: nobody could agree.
func quorum(voters int) int { return voters/2 + 1 }
