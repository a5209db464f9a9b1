// Package hosttest is a host for tests: a strict fake, a model of systemd on it, and the conformance suite that every
// host.Host passes.
//
// The fake has a file system in memory and knows only the commands that the test registered:
//
//	f := hosttest.New(t, "cp-1")
//	f.Put(host.File{Path: "/etc/hostname", Mode: 0o644, Data: []byte("cp-1\n")})
//	f.On("uname", "-m").Return("x86_64\n")
//	f.OnPrefix("ctr", "-n", "k8s.io", "images", "import").Changes()
//	hosttest.Systemd(f)
//
// Any other command fails the test, and so does one that Changes called through Query. What happened is on record:
// Writes, Removed, Commands.
package hosttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/myadm/myadm/host"
)

// Fake is a host in memory. Its methods may be called from several goroutines.
type Fake struct {
	t    testing.TB
	name string

	mu       sync.Mutex
	files    tree
	mounts   map[string]bool
	parts    map[string][]byte // what cut uploads left, by path and sum
	rules    []*Rule
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	failures map[string]error // by path, of writes
	lost     error
	alive    context.Context
	die      context.CancelCauseFunc // of alive

	writes   []string
	removed  []string
	commands []Call
}

var _ host.Host = (*Fake)(nil)

// New returns a blank host. When the test ends, every Once rule must have been used.
func New(t testing.TB, name string) *Fake {
	f := &Fake{
		t: t, name: name, files: newTree(), mounts: map[string]bool{},
		parts: map[string][]byte{}, failures: map[string]error{},
	}
	f.revive()
	t.Cleanup(f.AssertDone)
	return f
}

// Name is the name the fake was made with.
func (f *Fake) Name() string { return f.name }

// enter is the start of every call: it takes the lock and gives the error that the call ends with at once.
func (f *Fake) enter(ctx context.Context) (leave func(), err error) {
	f.mu.Lock()
	if f.lost != nil {
		err = lost(f.name, f.lost)
	} else {
		err = ctx.Err()
	}
	return f.mu.Unlock, err
}

// ReadFile returns a file's content.
func (f *Fake) ReadFile(ctx context.Context, path string) ([]byte, error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	if err := f.strict(host.CheckPath(path)); err != nil {
		return nil, err
	}
	return f.files.read(path)
}

// Stat describes the paths.
func (f *Fake) Stat(ctx context.Context, paths ...string) ([]host.Info, error) {
	return f.infos(ctx, false, paths)
}

// Sums is Stat with sums.
func (f *Fake) Sums(ctx context.Context, paths ...string) ([]host.Info, error) {
	return f.infos(ctx, true, paths)
}

func (f *Fake) infos(ctx context.Context, sums bool, paths []string) ([]host.Info, error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	if err := f.strict(host.CheckPaths(paths...)); err != nil {
		return nil, err
	}
	infos := make([]host.Info, len(paths))
	for i, p := range paths {
		infos[i] = f.files.info(p, sums)
	}
	return infos, nil
}

// WriteFiles puts files in place and records their paths.
func (f *Fake) WriteFiles(ctx context.Context, files ...host.File) error {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return err
	}
	if err := f.strict(host.CheckFiles(files...)); err != nil {
		return err
	}
	for _, file := range files {
		if err := f.write(file); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	return nil
}

func (f *Fake) write(file host.File) error {
	if err := f.failures[file.Path]; err != nil {
		return err
	}
	if err := f.files.put(file.Path, &node{mode: file.Mode, data: slices.Clone(file.Data)}); err != nil {
		return err
	}
	delete(f.files, host.TempPath(file.Path)) // which the others use and rename
	f.writes = append(f.writes, file.Path)
	return nil
}

// Upload reads the blob in small pieces, and keeps what it has when ctx ends, as a host does.
func (f *Fake) Upload(ctx context.Context, blob host.Blob, progress func(int64)) error {
	part, err := f.startUpload(ctx, blob)
	if err != nil || part == nil {
		if err == nil && progress != nil {
			progress(blob.Size)
		}
		return err
	}
	r, err := blob.Open()
	if err != nil {
		return fmt.Errorf("upload %s: %w", blob.Path, err)
	}
	defer r.Close()
	if _, err := r.Seek(int64(part.Len()), io.SeekStart); err != nil {
		return fmt.Errorf("upload %s: %w", blob.Path, err)
	}
	for {
		n, err := io.CopyN(part, r, 32<<10)
		if progress != nil && n > 0 {
			progress(int64(part.Len()))
		}
		if errors.Is(err, io.EOF) {
			return f.endUpload(ctx, blob, part.Bytes())
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.parts[blob.Path+blob.SHA256] = part.Bytes()
			return fmt.Errorf("upload %s: %w", blob.Path, err)
		}
	}
}

// startUpload gives what is there of the blob, and nil when all of it is in place already.
func (f *Fake) startUpload(ctx context.Context, blob host.Blob) (*bytes.Buffer, error) {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	if err := f.strict(host.CheckBlob(blob)); err != nil {
		return nil, err
	}
	if f.files.info(blob.Path, true).SHA256 == blob.SHA256 {
		real, _ := f.files.resolve(blob.Path, false)
		f.files[real].mode = blob.Mode
		return nil, nil
	}
	return bytes.NewBuffer(slices.Clone(f.parts[blob.Path+blob.SHA256])), nil
}

func (f *Fake) endUpload(ctx context.Context, blob host.Blob, data []byte) error {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return err
	}
	delete(f.parts, blob.Path+blob.SHA256)
	if sum := hexSum(data); sum != blob.SHA256 || int64(len(data)) != blob.Size {
		return fmt.Errorf("upload %s: sha256 %s of %d bytes, want %s of %d", blob.Path, sum, len(data), blob.SHA256, blob.Size)
	}
	if err := f.write(host.File{Path: blob.Path, Mode: blob.Mode, Data: data}); err != nil {
		return fmt.Errorf("upload %s: %w", blob.Path, err)
	}
	return nil
}

// Remove removes files and folders and records the paths that were there.
func (f *Fake) Remove(ctx context.Context, paths ...string) error {
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return err
	}
	if err := f.strict(host.CheckRemove(paths...)); err != nil {
		return err
	}
	for _, p := range paths {
		real, err := f.files.resolve(p, false)
		if err != nil || f.files[real] == nil {
			continue
		}
		if err := f.failures[p]; err != nil {
			return fmt.Errorf("remove %s: %w", p, err)
		}
		below := f.files.below(real)
		if i := slices.IndexFunc(below, func(b string) bool { return f.mounts[b] }); i >= 0 {
			return &host.MountedError{Path: p, Mount: below[i]}
		}
		for _, b := range below {
			delete(f.files, b)
		}
		if !f.mounts[real] {
			delete(f.files, real)
		}
		f.removed = append(f.removed, p)
	}
	return nil
}

// Dial asks the function of OnDial.
func (f *Fake) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	leave, err := f.enter(ctx)
	dial := f.dial
	leave()
	if err != nil {
		return nil, err
	}
	if dial == nil {
		return nil, f.strict(fmt.Errorf("unexpected dial of %s %s; hint: OnDial", network, address))
	}
	return dial(ctx, network, address)
}

// revive begins a connection. Its channel is made now, since a fake may be used in several bubbles of testing/synctest.
func (f *Fake) revive() {
	f.alive, f.die = context.WithCancelCause(context.Background()) //nolint:forbidigo // of the connection, and of no call
	f.alive.Done()
}

// Alive ends with Lose.
func (f *Fake) Alive() context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.alive
}

// Close does nothing: a test looks at the fake after the code under test has closed it.
func (f *Fake) Close() error { return nil }

// strict fails the test for err, if there is one, and returns it.
func (f *Fake) strict(err error) error {
	if err == nil {
		return nil
	}
	f.t.Helper()
	f.t.Errorf("%s: %v", f.name, err)
	return fmt.Errorf("%s: %w", f.name, err)
}
