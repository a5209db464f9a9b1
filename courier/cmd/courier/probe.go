package main

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myadm/myadm/courier/wire"
)

// The bounds of a probe.
const (
	probeParallel = 16
	probeTimeout  = 5000 // milliseconds for each target
)

// probe tries all targets and returns how many it could not reach.
func probe(ctx context.Context, request *wire.Probe, out *output) (int, error) {
	clients, err := newClients(request.Net)
	if err != nil {
		return 0, err
	}
	timeout := time.Duration(cmp.Or(request.TimeoutMillis, probeTimeout)) * time.Millisecond
	waiting := make(chan wire.Target, len(request.Targets))
	for _, t := range request.Targets {
		waiting <- t
	}
	close(waiting)
	var failed atomic.Int64
	var all sync.WaitGroup
	for range probeParallel {
		all.Go(func() {
			for t := range waiting {
				probed := try(ctx, clients, t, timeout)
				if ctx.Err() != nil {
					return
				}
				if !probed.Reached {
					failed.Add(1)
				}
				out.emit(probed)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	out.emit(wire.Done{Failed: int(failed.Load())})
	return int(failed.Load()), nil
}

// try tries one target.
func try(ctx context.Context, clients *clients, t wire.Target, timeout time.Duration) wire.Probed {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	status, err := 0, error(nil)
	if t.Address != "" {
		err = connect(ctx, t.Address)
	} else {
		status, err = head(ctx, clients, t.Source)
	}
	probed := wire.Probed{Target: t.Name(), Reached: err == nil, Status: status, Millis: time.Since(began).Milliseconds()}
	if err != nil {
		probed.Error = err.Error()
	}
	return probed
}

func connect(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func head(ctx context.Context, clients *clients, s wire.Source) (int, error) {
	resp, err := clients.do(ctx, http.MethodHead, s, nil)
	if err != nil {
		return 0, unreached(err, s.URL)
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}
