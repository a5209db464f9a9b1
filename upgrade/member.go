package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/manifests"
)

// memberPause lies between two looks at a member that does not take part yet.
const memberPause = 100 * time.Millisecond

// members are the members of etcd, each with what it tells of itself, and the index of the node's own; -1: it has none.
func members(ctx context.Context, c *cluster.Cluster, n *cluster.Node) (*etcd.Client, []etcd.Observation, int, error) {
	client, err := c.Etcd(ctx)
	if err != nil {
		return nil, nil, -1, err
	}
	list, err := client.KnownMembers(ctx)
	if err != nil {
		return nil, nil, -1, err
	}
	own := slices.IndexFunc(list, func(m etcd.Member) bool {
		return slices.ContainsFunc(m.PeerURLs, func(peer string) bool {
			u, err := url.Parse(peer)
			if err != nil {
				return false
			}
			at, _, _ := net.SplitHostPort(u.Host)
			return at == n.Spec.AdvertiseAddress
		})
	})
	return client, etcd.Observe(ctx, client, list), own, nil
}

// yield makes sure that etcd can do without the node's member for a while: all others take part, and the leader is one of
// them. A cluster of one member has nothing to yield to.
func yield(ctx context.Context, c *cluster.Cluster, n *cluster.Node) error {
	client, all, own, err := members(ctx, c, n)
	if err != nil {
		return err
	}
	if own < 0 {
		return fmt.Errorf("etcd has no member on %s; hint: myadm etcd members", n.Name())
	}
	var heir *etcd.Member
	var dead []string
	for i, o := range all {
		switch {
		case i == own || o.Member.Learner:
		case !o.Alive():
			dead = append(dead, o.Member.String())
		case heir == nil:
			heir = &all[i].Member
		}
	}
	if len(dead) > 0 {
		return fmt.Errorf("etcd would be without %s and %s at the same time; hint: bring back %s first (myadm etcd members)",
			n.Name(), strings.Join(dead, ", "), strings.Join(dead, ", "))
	}
	if own := all[own]; heir == nil || own.Err != nil || own.Status.Leader != own.Member.ID {
		return nil
	}
	return client.MoveLeader(ctx, heir.ID)
}

// waitMember waits until the node's member takes part: it knows a leader, has no alarm, and has applied what was committed.
func waitMember(ctx context.Context, c *cluster.Cluster, n *cluster.Node) error {
	tick := time.NewTicker(memberPause)
	defer tick.Stop()
	var last error
	for {
		err := memberMissing(ctx, c, n)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return &illError{Component: manifests.EtcdName, Err: last}
		case <-tick.C:
		}
	}
}

// maxLag is how many entries a member may have still to apply: as many as a busy cluster writes in a moment.
const maxLag = 1000

func memberMissing(ctx context.Context, c *cluster.Cluster, n *cluster.Node) error {
	_, all, own, err := members(ctx, c, n)
	switch {
	case err != nil:
		return err
	case own < 0:
		return errors.New("it is no member")
	case !all[own].Alive():
		return errors.New("the member does not take part")
	}
	status := all[own].Status
	if len(status.Errors) > 0 {
		return fmt.Errorf("the member says %s", strings.Join(status.Errors, ", "))
	}
	var committed uint64
	for _, o := range all {
		if o.Err == nil {
			committed = max(committed, o.Status.RaftIndex)
		}
	}
	if status.AppliedIndex+maxLag < committed {
		return fmt.Errorf("the member has applied %d of %d entries", status.AppliedIndex, committed)
	}
	return nil
}

// lone tells whether etcd has one member, so that nobody else has what it holds.
func lone(ctx context.Context, c *cluster.Cluster, n *cluster.Node) (bool, error) {
	_, all, _, err := members(ctx, c, n)
	return len(all) == 1, err
}
