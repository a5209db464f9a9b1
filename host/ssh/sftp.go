package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

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

// read takes two round trips for a file of up to a window of packets: its size is asked for while it is opened, and its end
// while its content is read. The size is no more than a hint on how to cut the requests: files in /proc have none, and others
// change. Closing is not waited for.
func read(client *sftp.Client, path string) ([]byte, error) {
	hint := make(chan int64, 1)
	go func() {
		info, err := client.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			hint <- 0
			return
		}
		hint <- info.Size()
	}()
	f, err := client.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { go f.Close() }()
	var data []byte
	for size := <-hint; ; {
		part, err := readAt(f, cut(size), int64(len(data)))
		data = append(data, part...)
		if size -= int64(len(part)); size <= 0 {
			size = window * packet
		}
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// cut gives the lengths of requests for so many bytes, at most a window of them, and for what may follow.
func cut(size int64) []int {
	size = min(size, window*packet)
	lengths := slices.Repeat([]int{packet}, int(size/packet))
	if rest := int(size % packet); rest > 0 {
		lengths = append(lengths, rest)
	}
	return append(lengths, packet)
}

// readAt reads parts that follow each other, of these lengths, at the same time, and gives io.EOF when the file ends among
// them. The library's own reading of several packets takes a server's shorter answer for the end of the file; that of one
// packet asks again.
func readAt(f *sftp.File, lengths []int, offset int64) ([]byte, error) {
	parts, errs := make([][]byte, len(lengths)), make([]error, len(lengths))
	var all sync.WaitGroup
	for i, length := range lengths {
		parts[i] = make([]byte, length)
		at := offset
		offset += int64(length)
		all.Go(func() {
			var n int
			n, errs[i] = f.ReadAt(parts[i], at)
			parts[i] = parts[i][:n]
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			return slices.Concat(parts[:i+1]...), err
		}
	}
	return slices.Concat(parts...), nil
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
