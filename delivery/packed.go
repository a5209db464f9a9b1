package delivery

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/courier/wire"
)

// passOn brings blobs to a host from its peers, those that are stored compressed as they are stored: the host unpacks them
// when it has all, and keeps them for its peers.
func (d *Delivery) passOn(ctx context.Context, s *site, wants []want) error {
	var travelling, packed []want
	for _, w := range wants {
		if w.blob.Zstd != (bundle.Packed{}) {
			packed = append(packed, w)
			w = s.stored(w)
		}
		travelling = append(travelling, w)
	}
	if err := d.share(ctx, s, travelling); err != nil {
		return err
	}
	return s.unpack(ctx, packed)
}

// stored is what travels of a want that is stored compressed.
func (s *site) stored(w want) want {
	blob := w.blob.Stored()
	return want{
		name: w.name, blob: blob, path: s.blobPath(blob), mode: 0o600,
		told: parcel{[]want{w}, blob.Size}.told,
		open: func(ctx context.Context) (io.ReadSeekCloser, error) { return s.d.Bundle.OpenPacked(ctx, w.artifact) },
	}
}

// blobPath is where the host keeps a blob that is not at its place yet.
func (s *site) blobPath(b bundle.Blob) string { return path.Join(s.Dir, bundle.BlobPath(b.SHA256)) }

// unpack has a host unpack what it keeps.
func (s *site) unpack(ctx context.Context, packed []want) error {
	for len(packed) > 0 {
		request := &wire.Fetch{}
		parcels := map[string]parcel{}
		var later []want // a content with two places
		for _, w := range packed {
			blob := w.blob.Stored()
			if _, twice := parcels[blob.SHA256]; twice {
				later = append(later, w)
				continue
			}
			parcels[blob.SHA256] = parcel{[]want{w}, blob.Size}
			request.Blobs = append(request.Blobs, wire.Blob{
				SHA256: blob.SHA256, Size: blob.Size, Path: s.blobPath(blob), Mode: 0o600,
				Unpack: &wire.Unpack{Format: wire.Zstd, Keep: true, Files: []wire.File{
					{SHA256: w.blob.SHA256, Size: w.blob.Size, Path: w.path, Mode: fs.FileMode(w.mode)},
				}},
			})
		}
		failed, err := s.fetch(ctx, request, parcels, func(want) {})
		for _, f := range failed {
			if !f.final() { // else it is in err
				err = errors.Join(err, f.err())
			}
		}
		if err != nil {
			return err
		}
		packed = later
	}
	return nil
}
