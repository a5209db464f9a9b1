package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/myadm/myadm/host"
)

// WriteFiles puts files in place, one after another: here there is no round trip to save.
func (h *Host) WriteFiles(ctx context.Context, files ...host.File) error {
	if err := start(ctx, host.CheckFiles(files...)); err != nil {
		return err
	}
	for _, f := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := write(f); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, explain(f.Path, err))
		}
	}
	return nil
}

func write(file host.File) (err error) {
	dir := filepath.Dir(file.Path)
	if err := mkdir(dir); err != nil {
		return err
	}
	temp := host.TempPath(file.Path)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a run that was killed
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name()) //nolint:errcheck // the first error tells more
		}
	}()
	if _, err := f.Write(file.Data); err != nil {
		return err
	}
	return place(f, file.Path, file.Mode)
}

// mkdir makes a folder and those above it with mode 0755, whatever the umask of the user's shell is.
func mkdir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := mkdir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if info, statErr := os.Stat(dir); statErr == nil && info.IsDir() { // somebody else was faster
			return nil
		}
		return err
	}
	return os.Chmod(dir, 0o755)
}

// place gives a written file its mode and owner, and moves it to its path for good: content first, then the name.
func place(f *os.File, path string, mode fs.FileMode) error {
	if err := f.Chown(0, 0); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Upload copies a blob into place.
func (h *Host) Upload(ctx context.Context, blob host.Blob, progress func(int64)) error {
	if err := start(ctx, host.CheckBlob(blob)); err != nil {
		return err
	}
	if progress == nil {
		progress = func(int64) {}
	}
	if err := h.upload(ctx, blob, progress); err != nil {
		return fmt.Errorf("upload %s: %w", blob.Path, explain(blob.Path, err))
	}
	return nil
}

// explain says which disk is full, if one is.
func explain(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return &host.FullError{Path: filepath.Dir(path), Err: err}
	}
	return err
}

func (h *Host) upload(ctx context.Context, blob host.Blob, progress func(int64)) error {
	part := host.PartPath(blob)
	infos, err := h.Sums(ctx, blob.Path)
	if err != nil {
		return err
	}
	if infos[0].SHA256 == blob.SHA256 {
		progress(blob.Size)
		return os.Chmod(blob.Path, blob.Mode)
	}
	content, err := blob.Open() // before anything is made on the host: a source that is damaged leaves nothing there
	if err != nil {
		return err
	}
	defer content.Close()
	if err := mkdir(filepath.Dir(part)); err != nil {
		return err
	}
	f, offset, err := openPart(part, blob.Size)
	if err != nil {
		return err
	}
	defer f.Close()
	progress(offset)
	if err := copyFrom(ctx, f, content, offset, progress); err != nil {
		return err
	}
	switch got, err := sum(ctx, part); {
	case err != nil:
		return err
	case got == blob.SHA256:
		return place(f, blob.Path, blob.Mode)
	case offset > 0: // what was there was not the beginning of it
		os.Remove(part) //nolint:errcheck // opening it again tells
		return h.upload(ctx, blob, progress)
	default:
		os.Remove(part) //nolint:errcheck // its sum would be wrong once more
		return fmt.Errorf("the sum is %s, want %s; hint: the source may have changed since it was summed", got, blob.SHA256)
	}
}

// openPart opens what an earlier upload left, or a new file. What somebody else could change is not gone on with.
func openPart(part string, size int64) (*os.File, int64, error) {
	info, err := os.Lstat(part)
	if err == nil && info.Mode().IsRegular() && info.Size() <= size && owner(info) == 0 {
		f, err := os.OpenFile(part, os.O_WRONLY, 0)
		return f, info.Size(), err
	}
	if err == nil {
		err = os.Remove(part)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return f, 0, err
}

// copyFrom writes a blob's content from an offset to the end.
func copyFrom(ctx context.Context, f *os.File, r io.ReadSeeker, offset int64, progress func(int64)) error {
	if _, err := r.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	const step = 1 << 20
	for {
		n, err := io.CopyN(f, contextReader{ctx, r}, step)
		if offset += n; n > 0 {
			progress(offset)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
