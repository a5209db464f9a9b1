package hosttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/myadm/myadm/host"
)

// ConformDial is the part of Conformance about connections. The host can reach this machine's loopback and sockets.
func ConformDial(t *testing.T, open func(t *testing.T) host.Host, _ func(t *testing.T) string) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run("dial "+network, func(t *testing.T) {
			h := open(t)
			address := echo(t, network)
			t.Run("carries", func(t *testing.T) { dialCarries(t, h, network, address) })
			t.Run("deadlines", func(t *testing.T) { dialDeadlines(t, h, network, address) })
		})
	}
	t.Run("dial refused", func(t *testing.T) {
		h := open(t)
		if conn, err := h.Dial(t.Context(), "unix", filepath.Join(t.TempDir(), "nobody")); err == nil {
			conn.Close()
			t.Error("a socket that is not there was connected to")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if conn, err := h.Dial(ctx, "tcp", "127.0.0.1:1"); !errors.Is(err, context.Canceled) {
			if err == nil {
				conn.Close()
			}
			t.Errorf("ctx had ended: %v", err)
		}
	})
}

// echo is a server that sends back what it gets, and closes when the client does.
func echo(t *testing.T, network string) string {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "echo") // t.TempDir is too long for a socket
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // it is a temporary folder
		address = filepath.Join(dir, "s")
	}
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), network, address)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(conn, conn) //nolint:errcheck // until the client closes it
				conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func dialCarries(t *testing.T, h host.Host, network, address string) {
	conn, err := h.Dial(t.Context(), network, address)
	must(t, err)
	defer conn.Close()
	if got := conn.RemoteAddr(); got.Network() != network || got.String() != address {
		t.Errorf("remote address %s %s", got.Network(), got)
	}
	sent := noise(1<<20, 9)
	go conn.Write(sent) //nolint:errcheck // what comes back tells
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("what came back differs: %v", err)
	}
}

// dialDeadlines: TLS and HTTP/2 stop a Read that waits, and use the connection again.
func dialDeadlines(t *testing.T, h host.Host, network, address string) {
	conn, err := h.Dial(t.Context(), network, address)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	b := make([]byte, 1)
	if _, err := conn.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read after the deadline: %v", err)
	}
	must(t, conn.SetReadDeadline(time.Time{}))
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, b); err != nil || b[0] != 'x' {
		t.Errorf("read after the deadline was taken back: %q, %v", b, err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		waiting <- err
	}()
	must(t, conn.SetDeadline(time.Now()))
	select {
	case err := <-waiting:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read stopped by a deadline: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("a deadline does not stop a read")
	}
}
