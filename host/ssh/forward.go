package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Dial connects to an address as seen from the host, through the SSH connection.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var far io.ReadWriteCloser
	var err error
	switch network {
	case "tcp":
		far, err = h.direct(ctx, network, address)
	case "unix":
		far, err = h.dialUnix(ctx, address)
	default:
		return nil, fmt.Errorf("dial %s: network is not tcp or unix", network)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: dial %s %s: %w", h.name, network, address, err)
	}
	return newForward(far, h, network, address), nil
}

// direct has sshd open a connection, with the rights of the user who logged in.
func (h *Host) direct(ctx context.Context, network, address string) (io.ReadWriteCloser, error) {
	far, err := h.link.client.DialContext(ctx, network, address)
	if err == nil {
		return far, nil
	}
	err = h.blame(ctx, err)
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) && refused.Reason == ssh.Prohibited {
		err = fmt.Errorf("%w; hint: let AllowTcpForwarding be yes in the host's sshd_config", err)
	}
	return nil, err
}

// dialUnix opens a socket of the host as root. sshd does it for root, unless it is told to forward nothing; it does not say
// which it was when it fails, and a program on the host does.
func (h *Host) dialUnix(ctx context.Context, path string) (io.ReadWriteCloser, error) {
	if len(h.become) == 0 {
		far, err := h.direct(ctx, "unix", path)
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) {
			return far, err
		}
	}
	return h.openAsRoot(ctx, path)
}

// forward gives a channel of SSH what a net.Conn must have and it does not: deadlines, which TLS and HTTP/2 count on.
// They are those of a pipe, with somebody at the other end who carries bytes between it and the channel.
type forward struct {
	net.Conn // this end of the pipe
	host     *Host
	remote   forwardAddr
}

func newForward(far io.ReadWriteCloser, h *Host, network, address string) *forward {
	near, inner := net.Pipe()
	var once sync.Once
	closeBoth := func() {
		once.Do(func() {
			inner.Close()
			far.Close()
		})
	}
	go func() {
		io.Copy(inner, far) //nolint:errcheck // either end was closed
		closeBoth()
	}()
	go func() {
		io.Copy(far, inner) //nolint:errcheck // either end was closed
		closeBoth()
	}()
	return &forward{Conn: near, host: h, remote: forwardAddr{network, address}}
}

// Read gives the reason when it was the SSH connection that ended.
func (f *forward) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		select {
		case <-f.host.alive.Done():
			return n, f.host.lost()
		default:
		}
	}
	return n, err
}

func (f *forward) RemoteAddr() net.Addr { return f.remote }

// forwardAddr is an address as seen from the host.
type forwardAddr struct{ network, address string }

func (a forwardAddr) Network() string { return a.network }
func (a forwardAddr) String() string  { return a.address }
