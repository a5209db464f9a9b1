package ssh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/myadm/myadm/host"
)

// maxCommands is how many commands run at once on a host. sshd allows ten sessions on a connection (MaxSessions): two
// more are for the warden and for SFTP, and one stays free for a session that sshd has not quite let go.
const maxCommands = 7

// Host is a machine at the other end of an SSH connection.
type Host struct {
	name, user string
	link       *link
	log        *slog.Logger
	become     []string // the argv before every command: sudo, or nothing
	password   []byte   // what sudo wants to read first; nil: nothing
	server     string   // the path of sftp-server; empty: the subsystem
	timeout    time.Duration

	warden   *warden
	spares   spares
	commands chan struct{} // holds a token for each running command

	sftpTurn chan struct{} // holds a token while somebody looks at sftp or opens it
	sftp     *sftp.Client

	alive context.Context         // ends with the connection
	end   context.CancelCauseFunc // of alive

	endOnce sync.Once
}

var _ host.Host = (*Host)(nil)

func newHost(r *route, l *link, log *slog.Logger) *Host {
	h := &Host{
		name: r.name, user: r.user, link: l, log: log, timeout: r.timeout,
		commands: make(chan struct{}, maxCommands), sftpTurn: make(chan struct{}, 1),
	}
	h.alive, h.end = context.WithCancelCause(context.Background()) //nolint:forbidigo // of the connection, and of no call
	go func() { h.lose(h.link.client.Wait()) }()
	return h
}

// Name is the target's name.
func (h *Host) Name() string { return h.name }

// Close ends the connection. What still runs on the host is ended by the warden there.
func (h *Host) Close() error {
	h.lose(net.ErrClosed)
	return nil
}

// Alive ends with the connection. Its cause is an error with ErrConnectionLost, or after Close one with net.ErrClosed.
func (h *Host) Alive() context.Context { return h.alive }

// lose ends the connection for a reason. The first reason counts.
func (h *Host) lose(cause error) {
	switch {
	case cause == nil:
		cause = fmt.Errorf("%s: %w: closed by the host", h.name, ErrConnectionLost)
	case errors.Is(cause, net.ErrClosed):
		cause = fmt.Errorf("%s: %w", h.name, cause)
	default:
		cause = fmt.Errorf("%s: %w: %w", h.name, ErrConnectionLost, cause)
	}
	h.endOnce.Do(func() {
		h.end(cause)
		h.link.close() // which counts who shares it
	})
}

// lost is the error of a call that the end of the connection ended.
func (h *Host) lost() error { return context.Cause(h.alive) }

// blame says why a call failed: because ctx ended, because the connection did, or for err itself. The end of a connection
// may show in an error before it is known as such.
func (h *Host) blame(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	patience := time.Second
	if answered(err) {
		patience = 0
	}
	select {
	case <-h.alive.Done():
		return h.lost()
	case <-time.After(patience):
		return err
	}
}

// answered tells whether an error is the host's own answer.
func answered(err error) bool {
	var status *sftp.StatusError
	var channel *ssh.OpenChannelError
	var path *fs.PathError
	return errors.As(err, &status) || errors.As(err, &channel) || errors.As(err, &path) ||
		errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission)
}

// await runs a call of a library that knows no context, and leaves it behind when ctx or the connection ends.
func await[T any](ctx context.Context, h *Host, call func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := call()
		done <- result{value, err}
	}()
	var zero T
	select {
	case r := <-done:
		if r.err != nil {
			return zero, h.blame(ctx, r.err)
		}
		return r.value, nil
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	case <-h.alive.Done():
		return zero, h.lost()
	}
}

// keepAlive asks the host for a sign of life. One that gives none for three intervals is lost: a host that was switched
// off never closes a connection.
func (h *Host) keepAlive(interval time.Duration) {
	if interval <= 0 {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.alive.Done():
			return
		}
		answer := make(chan error, 1)
		go func() {
			_, _, err := h.link.client.SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		}()
		select {
		case err := <-answer:
			if err != nil {
				h.lose(err)
			}
		case <-time.After(3 * interval):
			h.lose(fmt.Errorf("no sign of life for %s", 3*interval))
		case <-h.alive.Done():
		}
	}
}

// session gives a session on the connection: a spare one, or one that it opens. One that comes too late is closed: it would count against MaxSessions.
func (h *Host) session(ctx context.Context) (*ssh.Session, error) {
	defer h.prepare()
	type result struct {
		session *ssh.Session
		err     error
	}
	done := make(chan result, 1)
	go func() {
		if spare := h.spares.take(); spare != nil {
			if s, err := spare.open(); err == nil {
				done <- result{s, nil}
				return
			}
		}
		s, err := h.link.client.NewSession()
		done <- result{s, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, h.blame(ctx, r.err)
		}
		return r.session, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				r.session.Close()
			}
		}()
		return nil, context.Cause(ctx)
	case <-h.alive.Done():
		return nil, h.lost()
	}
}
