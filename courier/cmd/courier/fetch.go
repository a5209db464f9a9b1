package main

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/myadm/myadm/courier/wire"
)

// What a request leaves open.
const (
	defaultParallel = 4
	defaultPasses   = 3
	defaultStall    = 30 // seconds
)

// progressEvery is how often progress is told.
const progressEvery = 250 * time.Millisecond

// fetch gets all blobs, several at a time, and returns how many it did not get.
func fetch(ctx context.Context, request *wire.Fetch, out *output) (failed int, err error) {
	clients, err := newClients(request.Net)
	if err != nil {
		return 0, err
	}
	if err := enoughSpace(request.Blobs); err != nil {
		return 0, err
	}
	downloads := make([]*download, len(request.Blobs))
	waiting := make(chan *download, len(downloads))
	for i, b := range request.Blobs {
		downloads[i] = &download{
			blob: b, clients: clients,
			passes: cmp.Or(request.Passes, defaultPasses),
			stall:  time.Duration(cmp.Or(request.StallSeconds, defaultStall)) * time.Second,
		}
		waiting <- downloads[i]
	}
	close(waiting)

	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go tellProgress(watching, downloads, out)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range cmp.Or(request.Parallel, defaultParallel) {
		all.Go(func() {
			for d := range waiting {
				event := d.run(ctx)
				if ctx.Err() != nil {
					return
				}
				out.emit(event)
				if _, bad := event.(wire.Failed); bad {
					mu.Lock()
					failed++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return failed, context.Cause(ctx)
	}
	var received int64
	for _, d := range downloads {
		received += d.received.Load()
	}
	out.emit(wire.Done{Received: received, Failed: failed})
	return failed, nil
}

// tellProgress tells what has changed since the last time.
func tellProgress(ctx context.Context, downloads []*download, out *output) {
	told := make([]int64, len(downloads))
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for i, d := range downloads {
			if n := d.onDisk.Load(); n != told[i] {
				told[i] = n
				out.emit(wire.Progress{SHA256: d.blob.SHA256, Bytes: n, Size: max(d.blob.Size, 0)})
			}
		}
	}
}
