package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/myadm/myadm/courier/wire"
)

// entry is a member of an archive.
type entry struct {
	name    string
	content []byte
	kind    byte // 0: a regular file
}

func tarGzip(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	w := tar.NewWriter(zipped)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Typeflag: tar.TypeReg, Size: int64(len(e.content)), Mode: 0o600}
		if e.kind != 0 {
			header.Typeflag, header.Linkname = e.kind, "elsewhere"
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.content); err != nil {
			t.Fatal(err)
		}
	}
	if w.Close() != nil || zipped.Close() != nil {
		t.Fatal("not closed")
	}
	return b.Bytes()
}

func zstdOf(t testing.TB, content []byte, options ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(content, nil)
}

// Two binaries of an archive that has more.
var containerd, shim = bytesOf(1, size), bytesOf(2, 20_000)

func archive(t testing.TB) []byte {
	return tarGzip(t, entry{name: "bin/", kind: tar.TypeDir}, entry{name: "bin/ctr", content: bytesOf(3, 1000)},
		entry{name: "./bin/containerd", content: containerd}, entry{name: "bin/shim", content: shim},
		entry{name: "../../etc/passwd", content: []byte("x")})
}

// packed is a blob with the two binaries of the archive to take out.
func packed(dir string, content []byte, urls ...string) wire.Blob {
	b := blob(filepath.Join(dir, "packed"), content, urls...)
	b.Unpack = &wire.Unpack{Format: wire.TarGzip, Files: []wire.File{
		{Member: "bin/shim", SHA256: hexSum(shim), Size: int64(len(shim)), Path: filepath.Join(dir, "bin", "shim"), Mode: 0o755},
		{Member: "bin/containerd", SHA256: hexSum(containerd), Size: size, Path: filepath.Join(dir, "bin", "containerd")},
	}}
	return b
}

// unpackedAll checks that both binaries are in place, and nothing else.
func unpackedAll(t *testing.T, b wire.Blob) {
	t.Helper()
	for i, want := range []struct {
		content []byte
		mode    os.FileMode
	}{{shim, 0o755}, {containerd, 0o644}} {
		path := b.Unpack.Files[i].Path
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want.content) {
			t.Fatalf("%s: %d bytes, %v", path, len(got), err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != want.mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	only(t, filepath.Dir(b.Unpack.Files[0].Path), "containerd", "shim")
}

func fetched(b wire.Blob, source string, received int64, kept bool) []wire.Event {
	return []wire.Event{
		wire.Fetched{SHA256: b.SHA256, Path: b.Path, Source: source, Received: received, Kept: kept}, wire.Done{Received: received},
	}
}

func TestUnpack(t *testing.T) {
	content := archive(t)
	length := int64(len(content))
	server := newWeb(t, file(content))
	for _, test := range []struct {
		name     string
		keep     bool
		before   func(b *wire.Blob)
		received int64
		there    []string // at the packed blob's folder afterwards
		kept     bool
	}{
		{name: "from nothing", received: length},
		{name: "kept for peers", keep: true, received: length, there: []string{"blob"}, kept: true},
		{name: "of an unknown size", before: func(b *wire.Blob) { b.Size = -1 }, received: length},
		{name: "a file is there and another is old", received: length, before: func(b *wire.Blob) {
			put(t, b.Unpack.Files[0].Path, shim, 0o600)
			put(t, b.Unpack.Files[1].Path, bytesOf(4, size), 0o600)
		}},
		{name: "what was left of it", received: length - 100, before: func(b *wire.Blob) {
			put(t, partialPath(*b), content[:100], 0o600)
			put(t, partialPath(asBlobs(b.Unpack)[0]), []byte("rubbish"), 0o600)
		}},
		{name: "all files are there", before: func(b *wire.Blob) {
			put(t, b.Unpack.Files[0].Path, shim, 0o600)
			put(t, b.Unpack.Files[1].Path, containerd, 0o644)
			put(t, b.Path, content, 0o644)
		}},
		{name: "all files are there, and the blob to be kept is not", keep: true, before: func(b *wire.Blob) {
			put(t, b.Unpack.Files[0].Path, shim, 0o600)
			put(t, b.Unpack.Files[1].Path, containerd, 0o644)
			put(t, filepath.Join(filepath.Dir(b.Path), "x"), nil, 0o600)
		}, there: []string{"x"}},
		{name: "the blob is there", before: func(b *wire.Blob) { put(t, b.Path, content, 0o644) }},
		{name: "the blob is there, and to be kept", keep: true, there: []string{"blob"}, kept: true, before: func(b *wire.Blob) {
			put(t, b.Path, content, 0o644)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := packed(t.TempDir(), content, server.URL)
			b.Unpack.Keep = test.keep
			if err := os.MkdirAll(filepath.Dir(b.Path), 0o755); err != nil {
				t.Fatal(err)
			}
			if test.before != nil {
				test.before(&b)
			}
			source := server.URL
			if test.received == 0 {
				source = ""
			}
			request := &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}}
			events := start(t, request, "").rest(exitDone)
			if diff := cmp.Diff(fetched(b, source, test.received, test.kept), events); diff != "" {
				t.Error(diff)
			}
			unpackedAll(t, b)
			only(t, filepath.Dir(b.Path), test.there...)
			before := len(server.requests())
			events = start(t, request, "").rest(exitDone)
			if diff := cmp.Diff(fetched(b, "", 0, test.kept), events); diff != "" {
				t.Errorf("again: %s", diff)
			}
			if n := len(server.requests()); n != before {
				t.Errorf("%d requests more", n-before)
			}
		})
	}
}

// What does not hold what was asked for changes nothing at all.
func TestUnpackRefused(t *testing.T) {
	member := func(name string, content []byte) entry { return entry{name: name, content: content} }
	both := []entry{member("bin/containerd", containerd), member("bin/shim", shim)}
	one := func(change func(b *wire.Blob)) func(*wire.Blob) {
		return func(b *wire.Blob) {
			b.Unpack.Format, b.Unpack.Files = wire.Zstd, b.Unpack.Files[:1]
			b.Unpack.Files[0].Member = ""
			if change != nil {
				change(b)
			}
		}
	}
	for _, test := range []struct {
		name    string
		content []byte
		change  func(b *wire.Blob)
		want    string
	}{
		{"a member is missing", tarGzip(t, both[0]), nil, "the archive has no bin/shim"},
		{"a member has other content", tarGzip(t, both[0], member("bin/shim", bytesOf(9, len(shim)))), nil,
			"unpack bin/shim: its content has another SHA-256 than " + hexSum(shim)},
		{"a member is longer", tarGzip(t, both[0], member("bin/shim", append(bytesOf(2, len(shim)), 0))), nil,
			"bin/shim has 20001 bytes, not 20000"},
		{"a member is a link", tarGzip(t, both[0], entry{name: "bin/shim", kind: tar.TypeSymlink}), nil, "is not a regular file"},
		{"it is cut off", tarGzip(t, both...)[:200_000], nil, "unpack: unexpected EOF"},
		{"it is not packed", bytesOf(1, 1000), nil, "gzip: invalid header"},
		{"it is no archive", func() []byte {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			w.Write(bytesOf(1, 10_000)) //nolint:errcheck // a buffer
			w.Close()
			return b.Bytes()
		}(), nil, "archive/tar: invalid tar header"},
		{"zstd of other content", zstdOf(t, bytesOf(9, len(shim))), one(nil), "another SHA-256"},
		{"zstd that is longer", zstdOf(t, append(bytesOf(2, len(shim)), make([]byte, 100<<20)...)), one(nil), "there are more than 20000 bytes"},
		{"zstd that is shorter", zstdOf(t, shim[:100]), one(nil), "another SHA-256"},
		{"zstd that is cut off", zstdOf(t, shim)[:10_000], one(nil), "unpack: unexpected EOF"},
		{"zstd that wants much memory", zstdOf(t, bytesOf(2, 20<<20), zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false)),
			one(func(b *wire.Blob) { b.Unpack.Files[0].Size = 20 << 20 }), "window size exceeded"},
		{"it is not zstd", shim, one(nil), "magic number mismatch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newWeb(t, file(test.content))
			b := packed(t.TempDir(), test.content, server.URL)
			if test.change != nil {
				test.change(&b)
			}
			for _, f := range b.Unpack.Files {
				put(t, f.Path, []byte("old"), 0o600)
			}
			events := start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}}, "").rest(exitFailed)
			f, ok := events[0].(wire.Failed)
			if !ok || f.Cause != wire.CauseContent || !strings.Contains(f.Error(), test.want) {
				t.Fatalf("%#v; want %s", events, test.want)
			}
			var names []string
			for _, f := range b.Unpack.Files {
				if now, err := os.ReadFile(f.Path); err != nil || string(now) != "old" {
					t.Errorf("%s: %.10q, %v", f.Path, now, err)
				}
				names = append([]string{filepath.Base(f.Path)}, names...)
			}
			only(t, filepath.Dir(b.Unpack.Files[0].Path), names...)
			if _, err := os.Lstat(b.Path); err == nil {
				t.Error("the packed blob is in place")
			}
		})
	}
}

func TestUnpackZstd(t *testing.T) {
	content := zstdOf(t, append(make([]byte, 2<<20), shim...), zstd.WithWindowSize(8<<20))
	whole := append(make([]byte, 2<<20), shim...)
	server := newWeb(t, file(content))
	b := packed(t.TempDir(), content, server.URL)
	b.Unpack = &wire.Unpack{Format: wire.Zstd, Files: []wire.File{
		{SHA256: hexSum(whole), Size: int64(len(whole)), Path: filepath.Join(t.TempDir(), "bin", "kubelet"), Mode: 0o755},
	}}
	events := start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}}, "").rest(exitDone)
	if diff := cmp.Diff(fetched(b, server.URL, int64(len(content)), false), events); diff != "" {
		t.Error(diff)
	}
	placed(t, asBlobs(b.Unpack)[0], whole)
}

// A host passes on what it fetched packed, and unpacked.
func TestUnpackFromPeer(t *testing.T) {
	content := archive(t)
	server := newWeb(t, file(content))
	a, b := packed(t.TempDir(), content, server.URL), packed(t.TempDir(), content)
	a.Unpack.Keep = true
	start(t, &wire.Fetch{Blobs: []wire.Blob{a}, Net: wire.Net{CA: server.ca()}}, "").rest(exitDone)
	id := identity(t)
	p := start(t, id.Serve("127.0.0.1:0", nil), "")
	b.Sources = []wire.Source{id.Source(await[wire.Listening](p).Address, b.SHA256)}
	p.tell(map[string]string{a.SHA256: a.Path})
	start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Passes: 10}, "").rest(exitDone)
	unpackedAll(t, b)
}

// The disk becomes full while it is unpacked: the packed blob is not fetched again when there is room.
func TestUnpackWithoutSpace(t *testing.T) {
	whole := append(make([]byte, 1<<20), shim...)
	content := zstdOf(t, whole)
	server := newWeb(t, file(content))
	b := packed(t.TempDir(), content, server.URL)
	b.Unpack = &wire.Unpack{Format: wire.Zstd, Files: []wire.File{
		{SHA256: hexSum(whole), Size: int64(len(whole)), Path: filepath.Join(t.TempDir(), "bin", "kubelet"), Mode: 0o755},
	}}
	request := &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}}
	events := start(t, request, "ulimit -f 200 && ").rest(exitFailed) // of 512 bytes each
	if f, ok := events[0].(wire.Failed); !ok || f.Cause != wire.CauseSpace {
		t.Fatalf("%#v", events)
	}
	only(t, filepath.Dir(b.Unpack.Files[0].Path))
	events = start(t, request, "").rest(exitDone)
	if diff := cmp.Diff(fetched(b, "", 0, false), events); diff != "" {
		t.Error(diff)
	}
	placed(t, asBlobs(b.Unpack)[0], whole)

	// Nothing is needed any more, and what a blob unpacks to counts before anything is asked.
	b.Size = 1 << 62
	if err := enoughSpace([]wire.Blob{b}); err != nil {
		t.Error(err)
	}
	b.Size = int64(len(content))
	b.Unpack.Files[0].Size, b.Unpack.Files[0].Path = 1<<62, filepath.Join(t.TempDir(), "other")
	want := fmt.Sprintf("%d bytes are needed", 1<<62+len(content))
	if err := enoughSpace([]wire.Blob{b}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want %s", err, want)
	}
}

func TestUnknownSize(t *testing.T) {
	content := bytesOf(1, size)
	for name, handler := range map[string]http.HandlerFunc{
		"whole": file(content), "without a length": chunked(content), "cut off": cut(content, 100_000, 2),
	} {
		t.Run(name, func(t *testing.T) {
			server := newWeb(t, handler)
			b := blob(t.TempDir(), content, server.URL)
			b.Size = -1
			put(t, b.Path, []byte("old"), 0o600)
			request := &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: server.ca()}}
			events := start(t, request, "").rest(exitDone)
			if diff := cmp.Diff(fetched(b, server.URL, size, false), events); diff != "" {
				t.Error(diff)
			}
			placed(t, b, content)
			events = start(t, request, "").rest(exitDone)
			if diff := cmp.Diff(fetched(b, "", 0, false), events); diff != "" {
				t.Error(diff)
			}
		})
	}
	tooLong := newWeb(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(int64(wire.MaxSize+1)))
	})
	b := blob(t.TempDir(), content, tooLong.URL)
	b.Size = -1
	events := start(t, &wire.Fetch{Blobs: []wire.Blob{b}, Net: wire.Net{CA: tooLong.ca()}}, "").rest(exitFailed)
	if f, ok := events[0].(wire.Failed); !ok || f.Cause != wire.CauseContent || !strings.Contains(f.Error(), "more than 4294967296") {
		t.Errorf("%#v", events)
	}
}

// FuzzUnpack: whatever is packed, a file in place is right, and nothing else is there.
func FuzzUnpack(f *testing.F) {
	small := []byte("hello")
	f.Add(tarGzip(f, entry{name: "a", content: small}), true)
	f.Add(tarGzip(f, entry{name: "./a", content: small}, entry{name: "a", content: []byte("x")}), true)
	f.Add(tarGzip(f, entry{name: "../a", content: small}), true)
	f.Add(tarGzip(f, entry{name: "a", kind: tar.TypeSymlink}), true)
	f.Add(zstdOf(f, small), false)
	f.Add(zstdOf(f, make([]byte, 1<<20)), false)
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), true)
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x58"), false)
	f.Fuzz(func(t *testing.T, content []byte, archive bool) {
		dir := t.TempDir()
		u := &wire.Unpack{Format: wire.Zstd, Files: []wire.File{{SHA256: hexSum(small), Size: 5, Path: filepath.Join(dir, "a")}}}
		if archive {
			u.Format, u.Files[0].Member = wire.TarGzip, "a"
		}
		err := unpack(context.Background(), u, bytes.NewReader(content))
		if err == nil {
			placed(t, wire.Blob{Path: u.Files[0].Path, Mode: defaultMode}, small)
			return
		}
		only(t, dir)
	})
}
