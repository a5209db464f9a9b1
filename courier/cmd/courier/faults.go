package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"syscall"

	"github.com/myadm/myadm/courier/wire"
)

// fault is an error of which is known what it means for the blob.
type fault struct {
	cause wire.Cause
	err   error

	passing bool // asking the same source again may help
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// content is a source that has other bytes than were asked for. It will not have the right ones a second later.
func content(format string, args ...any) *fault {
	return &fault{cause: wire.CauseContent, err: fmt.Errorf(format, args...)}
}

// local is a fault of the host, whatever the source.
func local(err error) *fault {
	var known *fault
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return &fault{cause: wire.CauseSpace, err: fmt.Errorf("%w; hint: make room and run again, what is there is kept", err)}
	default:
		return &fault{cause: wire.CauseHost, err: err}
	}
}

// answered is a status that is no content. A peer that does not know a blob may be told of it in a moment.
func answered(resp *http.Response, s wire.Source) *fault {
	code := resp.StatusCode
	f := &fault{
		cause: wire.CauseSource,
		err:   fmt.Errorf("%d %s", code, http.StatusText(code)),
		passing: code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500 ||
			code == http.StatusNotFound && s.Pin != "",
	}
	if code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusProxyAuthRequired {
		f.err = fmt.Errorf("%w; hint: it wants other credentials", f.err)
	}
	return f
}

// unreached is a request that failed. The error of net/http names the URL with its query, where secrets can be; this one
// names where the request was redirected to, if it was, without that.
func unreached(err error, asked string) *fault {
	var known *fault
	if errors.As(err, &known) {
		return known
	}
	f := &fault{cause: wire.CauseSource, passing: true}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		f.passing = false
		err = fmt.Errorf("%w; hint: the CA of the server, or of a proxy that looks into TLS, has to be given", certificate)
	} else if errors.Is(err, errRedirect) || errors.Is(err, errPin) {
		f.passing = false
	}
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
		if where := wire.CleanURL(at.URL); where != wire.CleanURL(asked) {
			err = fmt.Errorf("redirected to %s: %w", where, err)
		}
	}
	f.err = err
	return f
}
