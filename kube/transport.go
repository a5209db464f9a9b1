package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// bounded gives every request a deadline, from its start to the end of the answer's body. rest.Config.Timeout cannot be
// used for this: it would also cut watches, which live as long as their caller wants.
type bounded struct {
	next    http.RoundTripper
	timeout time.Duration
}

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if streams(req) {
		return b.next.RoundTrip(req)
	}
	ctx, cancel := context.WithTimeout(req.Context(), b.timeout)
	resp, err := b.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		if ctx.Err() != nil && req.Context().Err() == nil {
			err = fmt.Errorf("no answer within %s", b.timeout)
		}
		cancel()
		return nil, err
	}
	resp.Body = &cancelBody{resp.Body, cancel}
	return resp, nil
}

// WrappedRoundTripper lets client-go find the transport below, to close its idle connections.
func (b bounded) WrappedRoundTripper() http.RoundTripper { return b.next }

// streams tells the requests whose answer ends when the caller wants it to.
func streams(req *http.Request) bool {
	q := req.URL.Query()
	return q.Get("watch") == "true" || q.Get("watch") == "1" || q.Get("follow") == "true"
}

type cancelBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancelBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
