package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
)

// DefaultPatience is how long a change is tried again while the API server cannot be reached or is not ready.
const DefaultPatience = time.Minute

// retryPause lies between two attempts. What is waited for (an API server's start, an election of etcd) cannot be watched.
const retryPause = 200 * time.Millisecond

// NotFound tells whether err says that an object, or its kind, is not there.
func NotFound(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }

// patience says how long err deserves another attempt, as a share of the client's patience; 0: it is final.
//
// An API server that starts answers in many ways before it is ready: connection refused, 500 and 503, timeouts of etcd,
// 403 until its own RBAC roles are written, 404 until kube-system and kube-public are made, 500 "failed to allocate
// a serviceIP" or, for a certain address, 422 until the ServiceCIDR is there, or until it has taken back what a request
// that was cut had reserved. 403, 404 and 422 are as often real, and so get less patience.
func patience(err error, all time.Duration) time.Duration {
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	_, judged := asStatus(err)
	switch {
	case err == nil, errors.Is(err, ErrGone), errors.As(err, &verify), errors.As(err, &authority):
		return 0
	case apierrors.IsForbidden(err), NotFound(err), noServiceCIDR(err), addressTaken(err):
		return all / 4
	case apierrors.IsConflict(err), apierrors.IsTooManyRequests(err), apierrors.IsInternalError(err),
		apierrors.IsServiceUnavailable(err), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err),
		apierrors.IsStoreReadError(err), apierrors.IsUnexpectedServerError(err):
		return all
	case judged:
		return 0 // the API server has judged the request itself: 400, 401, 405, 409 already exists, 413, 422
	default:
		return all // the network
	}
}

// asStatus is what the API server said itself, if it was the API server.
func asStatus(err error) (status apierrors.APIStatus, ok bool) {
	ok = errors.As(err, &status)
	return status, ok
}

// retry calls do until it succeeds, fails for good, or patience or ctx ends, and returns the last error.
func (c *Client) retry(ctx context.Context, do func() error) error {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	var last error
	for {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil && last != nil {
			return fmt.Errorf("%w; before that: %w", ctx.Err(), last)
		}
		if time.Since(start) >= patience(err, c.patience) {
			return err
		}
		last = err
		timer.Reset(retryPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; before that: %w", ctx.Err(), last)
		}
	}
}
