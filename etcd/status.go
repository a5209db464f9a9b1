package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Status is what a member tells of itself.
type Status struct {
	Endpoint     string // the client URL that was asked
	Version      string // of etcd, such as 3.7.0
	ID           uint64
	Leader       uint64 // the member that it takes for the leader; 0: it knows none
	Learner      bool
	DBSize       int64    // bytes of the database's file
	DBSizeInUse  int64    // bytes of it that hold something
	Revision     int64    // of the key space
	RaftIndex    uint64   // the last entry that it knows to be committed
	AppliedIndex uint64   // the last entry that is in its database
	Errors       []string // such as NOSPACE, CORRUPT, and that there is no leader
}

// Status asks the member at a client URL.
func (c *Client) Status(ctx context.Context, endpoint string) (Status, error) {
	var s Status
	err := c.at(ctx, endpoint, func(ctx context.Context, e *clientv3.Client) error {
		// Client.Status of etcd's own makes a connection for each request.
		resp, err := etcdserverpb.NewMaintenanceClient(e.ActiveConnection()).Status(ctx, &etcdserverpb.StatusRequest{})
		if err != nil {
			return rpctypes.Error(err)
		}
		s = Status{
			Endpoint:     endpoint,
			Version:      resp.Version,
			ID:           resp.Header.GetMemberId(),
			Leader:       resp.Leader,
			Learner:      resp.IsLearner,
			DBSize:       resp.DbSize,
			DBSizeInUse:  resp.DbSizeInUse,
			Revision:     resp.Header.GetRevision(),
			RaftIndex:    resp.RaftIndex,
			AppliedIndex: resp.RaftAppliedIndex,
			Errors:       resp.Errors,
		}
		return nil
	})
	return s, err
}

// healthKey need not exist: what counts is that the leader had to ask a quorum before it could say so.
const healthKey = "health"

// Health is a linearizable read.
func (c *Client) Health(ctx context.Context) error {
	err := c.call(ctx, func(ctx context.Context, e *clientv3.Client) error {
		_, err := e.Get(ctx, healthKey)
		return err
	})
	if err == nil || errors.Is(err, rpctypes.ErrPermissionDenied) { // who may not read it was told so by a quorum
		return nil
	}
	return fmt.Errorf("read with a quorum: %w", err)
}

// Observation is a member and what it tells of itself.
type Observation struct {
	Member Member
	Status Status
	Err    error // nil: Status is the member's
}

// Alive says that the member runs and takes part: a voting member has a leader. One that was cut off from the others
// answers too, but no quorum can count on it.
func (o Observation) Alive() bool {
	return o.Err == nil && (o.Status.Learner || o.Status.Leader != 0)
}

// Observe asks all members at once for their status, each at its own client URLs, and keeps their order.
func Observe(ctx context.Context, r Reader, members []Member) []Observation {
	all := make([]Observation, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			all[i].Member = m
			all[i].Status, all[i].Err = statusOf(ctx, r, m)
		})
	}
	wg.Wait()
	return all
}

// Alive is the members' Alive by their ID, as Plan and CanRemove take it.
func Alive(observations []Observation) map[uint64]bool {
	alive := make(map[uint64]bool, len(observations))
	for _, o := range observations {
		alive[o.Member.ID] = o.Alive()
	}
	return alive
}

func statusOf(ctx context.Context, r Reader, m Member) (Status, error) {
	if len(m.ClientURLs) == 0 {
		return Status{}, fmt.Errorf("member %s has not been started yet", m)
	}
	var errs []error
	for _, endpoint := range m.ClientURLs {
		s, err := r.Status(ctx, endpoint)
		if err == nil && s.ID != m.ID {
			// A host that was set up anew answers there, or one that was given the address of another.
			err = fmt.Errorf("etcd at %s is member %s, not %s", endpoint, FormatID(s.ID), FormatID(m.ID))
		}
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	return Status{}, errors.Join(errs...)
}
