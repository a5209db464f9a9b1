package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/courier/wire"
)

const size = 300_000

func TestFetch(t *testing.T) {
	old, content := []byte("old"), bytesOf(1, size)
	// A redirect keeps the query from being told; the header with the secret must not follow to another host.
	elsewhere := newWeb(t, file(content))
	for _, test := range []struct {
		name     string
		sources  []http.HandlerFunc
		received int64
		requests []string // the Range headers that arrive, of all sources in their order
		cause    wire.Cause
		errors   []string
	}{
		{
			name: "whole", sources: []http.HandlerFunc{file(content)}, received: size, requests: []string{""},
		}, {
			name: "cut twice and resumed", sources: []http.HandlerFunc{cut(content, 100_000, 2)}, received: size,
			requests: []string{"", "bytes=100000-", "bytes=200000-"},
		}, {
			name:     "cut, and resumed at the next source",
			sources:  []http.HandlerFunc{dies(content, 100_000), file(content)},
			received: size, requests: []string{"", "bytes=100000-", "bytes=100000-"},
		}, {
			name: "a source without ranges", sources: []http.HandlerFunc{whole(cut(content, 100_000, 1))},
			received: size + 100_000, requests: []string{"", "bytes=100000-"},
		}, {
			name: "a source that answers ranges with 416", sources: []http.HandlerFunc{unsatisfied(cut(content, 100_000, 1))},
			received: size + 100_000, requests: []string{"", "bytes=100000-", ""},
		}, {
			name:     "the first part was of other content",
			sources:  []http.HandlerFunc{dies(bytesOf(2, size), 100_000), file(content)},
			received: 2 * size, requests: []string{"", "bytes=100000-", "bytes=100000-", ""},
		}, {
			name: "wrong checksum, then right", sources: []http.HandlerFunc{file(bytesOf(2, size)), file(content)},
			received: 2 * size, requests: []string{"", ""},
		}, {
			name:     "redirected",
			sources:  []http.HandlerFunc{http.RedirectHandler(elsewhere.URL+"/cdn?signature=secret", http.StatusFound).ServeHTTP},
			received: size, requests: []string{""},
		}, {
			name: "wrong checksum", sources: []http.HandlerFunc{file(bytesOf(2, size))}, received: size, requests: []string{""},
			cause: wire.CauseContent, errors: []string{"another SHA-256 than " + hexSum(content)},
		}, {
			name: "truncated at the source", sources: []http.HandlerFunc{file(content[:1000])}, requests: []string{""},
			cause: wire.CauseContent, errors: []string{"it has 1000 bytes, not 300000"},
		}, {
			name: "truncated on the way", sources: []http.HandlerFunc{chunked(content[:1000])}, received: 1000, requests: []string{""},
			cause: wire.CauseContent, errors: []string{"it ended after 1000 of 300000 bytes"},
		}, {
			name: "too long", sources: []http.HandlerFunc{chunked(append(bytesOf(1, size), 0))}, received: size + 1,
			requests: []string{""}, cause: wire.CauseContent, errors: []string{"more than 300000 bytes"},
		}, {
			name: "redirect loop", sources: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.URL.Path+"?x=secret", http.StatusFound)
			}}, requests: []string{"", "", "", "", "", "", "", "", "", "", ""},
			cause: wire.CauseSource, errors: []string{"redirect refused: more than 10; hint: "},
		}, {
			name:     "out of TLS",
			sources:  []http.HandlerFunc{http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound).ServeHTTP},
			requests: []string{""}, cause: wire.CauseSource, errors: []string{"redirect refused: it leaves TLS"},
		}, {
			name:     "not there and not allowed",
			sources:  []http.HandlerFunc{http.NotFound, status(http.StatusUnauthorized)},
			requests: []string{"", ""}, cause: wire.CauseSource,
			errors: []string{"/blob: 404 Not Found", "/blob: 401 Unauthorized; hint: "},
		}, {
			name: "an answer for another range", sources: []http.HandlerFunc{otherRange(cut(content, 100_000, 1))},
			received: 100_000, requests: []string{"", "bytes=100000-"},
			cause: wire.CauseContent, errors: []string{`asked for the bytes from 100000, it answers with Content-Range "bytes 5-6/7"`},
		}, {
			name: "a passing fault", sources: []http.HandlerFunc{status(http.StatusServiceUnavailable)},
			requests: []string{"", ""}, cause: wire.CauseSource, errors: []string{"503", "503"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			b := blob(dir, content)
			var servers []*web
			for _, handler := range test.sources {
				server := newWeb(t, handler)
				servers = append(servers, server)
				b.Sources = append(b.Sources, wire.Source{
					URL: server.URL + "/blob?token=secret", Headers: map[string]string{"X-Token": "secret"},
				})
			}
			put(t, b.Path, old, 0o600)
			from := len(elsewhere.requests())
			status := exitDone
			if test.errors != nil {
				status = exitFailed
			}
			events := start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: servers[0].ca()}, Passes: 2}, "").rest(status)

			var requests []string
			for _, s := range servers {
				for _, r := range s.requests() {
					requests = append(requests, r.Header.Get("Range"))
					if r.Header.Get("X-Token") != "secret" {
						t.Errorf("the source was asked without its header: %v", r.Header)
					}
				}
			}
			if diff := cmp.Diff(test.requests, requests); diff != "" {
				t.Error(diff)
			}
			for _, r := range elsewhere.requests()[from:] {
				if r.Header.Get("X-Token") != "" {
					t.Errorf("the secret went to where the source redirects to")
				}
			}
			if strings.Contains(fmt.Sprint(events), "secret") {
				t.Errorf("a secret is told: %v", events)
			}
			if test.errors == nil {
				want := []wire.Event{
					wire.Fetched{
						SHA256: b.SHA256, Path: b.Path, Source: wire.CleanURL(b.Sources[len(b.Sources)-1].URL), Received: test.received,
					},
					wire.Done{Received: test.received},
				}
				if diff := cmp.Diff(want, events); diff != "" {
					t.Error(diff)
				}
				placed(t, b, content)
				return
			}
			failed, ok := events[0].(wire.Failed)
			if !ok || failed.Cause != test.cause || failed.Received != test.received || len(failed.Attempts) != len(test.errors) {
				t.Fatalf("%#v", events)
			}
			if diff := cmp.Diff(wire.Done{Received: test.received, Failed: 1}, events[1]); diff != "" {
				t.Error(diff)
			}
			for i, want := range test.errors {
				if a := failed.Attempts[i]; !strings.Contains(a.URL+": "+a.Error, want) {
					t.Errorf("attempt %d: %s: %s; want %s", i, a.URL, a.Error, want)
				}
			}
			if now, err := os.ReadFile(b.Path); err != nil || string(now) != "old" {
				t.Errorf("what stood there is replaced: %d bytes, %v", len(now), err)
			}
		})
	}
}

// dies serves a part and is then gone, but for an error.
func dies(content []byte, n int) http.HandlerFunc {
	asked := false
	part := cut(content, n, 1)
	return func(w http.ResponseWriter, r *http.Request) {
		if asked {
			http.NotFound(w, r)
			return
		}
		asked = true
		part(w, r)
	}
}

// whole ignores ranges.
func whole(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		h(w, r)
	}
}

// unsatisfied answers ranges as some registries do.
func unsatisfied(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		h(w, r)
	}
}

// otherRange answers a range with another.
func otherRange(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", "bytes 5-6/7")
			w.WriteHeader(http.StatusPartialContent)
			return
		}
		h(w, r)
	}
}

// chunked does not say how long its content is.
func chunked(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		w.Write(content) //nolint:errcheck // the test sees what arrived
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestFetchAgainAsksNothing(t *testing.T) {
	content := bytesOf(1, size)
	server := newWeb(t, file(content))
	b := blob(t.TempDir(), content, server.URL)
	put(t, b.Path, content, 0o600)
	events := start(t, &wire.Fetch{Blobs: []wire.Blob{b}}, "").rest(exitDone)
	if diff := cmp.Diff([]wire.Event{wire.Fetched{SHA256: b.SHA256, Path: b.Path}, wire.Done{}}, events); diff != "" {
		t.Error(diff)
	}
	placed(t, b, content)
	if n := len(server.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// A hundred blobs, several at a time; each fails or not by itself.
func TestFetchMany(t *testing.T) {
	dir := t.TempDir()
	contents := map[string][]byte{}
	request := &wire.Fetch{Parallel: 7}
	server := newWeb(t, func(w http.ResponseWriter, r *http.Request) {
		if content, ok := contents[r.URL.Path]; ok {
			file(content)(w, r)
			return
		}
		http.NotFound(w, r)
	})
	for i := range 100 {
		content := bytesOf(byte(i), 10_000+i)
		b := blob(dir, content, fmt.Sprintf("%s/%d", server.URL, i))
		b.Path = filepath.Join(dir, b.SHA256)
		if i != 50 {
			contents[fmt.Sprintf("/%d", i)] = content
		}
		request.Blobs = append(request.Blobs, b)
	}
	request.Net.CA = server.ca()
	events := start(t, request, "").rest(exitFailed)
	if len(events) != 101 {
		t.Fatalf("%d events", len(events))
	}
	if diff := cmp.Diff(wire.Done{Received: 99*10_000 + 4950 - 50, Failed: 1}, events[100]); diff != "" {
		t.Error(diff)
	}
	for _, e := range events {
		if f, ok := e.(wire.Failed); ok && f.SHA256 != request.Blobs[50].SHA256 {
			t.Error(f.Error())
		}
	}
}

func TestFetchWithoutTheCA(t *testing.T) {
	content := bytesOf(1, 10)
	server := newWeb(t, file(content))
	events := start(t, &wire.Fetch{Blobs: []wire.Blob{blob(t.TempDir(), content, server.URL)}}, "").rest(exitFailed)
	f, ok := events[0].(wire.Failed)
	if !ok || !strings.Contains(f.Error(), "hint: the CA of the server") || len(f.Attempts) != 1 {
		t.Errorf("%v", events)
	}
	if n := len(server.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// The host's own proxy (noProxy) does not count. No proxy is ever used for 127.0.0.1; 0.0.0.0 leads there as well.
func TestFetchWithoutTheHostsProxy(t *testing.T) {
	content := bytesOf(1, 1000)
	server := httptest.NewServer(file(content))
	defer server.Close()
	b := blob(t.TempDir(), content, strings.Replace(server.URL, "127.0.0.1", "0.0.0.0", 1))
	start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Passes: 1}, "").rest(exitDone)
	placed(t, b, content)
}

func TestFetchThroughProxy(t *testing.T) {
	content := bytesOf(1, 1000)
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String()+" "+r.Header.Get("Proxy-Authorization"))
		file(content)(w, r)
	}))
	defer proxy.Close()
	b := blob(t.TempDir(), content, "http://files.example/blob")
	login := strings.Replace(proxy.URL, "//", "//user:secret@", 1)
	network := wire.Net{Proxy: wire.Proxy{HTTP: login, No: "other.example"}}
	events := start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Net: network}, "").rest(exitDone)
	placed(t, b, content)
	if diff := cmp.Diff([]string{"http://files.example/blob Basic dXNlcjpzZWNyZXQ="}, asked); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(fmt.Sprint(events), "secret") {
		t.Errorf("a secret is told: %v", events)
	}
}

func TestFetchStalled(t *testing.T) {
	content := bytesOf(1, size)
	server := newWeb(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		w.Write(content[:1000]) //nolint:errcheck // the test sees what arrived
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	good := newWeb(t, file(content))
	b := blob(t.TempDir(), content, server.URL, good.URL)
	request := &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}, StallSeconds: 1}
	start(t, request, "").rest(exitDone)
	placed(t, b, content)
}
