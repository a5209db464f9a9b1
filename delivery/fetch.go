package delivery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/myadm/myadm/courier/wire"
)

// failure is a blob that a courier could not get.
type failure struct {
	want
	why wire.Failed
}

// err is the failure as a user reads it.
func (f failure) err() error { return fmt.Errorf("fetch %s: %w", f.name, f.why) }

// final tells whether no other way will help: the fault is the host's own.
func (f failure) final() bool { return f.why.Cause == wire.CauseSpace || f.why.Cause == wire.CauseHost }

// fetch has a host fetch blobs, each from its sources, and tells which arrive as they do. What failed for a fault of the
// host's own is an error.
func (s *site) fetch(ctx context.Context, request *wire.Fetch, wants map[string]want, arrived func(want)) ([]failure, error) {
	var failed []failure
	err := s.ask(ctx, request, func(e wire.Event) {
		switch e := e.(type) {
		case wire.Progress:
			if w, ok := wants[e.SHA256]; ok {
				w.told(min(e.Bytes, w.blob.Size))
			}
		case wire.Fetched:
			if w, ok := wants[e.SHA256]; ok {
				w.told(w.blob.Size)
				arrived(w)
			}
		case wire.Failed:
			if w, ok := wants[e.SHA256]; ok {
				failed = append(failed, failure{w, e})
			}
		}
	})
	var errs []error
	for _, f := range failed {
		if f.final() {
			errs = append(errs, f.err())
		}
	}
	return failed, errors.Join(append(errs, err)...)
}

// blobOf is a want in the words of a request.
func blobOf(w want, sources ...wire.Source) wire.Blob {
	return wire.Blob{SHA256: w.blob.SHA256, Size: w.blob.Size, Path: w.path, Mode: fs.FileMode(w.mode), Sources: sources}
}

// download has a host download what there are origins for. What is left is to come by another way.
func (d *Delivery) download(ctx context.Context, s *site, wants []want) (left []want, err error) {
	origins, err := d.Origins(ctx)
	if err != nil {
		return nil, err
	}
	request := &wire.Fetch{Net: d.Net}
	asked := map[string]want{}
	for _, w := range wants {
		origin, known := origins[w.blob.SHA256]
		_, twice := asked[w.blob.SHA256]
		if !known || twice || origin.Member != "" {
			left = append(left, w)
			continue
		}
		asked[w.blob.SHA256] = w
		request.Blobs = append(request.Blobs, blobOf(w, origin.Source))
	}
	if len(request.Blobs) == 0 {
		return left, nil
	}
	failed, err := s.fetch(ctx, request, asked, func(w want) { d.swarm.has(s, w) })
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, f := range failed {
		left = append(left, f.want)
		errs = append(errs, f.err())
	}
	if len(errs) > 0 && d.Way == Download {
		return nil, errors.Join(errs...)
	}
	if len(errs) > 0 {
		d.Warn(ctx, fmt.Sprintf("%d of %d downloads failed and come another way: %v", len(errs), len(request.Blobs), errs[0]))
	}
	return left, nil
}
