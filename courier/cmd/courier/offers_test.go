package main

import (
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/courier/wire"
)

// tell offers blobs to a running server.
func (p *program) tell(blobs map[string]string) {
	p.t.Helper()
	if err := json.NewEncoder(p.stdin).Encode(wire.Offer{Blobs: blobs}); err != nil {
		p.t.Fatal(err)
	}
}

// A server that knows nothing at first is told of blobs while it runs; a peer that asked too early asks again.
func TestOffers(t *testing.T) {
	content := bytesOf(1, size)
	id := identity(t)
	p := start(t, id.Serve("127.0.0.1:0", nil), "")
	address := await[wire.Listening](p).Address
	b := blob(t.TempDir(), content)
	b.Sources = []wire.Source{id.Source(address, b.SHA256)}
	peer := start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Passes: 10}, "")
	for await[wire.Served](p).Refused == 0 {
	}
	path := filepath.Join(t.TempDir(), "content")
	put(t, path, content, 0o600)
	p.tell(map[string]string{b.SHA256: path, hexSum(nil): path})
	peer.rest(exitDone)
	placed(t, b, content)

	// What is known may move.
	moved := filepath.Join(t.TempDir(), "moved")
	put(t, moved, nil, 0o600)
	p.tell(map[string]string{hexSum(nil): moved})
	b = blob(t.TempDir(), nil)
	b.Sources = []wire.Source{id.Source(address, b.SHA256)}
	for n := 0; ; n++ {
		e := start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Passes: 1}, "").next()
		if _, ok := e.(wire.Fetched); ok {
			break
		}
		if n == 100 {
			t.Fatalf("%#v", e)
		}
	}
	placed(t, b, nil)

	p.stdin.Close()
	events := p.rest(exitDone)
	if diff := cmp.Diff(wire.Event(wire.Done{}), events[len(events)-1]); diff != "" {
		t.Error(diff)
	}
}

func TestWrongOffer(t *testing.T) {
	content := bytesOf(1, 10)
	for _, test := range []struct{ line, want string }{
		{`{"blobs":{"x":"/a"}}`, `offer: "x" is not a SHA-256`},
		{`{"blobs":{"` + hexSum(nil) + `":"a"}}`, "not absolute and clean"},
		{`hello`, "offer on standard input: invalid character"},
	} {
		p, _ := peer(t, identity(t), content)
		if _, err := io.WriteString(p.stdin, test.line+"\n"); err != nil {
			t.Fatal(err)
		}
		events := p.rest(exitFailed)
		if e, ok := events[len(events)-1].(wire.Error); !ok || !strings.Contains(e.Text, test.want) {
			t.Errorf("%s: %#v; want %s", test.line, events, test.want)
		}
	}
}

// More input says nothing to a fetch, which ends by itself.
func TestFetchIgnoresOffers(t *testing.T) {
	content := bytesOf(1, 10)
	server := newWeb(t, file(content))
	b := blob(t.TempDir(), content, server.URL)
	line, err := json.Marshal(&wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	in, w := io.Pipe()
	go io.WriteString(w, string(line)+"\nhello\n") //nolint:errcheck // the program may end before
	if status := run(t.Context(), []string{"fetch"}, in, &out, func() {}); status != exitDone {
		t.Errorf("%d, %s", status, &out)
	}
	in.Close()
	placed(t, b, content)
}
