package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Member is an entry of the cluster's list of members.
type Member struct {
	ID         uint64
	Name       string // empty until the member has started for the first time
	PeerURLs   []string
	ClientURLs []string // empty until the member has started for the first time
	Learner    bool     // does not vote yet
}

// Started says that the member has been running, at least once.
func (m Member) Started() bool { return m.Name != "" }

// String is the member in messages: its name, or its peer URL while it has none.
func (m Member) String() string {
	switch {
	case m.Name != "":
		return m.Name
	case len(m.PeerURLs) > 0:
		return m.PeerURLs[0]
	}
	return FormatID(m.ID)
}

// FormatID is a member's ID as etcd's tools print it: in hex.
func FormatID(id uint64) string { return strconv.FormatUint(id, 16) }

// pollInterval is how often a change is tried again that etcd cannot take yet; there is nothing that could be watched.
const pollInterval = 100 * time.Millisecond

// settleTime is how long a change of the membership is tried again while etcd calls its cluster unhealthy: twice what it
// wants every voting member to have been connected.
const settleTime = 10 * time.Second

// Members are all members, by a linearizable read.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	return c.members(ctx)
}

// KnownMembers are the members that the first endpoint that answers knows of.
func (c *Client) KnownMembers(ctx context.Context) ([]Member, error) {
	return c.members(ctx, clientv3.WithSerializable())
}

func (c *Client) members(ctx context.Context, opts ...clientv3.OpOption) ([]Member, error) {
	var members []Member
	err := c.call(ctx, func(ctx context.Context, e *clientv3.Client) error {
		resp, err := e.MemberList(ctx, opts...)
		if err == nil {
			members = membersOf(resp.Members)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	return members, nil
}

func membersOf(list []*etcdserverpb.Member) []Member {
	members := make([]Member, 0, len(list))
	for _, m := range list {
		members = append(members, Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner})
	}
	return members
}

// AddLearner adds a member that does not vote. A learner that is there already for the peer URL and has not been started
// is returned as it is, so that a request whose answer was lost can be made again. The error is a *TooManyLearnersError
// while another one is not promoted yet. With several voting members etcd refuses until a quorum of them, and of the new
// one, has been connected for 5 s; AddLearner waits for that, too.
func (c *Client) AddLearner(ctx context.Context, peerURL string) (Member, error) {
	var added Member
	err := c.change(ctx, func(ctx context.Context, e *clientv3.Client) error {
		resp, err := e.MemberAddAsLearner(ctx, []string{peerURL})
		if err == nil {
			added = membersOf([]*etcdserverpb.Member{resp.Member})[0]
		}
		return err
	})
	if err == nil {
		return added, nil
	}
	// Requests of the same second have the same ID.
	if errors.Is(err, rpctypes.ErrPeerURLExist) || errors.Is(err, rpctypes.ErrMemberExist) {
		members, listErr := c.Members(ctx)
		if listErr != nil {
			return Member{}, listErr
		}
		i := slices.IndexFunc(members, func(m Member) bool { return m.Learner && !m.Started() && m.hasPeer(peerURL) })
		if i >= 0 {
			return members[i], nil
		}
	}
	if errors.Is(err, rpctypes.ErrTooManyLearners) {
		return Member{}, &TooManyLearnersError{PeerURL: peerURL}
	}
	return Member{}, fmt.Errorf("add %s as a learner: %w%s", peerURL, err, hint(err))
}

// Promote makes a learner a voting member. It tries until the learner has caught up with the leader or ctx ends. It is no
// error if the member votes already.
func (c *Client) Promote(ctx context.Context, id uint64) error {
	err := retry(ctx, func(err error) bool { return errors.Is(err, rpctypes.ErrMemberLearnerNotReady) }, func() error {
		return c.change(ctx, func(ctx context.Context, e *clientv3.Client) error {
			_, err := e.MemberPromote(ctx, id)
			return err
		})
	})
	switch {
	case err == nil, errors.Is(err, rpctypes.ErrMemberNotLearner):
		return nil
	}
	return fmt.Errorf("promote member %s: %w%s", FormatID(id), err, hint(err))
}

// Remove removes a member. It is no error if there is none of that ID. Whether quorum is kept is for CanRemove to say
// before; etcd itself refuses only what its connections tell it.
func (c *Client) Remove(ctx context.Context, id uint64) error {
	err := c.change(ctx, func(ctx context.Context, e *clientv3.Client) error {
		_, err := e.MemberRemove(ctx, id)
		return err
	})
	if err == nil || errors.Is(err, rpctypes.ErrMemberNotFound) {
		return nil
	}
	return fmt.Errorf("remove member %s: %w%s", FormatID(id), err, hint(err))
}

// MoveLeader makes a voting member the leader, and returns when it is.
func (c *Client) MoveLeader(ctx context.Context, to uint64) error {
	members, err := c.Members(ctx)
	if err != nil {
		return err
	}
	for _, o := range Observe(ctx, c, members) {
		if o.Err != nil || o.Status.Leader != o.Status.ID {
			continue
		}
		if o.Status.ID == to {
			return nil
		}
		err := c.at(ctx, o.Status.Endpoint, func(ctx context.Context, e *clientv3.Client) error {
			_, err := e.MoveLeader(ctx, to)
			return err
		})
		if err != nil {
			return fmt.Errorf("make member %s the leader: %w", FormatID(to), err)
		}
		return nil
	}
	return fmt.Errorf("make member %s the leader: found no leader that could hand over", FormatID(to))
}

// change makes a request that changes the membership, and tries it again while the cluster settles.
func (c *Client) change(ctx context.Context, request func(context.Context, *clientv3.Client) error) error {
	patient, cancel := context.WithTimeoutCause(ctx, settleTime, errUnsettled)
	defer cancel()
	return retry(patient, unsettled, func() error { return c.call(ctx, request) })
}

var errUnsettled = fmt.Errorf("gave up after %s", settleTime)

// retry tries until there is an error of another kind, or none. When ctx ends, the error tells why and wraps the last.
func retry(ctx context.Context, again func(error) bool, try func() error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var last error
	for {
		err := try()
		if ctx.Err() != nil && last != nil && err != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
		if err == nil || !again(err) {
			return err
		}
		last = err
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// hint says what to do about what does not pass by itself.
func hint(err error) string {
	if errors.Is(err, rpctypes.ErrUnhealthy) || errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) {
		return "; hint: etcd changes its membership only while enough voting members are up and connected: start those that are down, " +
			"or remove those that are gone for good"
	}
	return ""
}
