package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/myadm/myadm/courier/wire"
)

// defaultMode is a blob's mode when none is given.
const defaultMode fs.FileMode = 0o644

// partial is the file that a blob grows in, beside its path. It stays when a download is cut off, and the next one goes on
// from its end. Beside it, FILE.from tells which version of the source its bytes are of. Its lock keeps two programs from
// writing it at once.
type partial struct {
	blob wire.Blob
	file *os.File
	size int64
	hash hash.Hash // of all that is in it
}

// partialPath is hidden, and names the content: what is left of another version is not mistaken for this one's.
func partialPath(b wire.Blob) string {
	dir, name := filepath.Split(b.Path)
	return filepath.Join(dir, fmt.Sprintf(".%.100s.%s.part", name, b.SHA256[:16]))
}

// openPartial opens or makes a blob's partial file, and waits for another program that has it.
func openPartial(ctx context.Context, b wire.Blob) (*partial, error) {
	if err := os.MkdirAll(filepath.Dir(b.Path), 0o755); err != nil {
		return nil, local(err)
	}
	file, err := lock(ctx, partialPath(b))
	if err != nil {
		return nil, err
	}
	p := &partial{blob: b, file: file, hash: sha256.New()}
	if p.size, err = io.Copy(p.hash, reader{ctx, file}); err != nil {
		file.Close()
		return nil, local(err)
	}
	if p.size > limit(b) {
		if err := p.reset(); err != nil {
			file.Close()
			return nil, err
		}
	}
	return p, nil
}

// lockPause is how often a lock that another program has is tried; flock(2) has no event to wait for together with ctx.
const lockPause = 100 * time.Millisecond

// lock opens a file and locks it. The program that had the lock may have renamed or removed the file: then once more.
func lock(ctx context.Context, path string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, local(err)
		}
		if err := awaitLock(ctx, file); err != nil {
			file.Close()
			return nil, err
		}
		if same(file, path) {
			return file, nil
		}
		file.Close()
	}
}

func awaitLock(ctx context.Context, file *os.File) error {
	tick := time.NewTicker(lockPause)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return local(fmt.Errorf("lock %s: %w", file.Name(), err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func same(file *os.File, path string) bool {
	have, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(have, there)
}

// Write adds to the file. What did not get onto the disk is not part of it.
func (p *partial) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.hash.Write(b[:n]) // a hash never fails
	p.size += int64(n)
	if err != nil {
		return n, local(err)
	}
	return n, nil
}

// reset empties the file.
func (p *partial) reset() error {
	p.size = 0
	p.hash.Reset()
	_, err := p.file.Seek(0, io.SeekStart)
	if err := errors.Join(err, p.file.Truncate(0), gone(os.Remove(p.fromPath()))); err != nil {
		return local(err)
	}
	return nil
}

// whole tells whether the file is the blob.
func (p *partial) whole() bool {
	return (p.blob.Size < 0 || p.size == p.blob.Size) && hex.EncodeToString(p.hash.Sum(nil)) == p.blob.SHA256
}

// place puts the file where it belongs, atomically.
func (p *partial) place() error {
	mode := p.blob.Mode
	if mode == 0 {
		mode = defaultMode
	}
	if err := errors.Join(p.file.Chmod(mode), p.file.Sync()); err != nil {
		return local(err)
	}
	if err := errors.Join(os.Rename(p.file.Name(), p.blob.Path), gone(os.Remove(p.fromPath()))); err != nil {
		return local(err)
	}
	if err := syncFolder(filepath.Dir(p.blob.Path)); err != nil {
		return local(err)
	}
	return nil
}

// discard removes the file.
func (p *partial) discard() { os.Remove(p.file.Name()); os.Remove(p.fromPath()) } //nolint:errcheck // it would be emptied

// close leaves the file for the next time, unless there is nothing in it.
func (p *partial) close() {
	if p.size == 0 {
		p.discard()
	}
	p.file.Close()
}

func (p *partial) fromPath() string { return strings.TrimSuffix(p.file.Name(), ".part") + ".from" }

// setFrom remembers the validator of the version at the source that the file's bytes are of, for If-Range.
func (p *partial) setFrom(url, validator string) error {
	if err := os.WriteFile(p.fromPath(), []byte(urlSum(url)+" "+validator), 0o600); err != nil {
		return local(err)
	}
	return nil
}

// from is the validator, when the file's bytes are of the URL.
func (p *partial) from(url string) string {
	b, err := os.ReadFile(p.fromPath())
	if err != nil {
		return ""
	}
	sum, validator, _ := strings.Cut(string(b), " ")
	if sum != urlSum(url) {
		return ""
	}
	return validator
}

// urlSum stands for a URL on the disk: a URL may have secrets.
func urlSum(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:])
}

// inPlace tells whether the blob is at its path, and gives it its mode.
func inPlace(ctx context.Context, b wire.Blob) (bool, error) {
	info, err := os.Lstat(b.Path)
	if err != nil || !info.Mode().IsRegular() || (b.Size >= 0 && info.Size() != b.Size) {
		return false, nil // it is made or replaced; what hinders that is told then
	}
	file, err := os.Open(b.Path)
	if err != nil {
		return false, local(err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, reader{ctx, file}); err != nil {
		return false, local(err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != b.SHA256 {
		return false, nil
	}
	if b.Mode != 0 && info.Mode().Perm() != b.Mode {
		if err := file.Chmod(b.Mode); err != nil {
			return false, local(err)
		}
	}
	return true, nil
}

// reader stops when ctx ends.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
