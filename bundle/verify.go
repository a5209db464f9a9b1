package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// verification is what is known about one blob. Its lock makes many hosts that want a blob at once wait for one reading
// of it.
type verification struct {
	blob Blob // as the index has it

	mu   sync.Mutex
	done bool
	file stamp
}

// Open verifies a binary of this bundle, unless it is known to be good, and opens its blob at the start. The caller
// closes it. Archive is for images.
func (b *Bundle) Open(ctx context.Context, a Artifact) (io.ReadSeekCloser, error) {
	if a.Kind != KindBinary || len(a.Blobs) != 1 {
		return nil, b.describe(a, errors.New("it is no binary, which has one blob"))
	}
	file, err := b.open(ctx, a.Blobs[0], func(int) {})
	if err != nil {
		return nil, b.describe(a, err)
	}
	return file, nil
}

// OpenPacked is Open for a binary that is stored compressed, and gives what is stored: its blob's Zstd. Both checksums are
// verified, so that who unpacks it gets the content. A binary that is stored as it is is an error.
func (b *Bundle) OpenPacked(ctx context.Context, a Artifact) (io.ReadSeekCloser, error) {
	if a.Kind != KindBinary || len(a.Blobs) != 1 {
		return nil, b.describe(a, errors.New("it is no binary, which has one blob"))
	}
	file, blob, err := b.openStored(ctx, a.Blobs[0], func(int) {})
	if err == nil && blob.Zstd == (Packed{}) {
		err = errors.Join(errors.New("it is not stored compressed"), file.Close())
	}
	if err != nil {
		return nil, b.describe(a, err)
	}
	return file, nil
}

// OpenBlob is Open for any one of the bundle's blobs, and gives its content too.
func (b *Bundle) OpenBlob(ctx context.Context, blob Blob) (io.ReadSeekCloser, error) {
	file, err := b.open(ctx, blob, func(int) {})
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", b.path, err)
	}
	return file, nil
}

// Verify checks the sizes and checksums of all blobs, several at a time, and that each image's manifest names the blobs
// that its artifact has. It reports everything that it finds at once, blobs before images, both in the order of the index.
// progress, if not nil, is called with the number of stored bytes checked and of all of them; its calls do not overlap.
func (b *Bundle) Verify(ctx context.Context, progress func(done, total int64)) error {
	blobs := b.owned()
	total, done := StoredSize(b.Index.Artifacts), int64(0)
	var mu sync.Mutex
	advance := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		done += int64(n)
		if progress != nil {
			progress(done, total)
		}
	}
	findings := make([]error, len(blobs))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, o := range blobs {
		group.Go(func() error {
			file, err := b.open(ctx, o.blob, advance)
			if err != nil {
				findings[i] = b.describe(o.owner, err)
				return nil
			}
			return file.Close()
		})
	}
	findings = append(findings, group.Wait())
	for _, a := range b.Index.Artifacts {
		// Of a manifest that is damaged the blob's finding tells enough.
		if a.Kind == KindImage && b.isVerified(a.Blobs[0]) {
			if _, err := b.manifest(ctx, a); err != nil {
				findings = append(findings, b.describe(a, err))
			}
		}
	}
	return errors.Join(findings...)
}

// isVerified tells whether a blob was once found to be good.
func (b *Bundle) isVerified(blob Blob) bool {
	known := b.verified[blob.SHA256]
	known.mu.Lock()
	defer known.mu.Unlock()
	return known.done
}

func (b *Bundle) describe(a Artifact, err error) error {
	return fmt.Errorf("bundle %s: artifact %s (%s): %w", b.path, a.Name, a.Arch, err)
}

func (b *Bundle) checkSize(blob Blob) error {
	s, err := b.blobs.stat(blob.path())
	if err != nil {
		return fmt.Errorf("%w%s", err, damagedHint)
	}
	return s.check(blob)
}

const damagedHint = "; hint: the bundle is damaged, copy it again or make it anew"

func (s stamp) check(blob Blob) error {
	if stored := blob.Stored(); s.bytes != stored.Size {
		return fmt.Errorf("%s has %d bytes instead of %d%s", blob.path(), s.bytes, stored.Size, damagedHint)
	}
	return nil
}

// open is openStored for the content.
func (b *Bundle) open(ctx context.Context, blob Blob, advance func(n int)) (io.ReadSeekCloser, error) {
	file, blob, err := b.openStored(ctx, blob, advance)
	if err != nil || blob.Zstd == (Packed{}) {
		return file, err
	}
	content, err := newUnpacked(file, blob.Size)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return content, nil
}

// openStored hashes the very file that it returns: a blob replaced in between cannot slip through. It returns the blob as
// the index has it, which alone tells how it is stored.
func (b *Bundle) openStored(ctx context.Context, blob Blob, advance func(n int)) (io.ReadSeekCloser, Blob, error) {
	known, ok := b.verified[blob.SHA256]
	if !ok {
		return nil, Blob{}, fmt.Errorf("blob %q is not in this bundle's index", blob.SHA256)
	}
	blob = known.blob
	known.mu.Lock()
	defer known.mu.Unlock()
	file, now, err := b.blobs.open(blob.path())
	if err != nil {
		return nil, Blob{}, err
	}
	if known.done && known.file == now {
		advance(int(blob.Stored().Size))
		return file, blob, nil
	}
	known.done = false
	err = now.check(blob)
	if err == nil {
		err = checkSum(ctx, file, blob, advance)
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, Blob{}, errors.Join(err, file.Close())
	}
	known.done, known.file = true, now
	return file, blob, nil
}

// checkSum reads a blob's file, and unpacks it meanwhile if it is packed.
func checkSum(ctx context.Context, r io.Reader, blob Blob, advance func(n int)) error {
	stored, content := newSummed(io.Discard), blob.Content()
	counted := &counting{ctx: ctx, r: io.TeeReader(r, stored), advance: advance}
	var unpacking error
	if blob.Zstd != (Packed{}) {
		content, unpacking = unpackedSum(ctx, counted, blob.Size)
	}
	if _, err := io.CopyBuffer(io.Discard, counted, make([]byte, 1<<20)); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("read %s: %w", blob.path(), err)
	}
	if got, want := stored.blob().SHA256, blob.Stored().SHA256; got != want {
		return fmt.Errorf("%s has sha256 %s instead of %s%s", blob.path(), got, want, damagedHint)
	}
	switch {
	case unpacking != nil && ctx.Err() != nil:
		return ctx.Err()
	case unpacking != nil:
		return fmt.Errorf("unpack %s: %w%s", blob.path(), unpacking, damagedHint)
	case content.Size > blob.Size:
		return fmt.Errorf("%s unpacks to more than %d bytes%s", blob.path(), blob.Size, damagedHint)
	case content != blob.Content():
		return fmt.Errorf("%s unpacks to %d bytes with sha256 %s instead of %d with %s%s", blob.path(), content.Size, content.SHA256,
			blob.Size, blob.SHA256, damagedHint)
	}
	return nil
}

// counting is a reader that tells how far it is, and ends with ctx.
type counting struct {
	ctx     context.Context
	r       io.Reader
	advance func(n int)
}

func (c *counting) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.advance(n)
	return n, err
}
