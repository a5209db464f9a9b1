package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// echoServer answers each connection, once it has been told all, with what it was told, twice.
func echoServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				said, err := io.ReadAll(conn)
				if err == nil {
					_, _ = conn.Write(append(said, said...))
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// ask says something over a link and returns the answer.
func ask(k *Link, host string, said []byte) ([]byte, error) {
	address, err := k.Address(host)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", address.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write(said); err != nil {
		return nil, err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return nil, err
	}
	return io.ReadAll(conn)
}

func newTestLink(t *testing.T, bytesPerSecond int64, hosts ...string) *Link {
	t.Helper()
	k := NewLink(t.Context(), bytesPerSecond)
	t.Cleanup(k.Close)
	for _, h := range hosts {
		if err := k.Add(h, echoServer(t)); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func TestLinkCountsBothDirections(t *testing.T) {
	k := newTestLink(t, 0, "h1", "h2")
	for i, host := range []string{"h1", "h2", "h2"} {
		said := bytes.Repeat([]byte{byte(i)}, 100_000)
		answer, err := ask(k, host, said)
		if err != nil || !bytes.Equal(answer, append(said, said...)) {
			t.Errorf("%s: %d bytes, %v", host, len(answer), err)
		}
	}
	if got, want := k.Traffic(), (Traffic{Sent: 300_000, Received: 600_000}); got != want {
		t.Errorf("all: %+v, want %+v", got, want)
	}
	if got, want := k.HostTraffic()["h1"], (Traffic{Sent: 100_000, Received: 200_000}); got != want {
		t.Errorf("h1: %+v, want %+v", got, want)
	}
	if _, err := ask(k, "h3", nil); err == nil {
		t.Error("there is a link to h3")
	}
}

// Two hosts at once share the rate, and a rate that is lifted holds no longer.
func TestLinkIsThrottled(t *testing.T) {
	k := newTestLink(t, 1_000_000, "h1", "h2")
	said := make([]byte, 100_000)
	both := func() time.Duration {
		began := time.Now()
		done := make(chan error)
		for _, host := range []string{"h1", "h2"} {
			go func() {
				_, err := ask(k, host, said)
				done <- err
			}()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Error(err)
		}
		return time.Since(began)
	}
	// 200 kB up and 400 kB down, which begins when the first half is up, less what passes at once.
	throttled := both()
	if throttled < 450*time.Millisecond {
		t.Errorf("took %s at 1 MB/s, want at least 450 ms", throttled)
	}
	k.SetRate(0)
	if took := both(); took > throttled {
		t.Errorf("took %s without a limit, %s with one", took, throttled)
	}
}

func TestLinkEndsItsConnections(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	k := NewLink(ctx, 0)
	t.Cleanup(k.Close)
	if err := k.Add("h1", greetingServer(t)); err != nil {
		t.Fatal(err)
	}
	address, err := k.Address("h1")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("on a link that was cut: %d bytes, %v", n, err)
	}
	k.Close()
	if conn, err := net.Dial("tcp", address.String()); err == nil {
		conn.Close()
		t.Error("a link that was closed takes connections")
	}
}

// greetingServer says hello to one client and then nothing.
func greetingServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "hello"); err == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	}()
	return listener.Addr().String()
}

func TestLinkToAHostThatIsOff(t *testing.T) {
	k := newTestLink(t, 0)
	listener, err := net.Listen("tcp", "127.0.0.1:0") // whose port is free once it is closed
	if err != nil {
		t.Fatal(err)
	}
	gone := listener.Addr().String()
	listener.Close()
	if err := k.Add("h1", gone); err != nil {
		t.Fatal(err)
	}
	if answer, _ := ask(k, "h1", []byte("hello")); len(answer) != 0 {
		t.Errorf("it answers %q", answer)
	}
}

func TestLinkSSHConfig(t *testing.T) {
	k := newTestLink(t, 0)
	for _, host := range []string{"1", "2"} {
		if err := k.Add("h"+host, "10.89.3.1"+host+":22"); err != nil {
			t.Fatal(err)
		}
	}
	var want strings.Builder
	for _, host := range []string{"1", "2"} {
		address, err := k.Address("h" + host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&want, "Host h%s 10.89.3.1%s\n  HostName 127.0.0.1\n  Port %d\n", host, host, address.Port())
	}
	if got := k.SSHConfig(); got != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got, want.String())
	}
}

// A round trip takes the latency, and so does the connection before it; many bytes take no longer than few.
func TestLinkIsLong(t *testing.T) {
	const latency = 100 * time.Millisecond
	k := newTestLink(t, 0, "h1")
	k.SetLatency(latency)
	for _, size := range []int{1, 8 << 20} {
		said := make([]byte, size)
		began := time.Now()
		answer, err := ask(k, "h1", said)
		if err != nil || len(answer) != 2*size {
			t.Errorf("%d bytes came back, %v", len(answer), err)
		}
		// What moves 16 KiB for each way would take a minute for the larger one.
		if took := time.Since(began); took < 2*latency || took > 20*time.Second {
			t.Errorf("%d bytes took %s, want two round trips", size, took)
		}
	}
	k.SetLatency(0)
	if answer, err := ask(k, "h1", []byte("short")); err != nil || string(answer) != "shortshort" {
		t.Errorf("%q, %v", answer, err)
	}
}

// The document that names the proxies says to the other hosts what it said before.
func TestLinkDocument(t *testing.T) {
	k := newTestLink(t, 0, "h1", "h2")
	got, err := k.Document([]byte(`
metadata: {name: far}
spec:
  hosts:
  - {name: h1, address: 10.89.0.11, roles: [control-plane], ssh: {user: root, hostKey: ssh-ed25519 AAAA}}
  - {name: h2, address: two.example, advertiseAddress: 10.89.0.12}
`))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := k.Address("h1")
	second, _ := k.Address("h2")
	want := fmt.Sprintf(`metadata:
  name: far
spec:
  hosts:
  - address: 127.0.0.1
    advertiseAddress: 10.89.0.11
    name: h1
    roles:
    - control-plane
    ssh:
      hostKey: ssh-ed25519 AAAA
      port: %d
      user: root
  - address: 127.0.0.1
    advertiseAddress: 10.89.0.12
    name: h2
    ssh:
      port: %d
`, first.Port(), second.Port())
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if _, err := k.Document([]byte("spec: {hosts: [{name: h3, address: 10.89.0.13}]}")); err == nil {
		t.Error("a host without a proxy is in the document")
	}
}
