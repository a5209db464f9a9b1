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

// Open verifies an artifact of this bundle, unless it is known to be good, and opens its blob at the start. The caller
// closes it.
func (b *Bundle) Open(ctx context.Context, a Artifact) (io.ReadSeekCloser, error) {
	file, err := b.open(ctx, a, func(int) {})
	if err != nil {
		return nil, b.describe(a, err)
	}
	return file, nil
}

// Verified checks an artifact's size and checksum. The answer is kept for as long as the file keeps its size and its
// modification time.
func (b *Bundle) Verified(ctx context.Context, a Artifact) error {
	file, err := b.Open(ctx, a)
	if err != nil {
		return err
	}
	return file.Close()
}

// Verify checks the sizes and checksums of all artifacts, several at a time, and reports everything that it finds at
// once, in the order of the index. progress, if not nil, is called with the number of bytes checked and of all bytes;
// its calls do not overlap.
func (b *Bundle) Verify(ctx context.Context, progress func(done, total int64)) error {
	artifacts := unique(b.Index.Artifacts)
	total, done := TotalSize(artifacts), int64(0)
	var mu sync.Mutex
	advance := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		done += int64(n)
		if progress != nil {
			progress(done, total)
		}
	}
	findings := make([]error, len(artifacts))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, a := range artifacts {
		group.Go(func() error {
			file, err := b.open(ctx, a, advance)
			if err != nil {
				findings[i] = b.describe(a, err)
				return nil
			}
			return file.Close()
		})
	}
	return errors.Join(append(findings, group.Wait())...)
}

func (b *Bundle) describe(a Artifact, err error) error {
	return fmt.Errorf("bundle %s: artifact %s (%s): %w", b.path, a.Name, a.Arch, err)
}

func (b *Bundle) checkSize(a Artifact) error {
	s, err := b.blobs.stat(a.Path)
	if err == nil {
		err = s.check(a)
	}
	if err != nil {
		return fmt.Errorf("artifact %s (%s): %w", a.Name, a.Arch, err)
	}
	return nil
}

const damagedHint = "; hint: the bundle is damaged, copy it again or make it anew"

func (s stamp) check(a Artifact) error {
	if s.bytes != a.Size {
		return fmt.Errorf("%s has %d bytes instead of %d%s", a.Path, s.bytes, a.Size, damagedHint)
	}
	return nil
}

// open hashes the very file that it returns: a blob replaced in between cannot slip through.
func (b *Bundle) open(ctx context.Context, a Artifact, advance func(n int)) (io.ReadSeekCloser, error) {
	known, ok := b.verified[a.Path]
	if !ok {
		return nil, errors.New("it is not in this bundle's index")
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	file, now, err := b.blobs.open(a.Path)
	if err != nil {
		return nil, err
	}
	if known.done && known.file == now {
		advance(int(a.Size))
		return file, nil
	}
	known.done = false
	err = now.check(a)
	if err == nil {
		err = checkSum(ctx, file, a, advance)
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

func checkSum(ctx context.Context, r io.Reader, a Artifact, advance func(n int)) error {
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
			return fmt.Errorf("read %s: %w", a.Path, err)
		}
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != a.SHA256 {
		return fmt.Errorf("%s has sha256 %s instead of %s%s", a.Path, sum, a.SHA256, damagedHint)
	}
	return nil
}
