//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// silence is for how long the operator's connections bear that nothing comes back.
const silence = 2 * time.Second

// failover dials the first of several API servers that takes the connection, and stays with it as long as it does.
type failover struct {
	addresses []string // host:port

	mu    sync.Mutex
	first int // index of the address that is tried first
}

// DialContext has the form of rest.Config's Dial; the address there is of no importance.
func (f *failover) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	first := f.current()
	var errs []error
	for i := range f.addresses {
		n := (first + i) % len(f.addresses)
		conn, err := impatient(time.Second).DialContext(ctx, network, f.addresses[n])
		if err == nil {
			f.mu.Lock()
			f.first = n
			f.mu.Unlock()
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// current is the index of the address that was last dialled.
func (f *failover) current() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first
}

// impatient makes connections that break when the other side is silent: it may have lost its power.
func impatient(timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout:         timeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: int(silence / time.Second)},
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			return errors.Join(c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
			}), err)
		},
	}
}

// follow lets the site's API clients go by these control planes, whichever of them is up.
func (s *site) follow(t *testing.T, controlPlanes ...string) {
	t.Helper()
	s.servers = &failover{}
	for _, name := range controlPlanes {
		s.servers.addresses = append(s.servers.addresses, s.address(t, name, "6443"))
	}
	s.dial = s.servers.DialContext
}

// through lets the site's API clients go by the endpoint of a node, as programs on that node do.
func (s *site) through(t *testing.T, node string) {
	t.Helper()
	there := s.dialFrom(t, node)
	s.dial = func(ctx context.Context, network, _ string) (net.Conn, error) { return there(ctx, network, endpointOf) }
}

// address is host:port of a host.
func (s *site) address(t *testing.T, host, port string) string {
	t.Helper()
	h, err := s.Host(host)
	must(t, err)
	return net.JoinHostPort(h.Address.String(), port)
}

// dialFrom makes connections as programs on a host do, with its addresses and routes, 127.0.0.1 among them. It uses this
// machine's kernel, on which all hosts run, so it needs the address as a number.
func (s *site) dialFrom(t *testing.T, host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	t.Helper()
	there := s.networkOf(t, host)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		type result struct {
			conn net.Conn
			err  error
		}
		results := make(chan result, 1)
		go func() {
			// A thread that has been elsewhere ends with its goroutine, because that never unlocks it.
			runtime.LockOSThread()
			conn, err := dialIn(ctx, there, network, address)
			results <- result{conn, err}
		}()
		r := <-results
		return r.conn, r.err
	}
}

// dialIn moves the thread into a network namespace and dials there.
func dialIn(ctx context.Context, namespace, network, address string) (net.Conn, error) {
	file, err := os.Open(namespace)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter %s: %w", namespace, err)
	}
	return impatient(2*time.Second).DialContext(ctx, network, address)
}

// others are the names but those.
func others(names []string, but ...string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(but, n) })
}
