package wire_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/courier/wire"
)

var hexSum = strings.Repeat("0a", 32)

var events = []wire.Event{
	wire.Progress{SHA256: hexSum, Bytes: 1, Size: 2},
	wire.Fetched{SHA256: hexSum, Path: "/a", Source: "https://a/b", Received: 3},
	wire.Fetched{SHA256: hexSum, Path: "/a", Kept: true},
	wire.Failed{SHA256: hexSum, Path: "/a", Cause: wire.CauseContent, Attempts: []wire.Attempt{{URL: "https://a/b", Error: "x"}}},
	wire.Listening{Address: "10.0.0.1:4000"},
	wire.Served{Bytes: 1, Requests: 2, Refused: 3},
	wire.Probed{Target: "https://a/b", Reached: true, Status: 200, Millis: 5},
	wire.Done{Received: 1, Failed: 2},
	wire.Error{Cause: wire.CauseSpace, Text: "x"},
}

func TestEventsSurvive(t *testing.T) {
	for _, e := range events {
		line, err := wire.Line(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.Parse(line)
		if diff := cmp.Diff(e, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}

// However long and odd what it has to say, an event fits in a line.
func TestLineIsBounded(t *testing.T) {
	long := strings.Repeat("\x00\"<é\xff\n", 50_000)
	failed := wire.Failed{SHA256: hexSum}
	for range 100 {
		failed.Attempts = append(failed.Attempts, wire.Attempt{URL: long, Error: long})
	}
	for _, e := range []wire.Event{failed, wire.Error{Text: long}, wire.Probed{Target: long, Error: long}} {
		line, err := wire.Line(e)
		if err != nil || len(line) > wire.MaxLine {
			t.Errorf("%T: %d bytes, %v", e, len(line), err)
		}
		if _, err := wire.Parse(line); err != nil {
			t.Errorf("%T: %v", e, err)
		}
	}
	if len(failed.Attempts) != 100 || failed.Attempts[0].Error != long {
		t.Error("the event itself was changed")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{``, "unexpected end of JSON"},
		{`hello`, "invalid character"},
		{`{}`, "this has 0"},
		{`{"done":{},"error":{}}`, "this has 2"},
		{`{"dnoe":{}}`, `unknown type of event "dnoe"`},
		{`{"done":{"more":1}}`, "done: json: unknown field"},
		{`{"done":{"received":-1}}`, "done: received -1 is negative"},
		{`{"fetched":{"sha256":"../../etc"}}`, `fetched: "../../etc" is not a SHA-256`},
		{`{"progress":{"sha256":"` + strings.ToUpper(hexSum) + `"}}`, "is not a SHA-256 in lower-case hex"},
		{`{"error":"` + strings.Repeat("x", wire.MaxLine) + `"}`, "more than 262144 bytes"},
	} {
		if e, err := wire.Parse([]byte(test.line)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80s: %#v, %v; want %s", test.line, e, err, test.want)
		}
	}
	if _, err := wire.Parse([]byte(`{"dnoe":{}}`)); !errors.Is(err, wire.ErrUnknownType) {
		t.Error(err)
	}
}

// FuzzParse: what a host sends never gets further than bounded and printable.
func FuzzParse(f *testing.F) {
	for _, e := range events {
		line, err := wire.Line(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Add([]byte(`{"error":{"text":"\u001b[2J\u009b\ud800"}}`))
	f.Add([]byte(`{"failed":{"sha256":"` + hexSum + `","attempts":[{"url":"\u0000","error":"\n"}]}}`))
	f.Add([]byte(`{"done":null}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := wire.Parse(line)
		if err != nil {
			return
		}
		texts := []string{}
		switch e := e.(type) {
		case wire.Error:
			texts = append(texts, e.Text, string(e.Cause))
		case wire.Fetched:
			texts = append(texts, e.Path, e.Source)
		case wire.Listening:
			texts = append(texts, e.Address)
		case wire.Probed:
			texts = append(texts, e.Target, e.Error)
		case wire.Failed:
			texts = append(texts, e.Path, string(e.Cause))
			for _, a := range e.Attempts {
				texts = append(texts, a.URL, a.Error)
			}
		}
		for _, text := range texts {
			if len(text) > 1<<10 || strings.ContainsAny(text, "\x00\x1b\n\r\u009b") {
				t.Errorf("%#v", e)
			}
		}
		again, err := wire.Line(e)
		if err != nil || len(again) > wire.MaxLine {
			t.Fatalf("%#v: %d bytes, %v", e, len(again), err)
		}
		if same, err := wire.Parse(again); err != nil || !cmp.Equal(e, same) {
			t.Errorf("%#v becomes %#v, %v", e, same, err)
		}
	})
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain é":                 "plain é",
		"a\nb\tc\x1b[31m":         "a b c [31m",
		"a\xffb":                  "a�b",
		strings.Repeat("é", 1000): strings.Repeat("é", 510) + "...",
	} {
		if got := wire.Text(in); got != want || !utf8.ValidString(got) {
			t.Errorf("%.20q becomes %q", in, got)
		}
	}
}

func TestCleanURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://user:secret@a.example:8443/b/c?token=secret#secret": "https://a.example:8443/b/c",
		"https://%zz/secret": "(not a URL)",
	} {
		if got := wire.CleanURL(in); got != want {
			t.Errorf("%s becomes %s", in, got)
		}
	}
}

func TestCheck(t *testing.T) {
	good := func() wire.Blob {
		return wire.Blob{SHA256: hexSum, Path: "/a/b", Sources: []wire.Source{{URL: "https://a/b"}}}
	}
	fetch := func(change func(b *wire.Blob)) wire.Request {
		b := good()
		change(&b)
		return &wire.Fetch{Blobs: []wire.Blob{b}}
	}
	unpack := func(change func(b *wire.Blob)) wire.Request {
		return fetch(func(b *wire.Blob) {
			b.Unpack = &wire.Unpack{Format: wire.TarGzip, Files: []wire.File{
				{Member: "bin/x", SHA256: hexSum, Path: "/x"}, {Member: "bin/y", SHA256: hexSum, Size: wire.MaxSize, Path: "/y"},
			}}
			change(b)
		})
	}
	for _, test := range []struct {
		request wire.Request
		want    string // empty: it is fine
	}{
		{fetch(func(*wire.Blob) {}), ""},
		{fetch(func(b *wire.Blob) { b.SHA256 = "x" }), `"x" is not a SHA-256`},
		{fetch(func(b *wire.Blob) { b.Size = -2 }), "size -2 is negative"},
		{fetch(func(b *wire.Blob) { b.Size = -1 }), ""},
		{unpack(func(*wire.Blob) {}), ""},
		{unpack(func(b *wire.Blob) { b.Unpack.Format = "zip" }), `format "zip" is none of tar+gzip and zstd`},
		{unpack(func(b *wire.Blob) { b.Unpack.Format = wire.Zstd }), "zstd holds one file, not 2"},
		{unpack(func(b *wire.Blob) { b.Unpack.Format, b.Unpack.Files = wire.Zstd, b.Unpack.Files[:1] }), `has member "bin/x"`},
		{unpack(func(b *wire.Blob) {
			b.Unpack = &wire.Unpack{Format: wire.Zstd, Files: []wire.File{{SHA256: hexSum, Path: "/x"}}}
		}), ""},
		{unpack(func(b *wire.Blob) { b.Unpack.Files = nil }), "there is no file to take out"},
		{unpack(func(b *wire.Blob) { b.Unpack.Files[0].Member = "" }), `a file of tar+gzip has member ""`},
		{unpack(func(b *wire.Blob) { b.Unpack.Files[1].Member = "bin/x" }), `member "bin/x" is there twice`},
		{unpack(func(b *wire.Blob) { b.Unpack.Files[1].Path = "/x" }), `path "/x" is there twice`},
		{unpack(func(b *wire.Blob) { b.Unpack.Files[1].Path = "/a/b" }), `path "/a/b" is there twice`},
		{unpack(func(b *wire.Blob) { b.Unpack.Files[1].Path = "y" }), `path "y" is not absolute`},
		{unpack(func(b *wire.Blob) { b.Unpack.Files[1].SHA256 = "x" }), `unpack: "x" is not a SHA-256`},
		{unpack(func(b *wire.Blob) { b.Unpack.Files[1].Mode = 0o4755 }), "more than permission bits"},
		{unpack(func(b *wire.Blob) { b.Unpack.Files[1].Size = wire.MaxSize + 1 }), "is not between 0 and 4294967296"},
		{unpack(func(b *wire.Blob) { b.Unpack.Files[1].Size = -1 }), "size -1 is not between"},
		{fetch(func(b *wire.Blob) { b.Path = "a" }), `path "a" is not absolute and clean`},
		{fetch(func(b *wire.Blob) { b.Path = "/a/../b" }), "not absolute and clean"},
		{fetch(func(b *wire.Blob) { b.Path = "/" }), "not absolute and clean"},
		{fetch(func(b *wire.Blob) { b.Mode = 0o4755 }), "more than permission bits"},
		{fetch(func(b *wire.Blob) { b.Sources = nil }), "has no source"},
		{fetch(func(b *wire.Blob) { b.Sources[0].URL = "ftp://u:secret@a/b" }), `source "ftp://a/b" is not an http or https URL`},
		{fetch(func(b *wire.Blob) { b.Sources[0] = wire.Source{URL: "http://a/b", Pin: hexSum} }), "has a pin and no TLS"},
		{fetch(func(b *wire.Blob) { b.Sources[0].Pin = "x" }), `pin "x" is not`},
		{&wire.Fetch{Blobs: []wire.Blob{good(), good()}}, `path "/a/b" is there twice`},
		{&wire.Fetch{Blobs: []wire.Blob{good()}, Passes: -1}, "cannot be negative"},
		{&wire.Fetch{Blobs: []wire.Blob{good()}, Net: wire.Net{Proxy: wire.Proxy{HTTPS: "u:secret@a"}}}, "proxy is not a URL"},
		{&wire.Probe{Net: wire.Net{Proxy: wire.Proxy{HTTP: "ftp://u:secret@a"}}}, "proxy ftp://a is none of"},
		{&wire.Probe{Targets: []wire.Target{{Address: "a:1"}, {Source: wire.Source{URL: "http://a"}}}}, ""},
		{&wire.Probe{Targets: []wire.Target{{Address: "a"}}}, `target "a" is not host:port`},
		{&wire.Probe{Targets: []wire.Target{{Address: "a:1", Source: wire.Source{URL: "http://a"}}}}, "has a URL or a pin as well"},
		{&wire.Probe{Targets: []wire.Target{{}}}, "is not an http or https URL"},
		{&wire.Serve{Address: "a:1", Certificate: "c", Key: "k", Token: "t", Blobs: map[string]string{hexSum: "/a"}}, ""},
		{&wire.Serve{Address: "a", Certificate: "c", Key: "k", Token: "t"}, `address "a" is not host:port`},
		{&wire.Serve{Address: "a:1"}, "certificate, key and token must be given"},
		{&wire.Serve{Address: "a:1", Certificate: "c", Key: "k", Token: "t", Blobs: map[string]string{hexSum: "a"}}, "not absolute"},
	} {
		err := test.request.Check()
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v; want %q", test.request, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a secret is told: %v", err)
		}
	}
}

func TestReadRequest(t *testing.T) {
	want := &wire.Probe{Targets: []wire.Target{{Address: "a:1"}}}
	line, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	open, w := io.Pipe() // which stays open, as the program's input does
	go w.Write(line)     //nolint:errcheck // the test sees what arrives
	got, err := wire.ReadRequest("probe", open)
	if diff := cmp.Diff(wire.Request(want), got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	w.Close()
	for _, test := range []struct{ command, in, want string }{
		{"rm", `{}`, `"rm" is none of`},
		{"fetch", `{"blob":[]}`, "unknown field"},
		{"fetch", `{"blobs":[]`, "unexpected EOF"},
		{"fetch", ``, "EOF"},
		{"serve", `{}`, "certificate, key and token"},
	} {
		if _, err := wire.ReadRequest(test.command, strings.NewReader(test.in)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: %v", test.command, test.in, err)
		}
	}
}
