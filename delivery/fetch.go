package delivery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/courier/wire"
)

// failure is a blob that a courier could not get.
type failure struct {
	want
	why wire.Failed
}

// lost is a failure that another way may mend.
func lost(w want, err error) failure {
	return failure{w, wire.Failed{SHA256: w.blob.SHA256, Path: w.path, Cause: wire.CauseSource, Attempts: []wire.Attempt{{Error: err.Error()}}}}
}

// err is the failure as a user reads it.
func (f failure) err() error {
	return fmt.Errorf("fetch %s: %w%s", f.name, f.why, hints[f.why.Cause])
}

// hints are what to do about failures whose own words do not say.
var hints = map[wire.Cause]string{
	wire.CauseContent: "; hint: what is there is not what its maker published, and nothing of it was used; mend the server and run again",
	wire.CauseSource:  "; hint: see to the server and to the host's way there; --delivery upload needs none",
}

// final tells whether no other way will help: the fault is the host's own.
func (f failure) final() bool { return f.why.Cause == wire.CauseSpace || f.why.Cause == wire.CauseHost }

// parcel is what a courier gets in one: a blob, or an archive of several.
type parcel struct {
	wants []want
	size  int64 // of what travels, bytes
}

// told tells that so many bytes of a parcel are on the host.
func (p parcel) told(bytes int64) {
	for _, w := range p.wants {
		if p.size > 0 {
			w.told(int64(float64(w.blob.Size) * min(float64(bytes)/float64(p.size), 1)))
		}
	}
}

// fetch has a host fetch parcels, by the SHA-256 of what travels, each from its sources, and tells what arrives as it does.
// What failed for a fault of the host's own is an error. What the courier says nothing of has failed.
func (s *site) fetch(ctx context.Context, request *wire.Fetch, parcels map[string]parcel, arrived func(want)) ([]failure, error) {
	var failed []failure
	heard := map[string]bool{}
	err := s.ask(ctx, request, func(e wire.Event) {
		switch e := e.(type) {
		case wire.Progress:
			parcels[e.SHA256].told(e.Bytes)
		case wire.Fetched:
			heard[e.SHA256] = true
			for _, w := range parcels[e.SHA256].wants {
				w.told(w.blob.Size)
				arrived(w)
			}
		case wire.Failed:
			heard[e.SHA256] = true
			for _, w := range parcels[e.SHA256].wants {
				failed = append(failed, failure{w, e})
			}
		}
	})
	for _, b := range request.Blobs {
		for _, w := range parcels[b.SHA256].wants {
			if !heard[b.SHA256] {
				failed = append(failed, lost(w, errors.New("the courier has said nothing of it")))
			}
		}
	}
	var errs []error
	for _, f := range failed {
		if f.final() {
			errs = append(errs, f.err())
		}
	}
	return failed, errors.Join(append(errs, err)...)
}

// of tells of which file a member of an archive is.
func of(member string) func(wire.File) bool {
	return func(f wire.File) bool { return f.Member == member }
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
	parcels := map[string]parcel{}
	archives := map[string]*wire.Unpack{}
	for _, w := range wants {
		origin, known := origins[w.blob.SHA256]
		sum := origin.Blob.SHA256
		before, twice := parcels[sum]
		archive := archives[sum]
		switch {
		case !known, twice && archive == nil, archive != nil && slices.ContainsFunc(archive.Files, of(origin.Member)):
			left = append(left, w)
			continue
		case origin.Member == "":
			request.Blobs = append(request.Blobs, blobOf(w, origin.Source))
		case archive == nil:
			archive = &wire.Unpack{Format: wire.TarGzip}
			archives[sum] = archive
			request.Blobs = append(request.Blobs, wire.Blob{
				SHA256: sum, Size: origin.Blob.Size, Path: path.Join(s.Dir, bundle.BlobPath(sum)), Mode: 0o600,
				Sources: []wire.Source{origin.Source}, Unpack: archive,
			})
		}
		if archive != nil {
			archive.Files = append(archive.Files, wire.File{
				Member: origin.Member, SHA256: w.blob.SHA256, Size: w.blob.Size, Path: w.path, Mode: fs.FileMode(w.mode),
			})
		}
		parcels[sum] = parcel{append(before.wants, w), origin.Blob.Size}
	}
	if len(request.Blobs) == 0 {
		return left, nil
	}
	failed, err := s.fetch(ctx, request, parcels, func(w want) { d.swarm.has(s, w) })
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
		d.Warn(ctx, fmt.Sprintf("%d of %d downloads failed and come another way: %v", len(errs), len(wants), errs[0]))
	}
	return left, nil
}
