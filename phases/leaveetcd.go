package phases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// LeaveEtcd removes the members of the control planes that leave, one after the other, each only when those that are left
// have a quorum. One that leads hands over first: its followers would need a moment to notice that it is gone.
func LeaveEtcd(l *Leave) workflow.Phase {
	return workflow.Phase{
		Name:  "leave-etcd",
		Short: "remove the members of etcd",
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			m, err := l.settled(ctx)
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			for _, member := range m.leaving {
				changes = append(changes, workflow.Change{Action: workflow.Delete, Object: "etcd member " + member.String()})
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
			client, err := l.c.Etcd(ctx)
			if err != nil {
				return err
			}
			for {
				m, err := l.settled(ctx)
				if err != nil || len(m.leaving) == 0 {
					return err
				}
				goes := m.leaving[0]
				if goes.ID == m.leader {
					if err := client.MoveLeader(ctx, m.heir()); err != nil {
						workflow.Warn(ctx, fmt.Sprintf("etcd elects a leader when %s is gone: %v", goes, err))
					}
				}
				if err := client.Remove(ctx, goes.ID); err != nil {
					return err
				}
			}
		},
	}
}

// membership is etcd's list of members, and what matters of it when some are to be removed.
type membership struct {
	members  []etcd.Member
	alive    map[uint64]bool
	applied  map[uint64]uint64 // how far each has come
	leader   uint64            // 0: none is known
	electing bool              // a member that runs has no leader, or not yet
	leaving  []etcd.Member     // in the order in which they go
}

// quorumPatience is how long etcd may lack a quorum: an election takes less.
const quorumPatience = 3 * time.Second

// settled is the membership when no leader is being elected. The error is an *etcd.QuorumError, beside the membership, when
// the hosts' members cannot be removed.
func (l *Leave) settled(ctx context.Context) (m membership, err error) {
	waiting, cancel := context.WithTimeout(ctx, quorumPatience)
	defer cancel()
	_ = poll(waiting, func(context.Context) error { // which is asked to the end each time; what counts is the last word
		if m, err = l.membership(ctx); err == nil {
			err = m.removable()
		}
		if !m.electing {
			return nil
		}
		return err
	})
	return m, err
}

// membership asks etcd. Members of hosts that are gone are taken for dead, and not waited for.
func (l *Leave) membership(ctx context.Context) (membership, error) {
	client, err := l.c.Etcd(ctx)
	if err != nil {
		return membership{}, err
	}
	var m membership
	m.members, err = client.Members(ctx)
	noQuorum := err
	if noQuorum != nil {
		if m.members, err = client.KnownMembers(ctx); err != nil {
			return membership{}, noQuorum
		}
	}
	reached := make([]etcd.Member, 0, len(m.members))
	for _, member := range m.members {
		h := l.owner(member)
		if h != nil && !l.kept[member.ID] {
			m.leaving = append(m.leaving, member)
		}
		if h == nil || l.reached(*h) {
			reached = append(reached, member)
		}
		if h == nil && len(l.heirs) == 0 {
			client.AddEndpoints(member.ClientURLs...) // through a host that leaves, whose own member ends
		}
	}
	observed := etcd.Observe(ctx, client, reached)
	m.alive, m.applied = etcd.Alive(observed), map[uint64]uint64{}
	for _, o := range observed {
		switch {
		case o.Alive():
			m.leader, m.applied[o.Member.ID] = cmp.Or(m.leader, o.Status.Leader), o.Status.AppliedIndex
		case o.Err == nil:
			m.electing = true
		}
	}
	slices.SortStableFunc(m.leaving, func(a, b etcd.Member) int { return m.worth(a) - m.worth(b) })
	if noQuorum != nil && m.removable() == nil {
		m.electing = true // as it was a moment ago
		return m, noQuorum
	}
	return m, nil
}

// worth orders members: those without which etcd does best go first.
func (m membership) worth(member etcd.Member) int {
	switch {
	case member.Learner:
		return 0
	case !m.alive[member.ID]:
		return 1
	case member.ID != m.leader:
		return 2
	}
	return 3
}

// removable is nil when the members that leave can be removed one after the other, else an *etcd.QuorumError.
func (m membership) removable() error {
	left := slices.Clone(m.members)
	for _, member := range m.leaving {
		if err := etcd.CanRemove(left, m.alive, member.ID); err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(o etcd.Member) bool { return o.ID == member.ID })
	}
	return nil
}

// heir is the member that is to lead: of those that stay the one that has come farthest.
func (m membership) heir() (id uint64) {
	for _, member := range m.members {
		stays := !slices.ContainsFunc(m.leaving, func(o etcd.Member) bool { return o.ID == member.ID })
		if stays && !member.Learner && m.alive[member.ID] && (id == 0 || m.applied[member.ID] > m.applied[id]) {
			id = member.ID
		}
	}
	return id
}

// lasts tells whether any voting member stays.
func (m membership) lasts() bool {
	return slices.ContainsFunc(m.members, func(member etcd.Member) bool {
		return !member.Learner && !slices.ContainsFunc(m.leaving, func(o etcd.Member) bool { return o.ID == member.ID })
	})
}

// askEtcd finds out whether etcd can do without the members of the hosts. It ends with hosts that are alone in their
// document and have all its voting members, or by force.
func (l *Leave) askEtcd(ctx context.Context, alone, force bool) (ends bool, err error) {
	m, err := l.settled(ctx)
	l.learnAddresses(m.members)
	var refused *etcd.QuorumError
	switch {
	case err == nil || ctx.Err() != nil:
		return false, err
	case !errors.As(err, &refused):
		if alone { // such as a control plane that was never finished
			l.warn("etcd does not answer, and may keep a member of %s: %v", l, err)
		}
		return alone, err
	case !m.lasts() && (alone || force && len(l.nodes) > 0):
		return true, nil
	case !refused.After || !force || len(l.nodes) == 0:
		return false, err
	}
	l.keep(m)
	return false, nil
}

// keep leaves those members in the list without which there would be no quorum: etcd refuses to remove them, too.
func (l *Leave) keep(m membership) {
	left := slices.Clone(m.members)
	for _, member := range m.leaving {
		if err := etcd.CanRemove(left, m.alive, member.ID); err != nil {
			l.kept[member.ID] = true
			l.warn("etcd member %s stays in the list, and etcd loses its quorum with its host; hint: myadm etcd restore is the way back", member)
			continue
		}
		left = slices.DeleteFunc(left, func(o etcd.Member) bool { return o.ID == member.ID })
	}
}

// reached tells whether a host that leaves is one that can be asked.
func (l *Leave) reached(h config.Host) bool {
	for _, n := range l.nodes {
		if n.Spec.Name == h.Name && n.Spec.Address == h.Address {
			return true
		}
	}
	return false
}

// owner is the host that leaves whose member it is; nil when it is nobody's. Members are known by the address of their
// peer URL and by name; one that has never been started has no name, and of a host that is gone the address may not be
// known.
func (l *Leave) owner(m etcd.Member) *config.Host {
	at := peerAddresses(m)
	for _, h := range l.c.Config.Spec.Hosts {
		if slices.Contains(at, addressOf(h)) {
			return nil // another host is there now, whatever it was named
		}
	}
	for i := range l.c.Leaving {
		h := &l.c.Leaving[i]
		if m.Started() && m.Name == h.Name || slices.Contains(at, addressOf(*h)) {
			return h
		}
	}
	return nil
}

func peerAddresses(m etcd.Member) []netip.Addr {
	var all []netip.Addr
	for _, raw := range m.PeerURLs {
		u, err := url.Parse(raw)
		if err != nil {
			continue
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
			all = append(all, addr)
		}
	}
	return all
}

// learnAddresses completes what is known of hosts that are gone: their members have the address that the nodes used.
func (l *Leave) learnAddresses(members []etcd.Member) {
	for _, m := range members {
		h := l.owner(m)
		if at := peerAddresses(m); h != nil && h.AdvertiseAddress == "" && len(at) > 0 {
			h.AdvertiseAddress = at[0].String()
		}
	}
}
