package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Retries: a server gets attempts without a byte of progress, with ever longer pauses.
const (
	attempts   = 5
	firstPause = 500 * time.Millisecond
	maxPause   = 15 * time.Second
)

// retry calls try until it has no error that passes by itself, or has made no progress too often.
func (f *Fetcher) retry(ctx context.Context, try func(context.Context) (progress bool, err error)) error {
	for failed := 0; ; {
		progress, err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if progress {
			failed = 0
		}
		failed++
		if !transient(err) || failed >= attempts {
			return err
		}
		if err := f.sleep(ctx, pause(failed, err)); err != nil {
			return err
		}
	}
}

// pause grows twofold with every failure, up to a cap, and is spread by a quarter, lest everybody come back at once.
// What the server asks for counts as far as the cap.
func pause(failed int, err error) time.Duration {
	if errors.Is(err, errMisfit) {
		return 0
	}
	wait := min(firstPause<<(failed-1), maxPause)
	var status *statusError
	if errors.As(err, &status) {
		wait = min(max(wait, status.retryAfter), maxPause)
	}
	return wait - time.Duration(rand.Int64N(int64(wait)/4))
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// transferError is a connection that could not be made or that broke.
type transferError struct{ error }

func (e *transferError) Unwrap() error { return e.error }

var errStalled = errors.New("no byte came for too long")

// statusError is an answer that is not the file.
type statusError struct {
	code       int
	retryAfter time.Duration
}

func (e *statusError) Error() string { return strconv.Itoa(e.code) + " " + http.StatusText(e.code) }

func newStatusError(r *http.Response) error {
	seconds, _ := strconv.Atoi(r.Header.Get("Retry-After")) // the other form, a date, is rare
	return &statusError{r.StatusCode, time.Duration(seconds) * time.Second}
}

// statusOf is the HTTP status that an error tells of; 0: none.
func statusOf(err error) int {
	var status *statusError
	if errors.As(err, &status) {
		return status.code
	}
	var registry *transport.Error
	if errors.As(err, &registry) {
		return registry.StatusCode
	}
	return 0
}

// transient tells whether an error may pass by itself.
func transient(err error) bool {
	switch statusOf(err) {
	case 0:
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
	if errors.Is(err, errMisfit) {
		return true
	}
	var transfer *transferError
	return errors.As(err, &transfer) && !settled(err)
}

// settled tells whether a transfer failed for a reason that does not change by asking again.
func settled(err error) bool {
	var dns *net.DNSError
	return errors.Is(err, errPlain) || errors.Is(err, errRedirects) || errors.Is(err, http.ErrSchemeMismatch) || untrusted(err) || errors.As(err, &dns) && dns.IsNotFound
}

// untrusted tells whether the server's certificate, or that it has none, is what is wrong.
func untrusted(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		alert        tls.AlertError
		authority    x509.UnknownAuthorityError
		name         x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &authority) ||
		errors.As(err, &name) || errors.As(err, &invalid)
}
