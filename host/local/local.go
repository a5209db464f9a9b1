// Package local is the machine that myadm itself runs on, for `myadm init` and `myadm join` without a host. It must be
// root, since it cannot become it.
package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
)

// Host is this machine.
type Host struct {
	name string
}

var _ host.Host = (*Host)(nil)

// New returns this machine, named by its host name. It fails for users other than root.
func New() (*Host, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("acting on this machine needs root; hint: run myadm with sudo, or name a host with --host user@address")
	}
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name of this machine: %w", err)
	}
	return &Host{name: name}, nil
}

// Name is the machine's host name.
func (h *Host) Name() string { return h.name }

// Alive never ends.
func (h *Host) Alive() context.Context {
	return context.Background() //nolint:forbidigo // there is no connection to end with
}

// Close does nothing: there is no connection.
func (h *Host) Close() error { return nil }

// Dial connects from this machine.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// ReadFile returns a file's content.
func (h *Host) ReadFile(ctx context.Context, path string) ([]byte, error) {
	if err := start(ctx, host.CheckPath(path)); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// Stat describes the paths.
func (h *Host) Stat(ctx context.Context, paths ...string) ([]host.Info, error) {
	if err := start(ctx, host.CheckPaths(paths...)); err != nil {
		return nil, err
	}
	infos := make([]host.Info, len(paths))
	for i, path := range paths {
		var err error
		if infos[i], err = stat(path); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

// Sums is Stat with sums.
func (h *Host) Sums(ctx context.Context, paths ...string) ([]host.Info, error) {
	infos, err := h.Stat(ctx, paths...)
	if err != nil {
		return nil, err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(4)
	for i := range infos {
		if !infos[i].Exists || !infos[i].Mode.IsRegular() {
			continue
		}
		all.Go(func() (err error) {
			infos[i].SHA256, err = sum(ctx, infos[i].Path)
			if missing(err) { // it has just gone
				infos[i], err = host.Info{Path: infos[i].Path}, nil
			}
			return err
		})
	}
	return infos, all.Wait()
}

// start is the beginning of every call: nothing is done for a context that has ended or for wrong arguments.
func start(ctx context.Context, wrong error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return wrong
}

func stat(path string) (host.Info, error) {
	info, err := os.Lstat(path)
	if missing(err) {
		return host.Info{Path: path}, nil
	}
	if err != nil {
		return host.Info{}, err
	}
	found := host.Info{Path: path, Exists: true, Mode: info.Mode(), Size: info.Size()}
	if found.Mode&fs.ModeSymlink != 0 {
		if found.Target, err = os.Readlink(path); err != nil {
			return host.Info{}, err
		}
	}
	return found, nil
}

// missing tells whether there is nothing at a path. Below a file there is nothing either.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// sum computes the SHA-256 of a file.
func sum(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, contextReader{ctx, f}); err != nil {
		return "", fmt.Errorf("sha256 of %s: %w", path, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// contextReader stops reading when ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}
