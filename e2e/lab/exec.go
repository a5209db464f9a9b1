package lab

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// Streams are what a command on a host is connected to. nil is nothing.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	TTY      bool // give the command a terminal; In must be one
}

// Exec runs a command as root on a host, as if at its console: it needs no network, so it also works on a host that is
// cut. If the command fails, the error wraps an *exec.ExitError with its code. When ctx ends, the command goes on alone.
func (l *Lab) Exec(ctx context.Context, host string, s Streams, argv ...string) error {
	h, err := l.Host(host)
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		return fmt.Errorf("no command for %s", host)
	}
	args := []string{"exec", "--env", "HOME=/root"}
	if s.In != nil {
		args = append(args, "--interactive")
	}
	if s.TTY {
		args = append(args, "--tty")
	}
	cmd := exec.CommandContext(ctx, l.d.bin, append(append(args, h.container), argv...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %s: %w", host, argv[0], err)
	}
	return nil
}

// Output is Exec without input; it returns the command's standard output. The error has its standard error.
func (l *Lab) Output(ctx context.Context, host string, argv ...string) (string, error) {
	var stdout, stderr strings.Builder
	if err := l.Exec(ctx, host, Streams{Out: &stdout, Err: &stderr}, argv...); err != nil {
		return stdout.String(), withOutput(err, stderr.String())
	}
	return stdout.String(), nil
}

// Copy copies a local file or folder to the absolute path target on a host, as root, with its modes. Like Exec it needs
// no network. Folders on the way are made.
func (l *Lab) Copy(ctx context.Context, host, source, target string) error {
	if !path.IsAbs(target) {
		return fmt.Errorf("copy to %s: %s is not an absolute path", host, target)
	}
	reader, writer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := packTree(writer, source, path.Clean(target))
		writer.CloseWithError(err)
		packed <- err
	}()
	var stderr strings.Builder
	err := l.Exec(ctx, host, Streams{In: reader, Err: &stderr}, "tar", "--no-same-owner", "-C", "/", "-x")
	reader.Close()
	// When the source cannot be read, what the host says of the torn archive is not the reason.
	if packErr := <-packed; packErr != nil && !errors.Is(packErr, io.ErrClosedPipe) {
		return fmt.Errorf("copy to %s: %w", host, packErr)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", source, withOutput(err, stderr.String()))
	}
	return nil
}

// packTree writes source, a file or folder, as a tar archive in which it is called target.
func packTree(out io.Writer, source, target string) error {
	archive := tar.NewWriter(out)
	err := filepath.WalkDir(source, func(local string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(local) // a link is copied as what it points to
		if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, local)
		if err != nil {
			return err
		}
		header.Name = strings.TrimPrefix(path.Join(target, filepath.ToSlash(relative)), "/")
		if info.IsDir() {
			header.Name += "/"
		}
		if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		file, err := os.Open(local)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(archive, file)
		return err
	})
	if err != nil {
		return err
	}
	return archive.Close()
}
