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

// Dial connects to an address as seen from the host, through the SSH connection. A unix socket is opened by sshd with
// the rights of the user who logged in, also where that user becomes root for everything else.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" && network != "unix" {
		return nil, fmt.Errorf("dial %s: network is not tcp or unix", network)
	}
	far, err := h.link.client.DialContext(ctx, network, address)
	if err != nil {
		err = h.blame(ctx, err)
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) && refused.Reason == ssh.Prohibited {
			err = fmt.Errorf("%w; hint: let AllowTcpForwarding and AllowStreamLocalForwarding be yes in the host's sshd_config", err)
		}
		return nil, fmt.Errorf("%s: dial %s %s: %w", h.name, network, address, err)
	}
	return newForward(far, h, network, address), nil
}

// forward gives a channel of SSH what a net.Conn must have and it does not: deadlines, which TLS and HTTP/2 count on.
// They are those of a pipe, with somebody at the other end who carries bytes between it and the channel.
type forward struct {
	net.Conn // this end of the pipe
	host     *Host
	remote   forwardAddr
}

func newForward(far net.Conn, h *Host, network, address string) *forward {
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
		case <-f.host.gone:
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
