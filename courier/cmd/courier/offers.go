package main

import (
	"context"
	"errors"
	"io"
	"maps"

	"github.com/myadm/myadm/courier/wire"
)

// offered is an offer, or why there is none.
type offered struct {
	wire.Offer
	err error
}

// handOn hands on the offers that come until the input ends, and tells whether that is what ended them. A wrong one is the
// last.
func handOn(ctx context.Context, in *wire.Input, offers chan<- offered) (ended bool) {
	for {
		o, err := in.Offer()
		if errors.Is(err, io.EOF) {
			return true
		}
		select {
		case offers <- offered{o, err}:
		case <-ctx.Done():
			return true
		}
		if err != nil {
			return false
		}
	}
}

// add makes blobs known. Whether a path has a file is seen when a peer asks: it may have moved since it was offered.
func (s *server) add(blobs map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.paths, blobs)
}

// path is where a blob is, or was.
func (s *server) path(sum string) (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	path, known := s.paths[sum]
	return path, known
}
