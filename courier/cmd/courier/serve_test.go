package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/myadm/myadm/courier"
	"github.com/myadm/myadm/courier/wire"
)

func identity(t *testing.T) courier.Identity {
	id, err := courier.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// peer is a running server with one blob of content.
func peer(t *testing.T, id courier.Identity, content []byte) (p *program, address string) {
	path := filepath.Join(t.TempDir(), "content")
	put(t, path, content, 0o600)
	p = start(t, id.Serve("127.0.0.1:0", map[string]string{hexSum(content): path}), "")
	return p, await[wire.Listening](p).Address
}

// One host fetches from another: what one counts as sent, the other counts as received.
func TestPeer(t *testing.T) {
	content := bytesOf(1, size)
	id := identity(t)
	p, address := peer(t, id, content)
	b := blob(t.TempDir(), content)
	b.Sources = []wire.Source{id.Source(address, b.SHA256)}
	put(t, partialPath(b), content[:100_000], 0o600)
	request := &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{Proxy: wire.Proxy{HTTPS: "http://127.0.0.1:1"}}}
	events := start(t, request, "").rest(exitDone)
	if diff := cmp.Diff(wire.Event(wire.Done{Received: 200_000}), events[1]); diff != "" {
		t.Error(diff)
	}
	placed(t, b, content)

	for e := await[wire.Served](p); e.Bytes != 200_000; e = await[wire.Served](p) {
	}
	p.stdin.Close()
	events = p.rest(exitDone)
	want := []wire.Event{wire.Served{Bytes: 200_000, Requests: 1}, wire.Done{}}
	if diff := cmp.Diff(want, events[len(events)-2:]); diff != "" {
		t.Error(diff)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("something listens still")
	}
}

func TestPeerRefused(t *testing.T) {
	content := bytesOf(1, 1000)
	id, other := identity(t), identity(t)
	p, address := peer(t, id, content)
	for _, test := range []struct {
		name   string
		change func(*wire.Source)
		want   string
	}{
		{"another certificate", func(s *wire.Source) { s.Pin = other.Pin }, "the peer's certificate is not the one"},
		{"another token", func(s *wire.Source) { s.Headers = other.Source("x", "y").Headers }, "401 Unauthorized"},
		{"no token", func(s *wire.Source) { s.Headers = nil }, "401 Unauthorized"},
		{"another blob", func(s *wire.Source) { s.URL = id.Source(address, hexSum(nil)).URL }, "404 Not Found"},
		{"no pin", func(s *wire.Source) { s.Pin = "" }, "certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := blob(t.TempDir(), content)
			s := id.Source(address, b.SHA256)
			test.change(&s)
			b.Sources = []wire.Source{s}
			events := start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Passes: 1}, "").rest(exitFailed)
			f, ok := events[0].(wire.Failed)
			if !ok || len(f.Attempts) != 1 || !strings.Contains(f.Error(), test.want) {
				t.Errorf("%#v; want %s", events, test.want)
			}
		})
	}
	p.stdin.Close()
	events := p.rest(exitDone)
	if diff := cmp.Diff(wire.Event(wire.Served{Refused: 3}), events[len(events)-2]); diff != "" {
		t.Error(diff)
	}
}

// Nothing but the exact path of a blob is answered, by the two methods that read.
func TestServePaths(t *testing.T) {
	content := bytesOf(1, 1000)
	sum := hexSum(content)
	id := identity(t)
	_, address := peer(t, id, content)
	for _, test := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/sha256/" + sum, http.StatusOK},
		{http.MethodHead, "/sha256/" + sum, http.StatusOK},
		{http.MethodPost, "/sha256/" + sum, http.StatusMethodNotAllowed},
		{http.MethodGet, "/", http.StatusNotFound},
		{http.MethodGet, "/sha256/", http.StatusNotFound},
		{http.MethodGet, "/sha256/" + sum + "/", http.StatusNotFound},
		{http.MethodGet, "//sha256/" + sum, http.StatusNotFound},
		{http.MethodGet, "/sha256/../sha256/" + sum, http.StatusNotFound},
		{http.MethodGet, "/sha256/%" + "2e%2e/content", http.StatusNotFound},
		{http.MethodGet, "/sha256/" + strings.ToUpper(sum), http.StatusNotFound},
		{http.MethodGet, "/sha256/" + sum + "?x", http.StatusNotFound},
	} {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, test.method+" "+test.path+" HTTP/1.0\r\nAuthorization: Bearer "+id.Token+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if want := http.StatusText(test.want) + "\r\n"; err != nil || !strings.Contains(string(answer), want) {
			t.Errorf("%s %s: %.60q, %v; want %q", test.method, test.path, answer, err, want)
		}
		conn.Close()
	}
}

// A blob whose file is not there, or is none, is gone: from the start, in an offer, or since. The others are served.
func TestServeWithoutTheFile(t *testing.T) {
	content := bytesOf(1, 1000)
	dir := t.TempDir()
	here, moved := filepath.Join(dir, "here"), filepath.Join(dir, "moved")
	put(t, here, content, 0o600)
	put(t, moved, bytesOf(2, 10), 0o600)
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	id := identity(t)
	p := start(t, id.Serve("127.0.0.1:0", map[string]string{hexSum(bytesOf(2, 10)): moved, hexSum(bytesOf(3, 10)): dir}), "")
	address := await[wire.Listening](p).Address
	if err := os.Remove(moved); err != nil {
		t.Fatal(err)
	}
	p.tell(map[string]string{hexSum(bytesOf(5, 10)): filepath.Join(dir, "none"), hexSum(bytesOf(4, 10)): fifo, hexSum(content): here})
	ask := func(content []byte) wire.Blob {
		b := blob(t.TempDir(), content)
		b.Sources = []wire.Source{id.Source(address, b.SHA256)}
		return b
	}
	b := ask(content)
	start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Passes: 10}, "").rest(exitDone) // then the offer is known
	placed(t, b, content)
	for _, content := range [][]byte{bytesOf(2, 10), bytesOf(3, 10), bytesOf(5, 10), bytesOf(4, 10)} {
		events := start(t, &wire.Fetch{Blobs: []wire.Blob{ask(content)}}, "").rest(exitFailed)
		f, ok := events[0].(wire.Failed)
		if !ok || f.Cause != wire.CauseSource || len(f.Attempts) != 1 || !strings.Contains(f.Error(), "410 Gone") {
			t.Errorf("%#v", events)
		}
	}
	p.stdin.Close()
	p.rest(exitDone)
}

func TestProbe(t *testing.T) {
	good := newWeb(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Token") != "secret" || r.Method != http.MethodHead {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ctx.Done() }))
	defer func() { cancel(); hangs.Close() }()
	id := identity(t)
	p, address := peer(t, id, []byte("x"))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	source := func(url string) wire.Source {
		return wire.Source{URL: url, Headers: map[string]string{"X-Token": "secret"}}
	}
	request := &wire.Probe{
		Net: wire.Net{CA: good.ca()}, TimeoutMillis: 2000,
		Targets: []wire.Target{
			{Source: source(good.URL + "/file?token=secret")},
			{Source: wire.Source{URL: good.URL + "/v2/"}},
			{Source: wire.Source{URL: hangs.URL}},
			{Source: id.Source(address, hexSum([]byte("x")))},
			{Address: address},
			{Address: closed.Addr().String()},
		},
	}
	began := time.Now()
	events := start(t, request, "").rest(exitFailed)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	got := map[string]wire.Probed{}
	for _, e := range events[:len(events)-1] {
		probed := e.(wire.Probed)
		if (probed.Error == "") != probed.Reached {
			t.Errorf("%#v", probed)
		}
		got[probed.Target] = probed
	}
	want := map[string]wire.Probed{
		good.URL + "/file":        {Reached: true, Status: http.StatusOK},
		good.URL + "/v2/":         {Reached: true, Status: http.StatusUnauthorized},
		hangs.URL:                 {},
		address:                   {Reached: true},
		closed.Addr().String():    {},
		request.Targets[3].Name(): {Reached: true, Status: http.StatusOK},
	}
	ignored := cmpopts.IgnoreFields(wire.Probed{}, "Target", "Millis", "Error")
	if diff := cmp.Diff(want, got, ignored); diff != "" {
		t.Error(diff)
	}
	if slow := got[hangs.URL].Millis; slow < 1900 {
		t.Errorf("the target that hangs took %d ms", slow)
	}
	if diff := cmp.Diff(wire.Event(wire.Done{Failed: 2}), events[len(events)-1]); diff != "" {
		t.Error(diff)
	}
	p.stdin.Close()
}
