package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
)

const (
	// packet is how much one SFTP request carries. OpenSSH's server and pkg/sftp's take 256 KiB with the header.
	packet = 128 << 10

	// maxRequests is how many calls of SFTP are under way at once for one call of Host.
	maxRequests = 64

	// sftpScript keeps new files from being read by others between their creation and their chmod.
	sftpScript = `umask 077; exec "$1"`
)

// sftpClient gives the connection's one SFTP session, and opens it when it is first needed. As the session must act as
// root, it is not sshd's subsystem (which only serves where sftp-server is in no known place and the user is root).
func (h *Host) sftpClient(ctx context.Context) (*sftp.Client, error) {
	select {
	case h.sftpTurn <- struct{}{}:
		defer func() { <-h.sftpTurn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-h.alive.Done():
		return nil, h.lost()
	}
	if h.sftp != nil {
		return h.sftp, nil
	}
	client, err := h.openSFTP(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: sftp: %w", h.name, err)
	}
	h.sftp = client
	return client, nil
}

func (h *Host) openSFTP(ctx context.Context) (*sftp.Client, error) {
	s, err := h.sessionInTurn(ctx)
	if err != nil {
		return nil, err
	}
	said := &errorOutput{}
	s.Stderr = said
	client, err := await(ctx, h, func() (*sftp.Client, error) {
		stdin, err := s.StdinPipe()
		if err != nil {
			return nil, err
		}
		stdout, err := s.StdoutPipe()
		if err != nil {
			return nil, err
		}
		switch {
		case h.server != "":
			err = s.Start(h.line(sftpScript, h.server))
		case len(h.become) == 0:
			err = s.RequestSubsystem("sftp")
		default:
			err = errors.New("there is no sftp-server; hint: install openssh-sftp-server on the host")
		}
		if err != nil {
			return nil, err
		}
		if _, err := stdin.Write(h.password); err != nil {
			return nil, err
		}
		return sftp.NewClientPipe(stdout, stdin, sftp.MaxPacketUnchecked(packet), sftp.MaxConcurrentRequestsPerFile(maxRequests))
	})
	if err != nil {
		s.Close()
		if text := bytes.TrimSpace(said.tail()); len(text) > 0 {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, err
	}
	go func() { // a session that ends before the connection is replaced
		client.Wait() //nolint:errcheck // the calls under way tell
		s.Close()
		h.sftpTurn <- struct{}{}
		h.sftp = nil
		<-h.sftpTurn
	}()
	return client, nil
}

// ReadFile returns a file's content.
func (h *Host) ReadFile(ctx context.Context, path string) ([]byte, error) {
	if err := host.CheckPath(path); err != nil {
		return nil, err
	}
	client, err := h.sftpClient(ctx)
	if err != nil {
		return nil, err
	}
	data, err := await(ctx, h, func() ([]byte, error) { return read(client, path) })
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// read asks for the first packet at once, since most files end there, and then for a window of packets at a time. It does
// not ask for the size before: files in /proc have none. Closing is not waited for, which saves a round trip.
func read(client *sftp.Client, path string) ([]byte, error) {
	f, err := client.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { go f.Close() }()
	var data []byte
	for packets := 1; ; packets = window {
		part := make([]byte, packets*packet)
		n, err := readAt(f, part, int64(len(data)))
		data = append(data, part[:n]...)
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// readAt fills b, which is a number of packets, or gives io.EOF and how much there was. The library's own reading of
// several packets takes a server's shorter answer for the end of the file; that of one packet asks again.
func readAt(f *sftp.File, b []byte, offset int64) (int, error) {
	sizes, errs := make([]int, len(b)/packet), make([]error, len(b)/packet)
	var all errgroup.Group
	for i := range sizes {
		all.Go(func() error {
			sizes[i], errs[i] = f.ReadAt(b[i*packet:(i+1)*packet], offset+int64(i*packet))
			return nil
		})
	}
	all.Wait() //nolint:errcheck // the errors are in errs
	for i, err := range errs {
		if err != nil {
			return i*packet + sizes[i], err
		}
	}
	return len(b), nil
}

// Stat describes the paths. All requests are sent at once, so that it takes one round trip, and a second one when there
// are symbolic links.
func (h *Host) Stat(ctx context.Context, paths ...string) ([]host.Info, error) {
	if err := host.CheckPaths(paths...); err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, nil
	}
	client, err := h.sftpClient(ctx)
	if err != nil {
		return nil, err
	}
	return await(ctx, h, func() ([]host.Info, error) {
		infos := make([]host.Info, len(paths))
		var all errgroup.Group
		all.SetLimit(maxRequests)
		for i, path := range paths {
			all.Go(func() (err error) {
				infos[i], err = stat(client, path)
				return err
			})
		}
		return infos, all.Wait()
	})
}

func stat(client *sftp.Client, path string) (host.Info, error) {
	info, err := client.Lstat(path)
	switch {
	case missing(err):
		return host.Info{Path: path}, nil
	case err != nil:
		return host.Info{}, fmt.Errorf("stat %s: %w", path, err)
	}
	found := host.Info{Path: path, Exists: true, Mode: info.Mode(), Size: info.Size()}
	if found.Mode&fs.ModeSymlink == 0 {
		return found, nil
	}
	found.Target, err = client.ReadLink(path)
	if missing(err) { // it has just gone
		return host.Info{Path: path}, nil
	}
	if err != nil {
		return host.Info{}, fmt.Errorf("read link %s: %w", path, err)
	}
	return found, nil
}

// missing tells whether there is nothing at a path. Below a file there is nothing either, but not every server has a status
// of its own for that.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || err != nil && strings.Contains(err.Error(), "not a directory")
}
