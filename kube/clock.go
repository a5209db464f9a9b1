package kube

import (
	"net/http"
	"sync/atomic"
	"time"
)

// dated reads the API server's clock off its answers (RFC 9110, section 6.6.1).
type dated struct {
	next  http.RoundTripper
	clock *clock
}

// clock is the API server's, as its last answer had it.
type clock struct{ ahead atomic.Int64 } // of this machine's, in nanoseconds

func (d dated) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(req)
	if err == nil {
		if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			d.clock.ahead.Store(int64(time.Until(at)))
		}
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport below, to close its idle connections.
func (d dated) WrappedRoundTripper() http.RoundTripper { return d.next }

// Now is the time by the API server's clock, to about a second and the way of its last answer. Before there was one it is
// the time by this machine's.
func (c *Client) Now() time.Time { return time.Now().Add(time.Duration(c.clock.ahead.Load())) }
