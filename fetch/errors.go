package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// mask is a URL as messages may show it: without credentials, and without a query, which holds signatures where servers
// send to their stores.
func mask(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	text := shown.String()
	if u.User != nil {
		text = strings.Replace(text, "://", "://***@", 1)
	}
	if u.RawQuery != "" {
		text += "?***"
	}
	return text
}

// describe is an error about an item: which, where, what, and what to do.
func (f *Fetcher) describe(item string, u *url.URL, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("fetch %s: %w", item, context.Canceled)
	}
	where := mask(u)
	var about *url.Error
	if errors.As(err, &about) { // its text has the address as it was asked for
		if at, e := u.Parse(about.URL); e == nil && mask(at) != where {
			where += " (sent on to " + mask(at) + ")"
		}
		err = &unaddressed{cause: about.Err, whole: err}
	}
	hint := ""
	if text := f.hint(u, err); text != "" && !strings.Contains(err.Error(), "; hint: ") {
		hint = "; hint: " + text
	}
	return fmt.Errorf("fetch %s: %s: %w%s", item, where, err, hint)
}

// unaddressed is an error without the address in its text.
type unaddressed struct{ cause, whole error }

func (e *unaddressed) Error() string { return e.cause.Error() }
func (e *unaddressed) Unwrap() error { return e.whole }

// hint is what a user can do about an error.
func (f *Fetcher) hint(u *url.URL, err error) string {
	server := u.Host
	if f.mirror != nil {
		server = "the mirror " + server
	}
	var (
		mismatch *mismatchError
		dns      *net.DNSError
	)
	switch code := statusOf(err); {
	case errors.As(err, &mismatch):
		return "the file was changed on its way or where it is kept, and nothing of it was used; try again, or tell whoever runs " + server
	case code == http.StatusNotFound:
		return server + " does not have it; check the version"
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return server + " wants other credentials; `docker login " + u.Host + "` writes them where myadm looks"
	case code == http.StatusProxyAuthRequired:
		return "the proxy wants credentials; write them into HTTPS_PROXY"
	case code != 0:
		return server + " has trouble; try again, what was got is kept"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "a mirror without TLS is written http://"
	case untrusted(err):
		return "--ca-file names a file with the certificate authority of " + server
	case errors.As(err, &dns):
		return "check the name, the network and HTTPS_PROXY; --mirror names another server, --bundle needs none"
	}
	var transfer *transferError
	if errors.As(err, &transfer) {
		return "check the network and HTTPS_PROXY, and try again: what was got is kept; --mirror names another server"
	}
	return ""
}
