package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// OpenBlob is Open for any one of the bundle's blobs.
func (b *Bundle) OpenBlob(ctx context.Context, blob Blob) (io.ReadSeekCloser, error) {
	file, err := b.open(ctx, blob, func(int) {})
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", b.path, err)
	}
	return file, nil
}

// Verify checks the sizes and checksums of all blobs, several at a time, and that each image's manifest names the blobs
// that its artifact has. It reports everything that it finds at once, blobs before images, both in the order of the index.
// progress, if not nil, is called with the number of bytes checked and of all bytes; its calls do not overlap.
func (b *Bundle) Verify(ctx context.Context, progress func(done, total int64)) error {
	blobs := b.owned()
	total, done := TotalSize(b.Index.Artifacts), int64(0)
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
	if s.bytes != blob.Size {
		return fmt.Errorf("%s has %d bytes instead of %d%s", blob.path(), s.bytes, blob.Size, damagedHint)
	}
	return nil
}

// open hashes the very file that it returns: a blob replaced in between cannot slip through.
func (b *Bundle) open(ctx context.Context, blob Blob, advance func(n int)) (io.ReadSeekCloser, error) {
	known, ok := b.verified[blob.SHA256]
	if !ok {
		return nil, fmt.Errorf("blob %q is not in this bundle's index", blob.SHA256)
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	file, now, err := b.blobs.open(blob.path())
	if err != nil {
		return nil, err
	}
	if known.done && known.file == now {
		advance(int(blob.Size))
		return file, nil
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
		return nil, errors.Join(err, file.Close())
	}
	known.done, known.file = true, now
	return file, nil
}

func checkSum(ctx context.Context, r io.Reader, blob Blob, advance func(n int)) error {
	hash := sha256.New()
	buffer := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buffer)
		hash.Write(buffer[:n])
		advance(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", blob.path(), err)
		}
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != blob.SHA256 {
		return fmt.Errorf("%s has sha256 %s instead of %s%s", blob.path(), sum, blob.SHA256, damagedHint)
	}
	return nil
}
