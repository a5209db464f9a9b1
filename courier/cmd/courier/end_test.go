package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/courier/wire"
)

// The program ends when it is told to, or when nobody is there any more, and what it had goes on the next time.
func TestEndsAndResumes(t *testing.T) {
	content := bytesOf(1, size)
	for _, test := range []struct {
		name  string
		end   func(p *program) error
		cause string
	}{
		{"standard input closes", func(p *program) error { return p.stdin.Close() }, errClosed.Error()},
		{"SIGTERM", func(p *program) error { return p.cmd.Process.Signal(syscall.SIGTERM) }, "terminated"},
		{"SIGHUP", func(p *program) error { return p.cmd.Process.Signal(syscall.SIGHUP) }, "hangup"},
		{"SIGKILL", func(p *program) error { return p.cmd.Process.Kill() }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			hung, hang := context.WithCancel(t.Context())
			defer hang()
			server := newWeb(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					file(content)(w, r)
					return
				}
				w.Header().Set("ETag", `"`+hexSum(content)[:8]+`"`)
				w.Header().Set("Content-Length", fmt.Sprint(size))
				w.Write(content[:100_000]) //nolint:errcheck // the test sees what arrived
				w.(http.Flusher).Flush()
				select { // and no more
				case <-r.Context().Done():
				case <-hung.Done():
				}
			})
			b := blob(t.TempDir(), content, server.URL)
			put(t, b.Path, []byte("old"), 0o600)
			request := &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}}
			p := start(t, request, "")
			for await[wire.Progress](p).Bytes < 100_000 {
			}
			if err := test.end(p); err != nil {
				t.Fatal(err)
			}
			if test.cause != "" {
				events := p.rest(exitFailed)
				e, ok := events[len(events)-1].(wire.Error)
				if !ok || !strings.Contains(e.Text, test.cause) {
					t.Errorf("%#v; want %s", events, test.cause)
				}
			} else {
				p.cmd.Wait() //nolint:errcheck // it was killed
			}
			if now, err := os.ReadFile(b.Path); err != nil || string(now) != "old" {
				t.Errorf("what stood there is replaced: %d bytes, %v", len(now), err)
			}

			events := start(t, request, "").rest(exitDone)
			if diff := cmp.Diff(wire.Event(wire.Done{Received: 200_000}), events[len(events)-1]); diff != "" {
				t.Error(diff)
			}
			placed(t, b, content)
			last := server.requests()[1].Header
			if got := last.Get("Range") + " " + last.Get("If-Range"); got != "bytes=100000- \""+hexSum(content)[:8]+"\"" {
				t.Errorf("asked for %s", got)
			}
		})
	}
}

// A source that has another version now sends it whole, and the old part is forgotten.
func TestResumeOfAnotherVersion(t *testing.T) {
	content := bytesOf(1, size)
	server := newWeb(t, file(content))
	b := blob(t.TempDir(), content, server.URL)
	put(t, partialPath(b), bytesOf(2, 1000), 0o600)
	from := strings.TrimSuffix(partialPath(b), ".part") + ".from"
	put(t, from, []byte(urlSum(server.URL)+` "older"`), 0o600)
	events := start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}}, "").rest(exitDone)
	if diff := cmp.Diff(wire.Event(wire.Done{Received: size}), events[1]); diff != "" {
		t.Error(diff)
	}
	placed(t, b, content)
}

// Two programs that fetch the same blob do not write into one file: the second waits, and finds it there.
func TestTwoAtOnce(t *testing.T) {
	content := bytesOf(1, size)
	ready, release := make(chan struct{}, 2), make(chan struct{})
	server := newWeb(t, func(w http.ResponseWriter, r *http.Request) {
		ready <- struct{}{}
		<-release
		file(content)(w, r)
	})
	b := blob(t.TempDir(), content, server.URL)
	request := &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}}
	first := start(t, request, "")
	<-ready
	second := start(t, request, "")
	awaitOpen(t, second, partialPath(b))
	close(release)
	first.rest(exitDone)
	events := second.rest(exitDone)
	if diff := cmp.Diff(wire.Event(wire.Done{}), events[len(events)-1]); diff != "" {
		t.Error(diff)
	}
	placed(t, b, content)
	if n := len(server.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// awaitOpen waits until the program has opened a file.
func awaitOpen(t *testing.T, p *program, path string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
		if err != nil || len(links) == 0 {
			t.Fatalf("the program has ended: %v", err)
		}
		for _, link := range links {
			if target, err := os.Readlink(link); err == nil && target == path {
				return
			}
		}
	}
}

// A blob that no disk can hold is refused before anything is asked.
func TestNoSpace(t *testing.T) {
	server := newWeb(t, http.NotFound)
	b := blob(t.TempDir(), nil, server.URL)
	b.Size = 1 << 62
	other := blob(t.TempDir(), []byte("x"), server.URL)
	events := start(t, &wire.Fetch{Blobs: []wire.Blob{other, b}, Net: wire.Net{CA: server.ca()}}, "").rest(exitFailed)
	e, ok := events[0].(wire.Error)
	if !ok || e.Cause != wire.CauseSpace || !strings.Contains(e.Text, fmt.Sprintf("%d bytes are needed and ", int64(1<<62)+1)) {
		t.Errorf("%#v", events)
	}
	if n := len(server.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// The disk becomes full half-way: a limit on the size of files stands for it. When there is room, the rest is fetched.
func TestSpaceEnds(t *testing.T) {
	content := bytesOf(1, size)
	server, next := newWeb(t, file(content)), newWeb(t, file(content))
	b := blob(t.TempDir(), content, server.URL, next.URL)
	put(t, b.Path, []byte("old"), 0o600)
	request := &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}}
	events := start(t, request, "ulimit -f 200 && ").rest(exitFailed) // of 512 bytes each
	f, ok := events[0].(wire.Failed)
	if !ok || f.Cause != wire.CauseSpace || !strings.Contains(f.Error(), "file too large; hint: make room") {
		t.Fatalf("%#v", events)
	}
	if now, err := os.ReadFile(b.Path); err != nil || string(now) != "old" {
		t.Errorf("what stood there is replaced: %d bytes, %v", len(now), err)
	}
	if n := len(next.requests()); n != 0 {
		t.Errorf("the next source was asked, though none can help")
	}
	events = start(t, request, "").rest(exitDone)
	if diff := cmp.Diff(wire.Event(wire.Done{Received: size - 200*512}), events[1]); diff != "" {
		t.Error(diff)
	}
	placed(t, b, content)
}

func TestHostFault(t *testing.T) {
	server := newWeb(t, file(nil))
	dir := t.TempDir()
	put(t, filepath.Join(dir, "sub"), nil, 0o600) // a file where a folder should be
	events := start(t, &wire.Fetch{Blobs: []wire.Blob{blob(dir, []byte("x"), server.URL)}}, "").rest(exitFailed)
	if e, ok := events[0].(wire.Failed); !ok || e.Cause != wire.CauseHost || !strings.Contains(e.Error(), "not a directory") {
		t.Errorf("%#v", events)
	}
}

func TestWrongRequest(t *testing.T) {
	events := start(t, &wire.Fetch{}, "").rest(exitUsage)
	if e, ok := events[0].(wire.Error); !ok || e.Text != "request of fetch: there is no blob to fetch" {
		t.Errorf("%#v", events)
	}
}
