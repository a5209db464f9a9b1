package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TooManyLearnersError says that another learner has to be promoted or removed before one can be added: etcd takes one at
// a time, unless its flag --max-learners says more.
type TooManyLearnersError struct{ PeerURL string }

func (e *TooManyLearnersError) Error() string {
	return fmt.Sprintf("etcd takes no learner for %s while another one is not promoted; hint: wait until it is, or remove it", e.PeerURL)
}

var errNotForLearners = rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)

// code is the gRPC code of an error, whichever way the client wrapped it.
func code(err error) codes.Code {
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return etcd.Code()
	}
	var grpc interface{ GRPCStatus() *status.Status }
	if errors.As(err, &grpc) {
		return grpc.GRPCStatus().Code()
	}
	return codes.Unknown
}

func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || code(err) == codes.DeadlineExceeded
}

// servedElsewhere says that an endpoint has failed, and not what was asked of it.
func servedElsewhere(err error) bool {
	if timedOut(err) || errors.Is(err, errNotForLearners) {
		return true
	}
	c := code(err)
	return c == codes.Unavailable || c == codes.DataLoss
}

// unsettled says that the cluster is electing a leader, or that its members have not been connected with each other for
// as long as etcd wants them to (5 s) before it changes its membership: both pass by themselves.
func unsettled(err error) bool {
	for _, passing := range []error{
		rpctypes.ErrUnhealthy, rpctypes.ErrNoLeader, rpctypes.ErrNotLeader, rpctypes.ErrLeaderChanged,
		rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
