package status

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/etcd"
)

// What a member does among the others.
const (
	leader  = "leader"
	voter   = "member"
	learner = "learner"
)

// askEtcd asks for the list of members and each of them for its state. Without a quorum the list is what the first one
// that answers remembers.
func askEtcd(ctx context.Context, c *cluster.Cluster) Etcd {
	e := Etcd{External: c.Config.Spec.Etcd.External != nil, Members: []Member{}}
	bounded, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer cancel()
	client, err := c.Etcd(bounded)
	if err != nil {
		e.Error = reached(bounded, c, err).Error()
		return e
	}
	var agreed, known []etcd.Member
	var noQuorum, silent error
	var wg sync.WaitGroup
	wg.Go(func() { agreed, noQuorum = client.Members(bounded) })
	wg.Go(func() { known, silent = client.KnownMembers(bounded) })
	wg.Wait()
	switch {
	case noQuorum == nil:
		e.Quorum, known = true, agreed
	case silent != nil:
		e.Error = silent.Error()
		return e
	}
	observing, stop := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer stop()
	observed := etcd.Observe(observing, client, known)
	e.Members = Members(observed)
	if e.Quorum {
		e.FaultTolerance = faultTolerance(observed)
	}
	return e
}

// faultTolerance is how many of the living voting members may fail.
func faultTolerance(observed []etcd.Observation) int {
	voters, alive := 0, 0
	for _, o := range observed {
		if o.Member.Learner {
			continue
		}
		voters++
		if o.Alive() {
			alive++
		}
	}
	return max(0, alive-(voters/2+1))
}

// Members are what observations say, by name, those without one at the end.
func Members(observed []etcd.Observation) []Member {
	var committed uint64
	for _, o := range observed {
		if o.Err == nil && o.Status.Leader == o.Status.ID {
			committed = o.Status.RaftIndex
		}
	}
	members := make([]Member, 0, len(observed))
	for _, o := range observed {
		m := Member{
			Name: o.Member.Name, ID: etcd.FormatID(o.Member.ID), Role: voter, PeerURLs: o.Member.PeerURLs, ClientURLs: o.Member.ClientURLs,
			Version: o.Status.Version, DBSize: o.Status.DBSize, DBSizeInUse: o.Status.DBSizeInUse,
		}
		switch {
		case o.Member.Learner:
			m.Role = learner
		case o.Err == nil && o.Status.Leader == o.Status.ID:
			m.Role = leader
		}
		if o.Err == nil && committed > 0 {
			m.Lag = new(committed - min(o.Status.AppliedIndex, committed))
		}
		m.Healthy, m.Health = memberHealth(o)
		if o.Err != nil {
			m.Error = o.Err.Error()
		}
		members = append(members, m)
	}
	slices.SortStableFunc(members, func(a, b Member) int {
		if (a.Name == "") != (b.Name == "") {
			return strings.Compare(b.Name, a.Name)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return members
}

// memberHealth is a member's health in a few words.
func memberHealth(o etcd.Observation) (bool, string) {
	switch {
	case !o.Member.Started():
		return false, "not started"
	case o.Err != nil:
		return false, "no answer"
	case len(o.Status.Errors) > 0:
		return false, strings.Join(o.Status.Errors, ", ")
	case !o.Alive():
		return false, "no leader"
	}
	return true, "ok"
}
