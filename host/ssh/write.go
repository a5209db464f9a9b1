package ssh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
)

// maxWrites is how many files of one call are written at once.
const maxWrites = 32

// WriteFiles puts files in place. Each takes four round trips after another, whatever their number: open, write, fsync,
// rename.
func (h *Host) WriteFiles(ctx context.Context, files ...host.File) error {
	if err := host.CheckFiles(files...); err != nil {
		return err
	}
	if len(files) == 0 {
		return nil
	}
	client, err := h.sftpClient(ctx)
	if err != nil {
		return err
	}
	missing, err := h.writeAll(ctx, client, files)
	if err != nil || len(missing) == 0 {
		return err
	}
	// That folders are there is taken for granted until one is not.
	var folders []string
	for _, f := range missing {
		folders = append(folders, path.Dir(f.Path))
	}
	slices.Sort(folders)
	if err := h.mkdir(ctx, slices.Compact(folders)...); err != nil {
		return err
	}
	missing, err = h.writeAll(ctx, client, missing)
	if len(missing) > 0 {
		err = errors.Join(err, fmt.Errorf("write %s: %w", missing[0].Path, fs.ErrNotExist))
	}
	return err
}

// mkdir makes folders with mode 0755 and those above them.
func (h *Host) mkdir(ctx context.Context, folders ...string) error {
	_, err := h.Run(ctx, host.Command(append([]string{"mkdir", "-p", "--"}, folders...)...))
	return err
}

// writeAll writes files and returns those whose folder is missing.
func (h *Host) writeAll(ctx context.Context, client *sftp.Client, files []host.File) ([]host.File, error) {
	errs, err := await(ctx, h, func() ([]error, error) {
		errs := make([]error, len(files))
		var all errgroup.Group
		all.SetLimit(maxWrites)
		for i, f := range files {
			all.Go(func() error {
				errs[i] = h.write(ctx, client, f)
				return nil
			})
		}
		return errs, all.Wait()
	})
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", files[0].Path, err)
	}
	var missing []host.File
	for i, err := range errs {
		if errors.Is(err, fs.ErrNotExist) {
			missing, errs[i] = append(missing, files[i]), nil
		} else if err != nil {
			errs[i] = fmt.Errorf("write %s: %w", files[i].Path, h.blame(ctx, err))
		}
	}
	return missing, errors.Join(errs...)
}

// write puts one file in place. It looks at ctx between its steps only; nobody waits for it after that.
func (h *Host) write(ctx context.Context, client *sftp.Client, file host.File) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	temp := host.TempPath(file.Path)
	f, err := create(client, temp)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && client.Remove(temp) == nil { // left by a run that was killed
		f, err = create(client, temp)
	}
	if err != nil {
		return err
	}
	defer func() {
		go f.Close() // the content is on disk, or given up
		if err != nil {
			err = h.explain(ctx, client, path.Dir(temp), err) // before the disk has room for the next one
			client.Remove(temp)                               //nolint:errcheck // the first error tells more
		}
	}()
	// Mode and content are independent of each other, but for sshd's own SFTP: there the umask is not ours.
	var both errgroup.Group
	if h.server == "" {
		if err := f.Chmod(file.Mode); err != nil {
			return err
		}
	} else {
		both.Go(func() error { return f.Chmod(file.Mode) })
	}
	both.Go(func() error { return writeAt(f, file.Data, 0) })
	if err := both.Wait(); err != nil {
		return err
	}
	if err := fsync(f); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return client.PosixRename(temp, file.Path)
}

func create(client *sftp.Client, name string) (*sftp.File, error) {
	return client.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
}

func writeAt(f *sftp.File, data []byte, offset int64) error {
	if len(data) == 0 {
		return nil
	}
	_, err := f.WriteAt(data, offset)
	return err
}

// fsync does without where the server cannot: OpenSSH has been able to since 2013.
func fsync(f *sftp.File) error {
	err := f.Sync()
	var status *sftp.StatusError
	if errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxOpUnsupported {
		return nil
	}
	return err
}
