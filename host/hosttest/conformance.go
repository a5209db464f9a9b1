package hosttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
)

// Conformance proves that a Host keeps the promises of package host: ConformFiles, ConformCommands, ConformMounts and
// ConformDial. The host shares this machine's files, processes and network. open gives a Host, and root a new empty folder
// on it.
func Conformance(t *testing.T, open func(t *testing.T) host.Host, root func(t *testing.T) string) {
	ConformFiles(t, open, root)
	ConformCommands(t, open, root)
	ConformMounts(t, open, root)
	ConformDial(t, open, root)
}

// ConformFiles is the part of Conformance about files. It runs no commands.
func ConformFiles(t *testing.T, open func(t *testing.T) host.Host, root func(t *testing.T) string) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, h host.Host, dir string)
	}{
		{"write and read", writeAndRead},
		{"write replaces", writeReplaces},
		{"write fails", writeFails},
		{"write many", writeMany},
		{"write is atomic", writeIsAtomic},
		{"read", readMissing},
		{"stat", statEverything},
		{"remove", removeEverything},
		{"upload", upload},
		{"upload resumes", uploadResumes},
		{"upload of wrong content", uploadWrong},
		{"context", filesStop},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t), root(t)) })
	}
}

// must ends the test for an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// one is the Info of a path, with its sum.
func one(t *testing.T, h host.Host, p string) host.Info {
	t.Helper()
	infos, err := h.Sums(t.Context(), p)
	must(t, err)
	if len(infos) != 1 {
		t.Fatalf("sums of one path: %v", infos)
	}
	return infos[0]
}

func content(t *testing.T, h host.Host, p string) string {
	t.Helper()
	data, err := h.ReadFile(t.Context(), p)
	must(t, err)
	return string(data)
}

// noise is content that does not compress and is the same for the same seed.
func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b) //nolint:errcheck // it never fails
	return b
}

func writeAndRead(t *testing.T, h host.Host, dir string) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	files := []host.File{
		{Path: dir + "/empty", Mode: 0o644},
		{Path: dir + "/every byte", Mode: 0o600, Data: every},
		{Path: dir + "/a/b/c/deep", Mode: 0o755, Data: []byte("#!/bin/sh\n")},
		{Path: dir + "/a/it's \"$odd\"\\", Mode: 0o640, Data: []byte("x")},
		{Path: dir + "/large", Mode: 0o400, Data: noise(1<<20+7, 1)},
	}
	must(t, h.WriteFiles(t.Context(), files...))
	for _, f := range files {
		if got := content(t, h, f.Path); got != string(f.Data) {
			t.Errorf("%s: %d bytes, want %d", f.Path, len(got), len(f.Data))
		}
		sum := sha256.Sum256(f.Data)
		want := host.Info{Path: f.Path, Exists: true, Mode: f.Mode, Size: int64(len(f.Data)), SHA256: hex.EncodeToString(sum[:])}
		if diff := cmp.Diff(want, one(t, h, f.Path)); diff != "" {
			t.Errorf("%s:\n%s", f.Path, diff)
		}
	}
	if mode := one(t, h, dir+"/a/b").Mode; mode != fs.ModeDir|0o755 {
		t.Errorf("mode of a folder that was missing: %v", mode)
	}
	must(t, h.WriteFiles(t.Context()))
}

func writeReplaces(t *testing.T, h host.Host, dir string) {
	p := dir + "/f"
	must(t, h.WriteFiles(t.Context(), host.File{Path: p, Mode: 0o644, Data: []byte("a longer first content")}))
	must(t, h.WriteFiles(t.Context(), host.File{Path: p, Mode: 0o600, Data: []byte("second")}))
	if got := content(t, h, p); got != "second" {
		t.Errorf("content %q", got)
	}
	if mode := one(t, h, p).Mode; mode != 0o600 {
		t.Errorf("mode %v", mode)
	}
}

func writeFails(t *testing.T, h host.Host, dir string) {
	must(t, h.WriteFiles(t.Context(), host.File{Path: dir + "/folder/file", Mode: 0o644}))
	err := h.WriteFiles(t.Context(),
		host.File{Path: dir + "/folder", Mode: 0o644, Data: []byte("x")},
	)
	if err == nil {
		t.Error("a folder was replaced by a file")
	}
	if info := one(t, h, dir+"/folder"); !info.Mode.IsDir() {
		t.Errorf("the folder is now %+v", info)
	}
	if err := h.WriteFiles(t.Context(), host.File{Path: dir + "/folder/file/x", Mode: 0o644}); err == nil {
		t.Error("a file was written below a file")
	}
}

func writeMany(t *testing.T, h host.Host, dir string) {
	files, paths := make([]host.File, 300), make([]string, 300)
	for i := range files {
		paths[i] = fmt.Sprintf("%s/d%d/%03d", dir, i%7, i)
		files[i] = host.File{Path: paths[i], Mode: 0o644, Data: []byte(paths[i])}
	}
	must(t, h.WriteFiles(t.Context(), files...))
	infos, err := h.Sums(t.Context(), paths...)
	must(t, err)
	for i, info := range infos {
		sum := sha256.Sum256([]byte(paths[i]))
		if info.Path != paths[i] || info.SHA256 != hex.EncodeToString(sum[:]) {
			t.Fatalf("%s: %+v", paths[i], info)
		}
	}
}

// writeIsAtomic reads a file while it is written, and must only ever see one whole content.
func writeIsAtomic(t *testing.T, h host.Host, dir string) {
	p := dir + "/f"
	write := func(i int) error {
		return h.WriteFiles(t.Context(), host.File{Path: p, Mode: 0o644, Data: bytes.Repeat([]byte{byte('a' + i%26)}, 200_000+i)})
	}
	must(t, write(0))
	var done atomic.Bool
	written := make(chan error, 1)
	go func() {
		defer done.Store(true)
		for i := range 20 {
			if err := write(i); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for !done.Load() {
		data, err := h.ReadFile(t.Context(), p)
		must(t, err)
		if n := len(data) - 200_000; n < 0 || n >= 20 || bytes.Count(data, data[:1]) != len(data) || data[0] != byte('a'+n%26) {
			t.Fatalf("%d bytes, from %q to %q", len(data), data[:1], data[max(0, len(data)-1):])
		}
	}
	must(t, <-written)
}

func readMissing(t *testing.T, h host.Host, dir string) {
	for _, p := range []string{dir + "/missing", dir + "/no/folder"} {
		if _, err := h.ReadFile(t.Context(), p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, err := h.ReadFile(t.Context(), dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder: %v", err)
	}
	for _, p := range []string{"", "relative", "/a/../b"} {
		if _, ok := h.(*Fake); ok {
			continue // there it fails the test at once
		}
		if _, err := h.ReadFile(t.Context(), p); err == nil {
			t.Errorf("path %q was accepted", p)
		}
	}
}

func statEverything(t *testing.T, h host.Host, dir string) {
	must(t, h.WriteFiles(t.Context(), host.File{Path: dir + "/file", Mode: 0o644, Data: []byte("abc")}))
	link(t, h, "file", dir+"/link")
	link(t, h, "/nowhere at all", dir+"/dangling")
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	want := []host.Info{
		{Path: dir + "/missing"},
		{Path: dir + "/link", Exists: true, Mode: fs.ModeSymlink | 0o777, Target: "file"},
		{Path: dir + "/file", Exists: true, Mode: 0o644, Size: 3, SHA256: abc},
		{Path: dir + "/dangling", Exists: true, Mode: fs.ModeSymlink | 0o777, Target: "/nowhere at all"},
		{Path: dir + "/file/below", Exists: false},
		{Path: dir + "/new\nline"},
	}
	paths := make([]string, len(want))
	for i := range want {
		paths[i] = want[i].Path
	}
	sizes := func(infos []host.Info) []host.Info { // the size of a link is the file system's business
		for i := range infos {
			if infos[i].Target != "" {
				infos[i].Size = 0
			}
		}
		return infos
	}
	sums, err := h.Sums(t.Context(), paths...)
	must(t, err)
	if diff := cmp.Diff(want, sizes(sums)); diff != "" {
		t.Errorf("sums:\n%s", diff)
	}
	for i := range want {
		want[i].SHA256 = ""
	}
	infos, err := h.Stat(t.Context(), paths...)
	must(t, err)
	if diff := cmp.Diff(want, sizes(infos)); diff != "" {
		t.Errorf("stat:\n%s", diff)
	}
	if got := content(t, h, dir+"/link"); got != "abc" {
		t.Errorf("read through a link: %q", got)
	}
	infos, err = h.Sums(t.Context())
	if err != nil || len(infos) != 0 {
		t.Errorf("sums of nothing: %v, %v", infos, err)
	}
}

// link makes a symbolic link, which is no method of a Host.
func link(t *testing.T, h host.Host, target, name string) {
	t.Helper()
	if f, ok := h.(*Fake); ok {
		f.Symlink(target, name)
		return
	}
	_, err := h.Run(t.Context(), host.Command("ln", "-s", "--", target, name))
	must(t, err)
}

func removeEverything(t *testing.T, h host.Host, dir string) {
	must(t, h.WriteFiles(t.Context(),
		host.File{Path: dir + "/tree/a/b", Mode: 0o600},
		host.File{Path: dir + "/tree/a/c d", Mode: 0o600},
		host.File{Path: dir + "/file", Mode: 0o600},
		host.File{Path: dir + "/kept/x", Mode: 0o600},
		host.File{Path: dir + "/treeless", Mode: 0o600},
	))
	link(t, h, dir+"/kept", dir+"/tree/link")
	link(t, h, dir+"/kept", dir+"/link")
	must(t, h.Remove(t.Context(), dir+"/tree", dir+"/file", dir+"/link", dir+"/missing", dir+"/no/folder"))
	infos, err := h.Stat(t.Context(), dir+"/tree", dir+"/file", dir+"/link", dir+"/kept/x", dir+"/treeless", dir)
	must(t, err)
	for i, want := range []bool{false, false, false, true, true, true} {
		if infos[i].Exists != want {
			t.Errorf("%s: exists %v", infos[i].Path, infos[i].Exists)
		}
	}
	must(t, h.Remove(t.Context()))
}

// source is a blob that counts what is read of it.
type source struct {
	host.Blob
	data []byte
	read atomic.Int64
	at   atomic.Int64 // where reading started last
}

func newSource(p string, data []byte) *source {
	sum := sha256.Sum256(data)
	s := &source{data: data}
	s.Blob = host.Blob{Path: p, Mode: 0o755, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	s.Open = func() (io.ReadSeekCloser, error) { return &sourceReader{bytes.NewReader(s.data), s}, nil }
	return s
}

type sourceReader struct {
	*bytes.Reader
	s *source
}

func (r *sourceReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.s.read.Add(int64(n))
	return n, err
}

func (r *sourceReader) Seek(offset int64, whence int) (int64, error) {
	at, err := r.Reader.Seek(offset, whence)
	r.s.at.Store(at)
	return at, err
}

func (r *sourceReader) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{r}) }

func (r *sourceReader) Close() error { return nil }

func upload(t *testing.T, h host.Host, dir string) {
	for _, size := range []int{0, 1, 1 << 15, 5<<20 + 123} {
		src := newSource(fmt.Sprintf("%s/new folder/%d", dir, size), noise(size, 2))
		last := int64(-1)
		must(t, h.Upload(t.Context(), src.Blob, func(n int64) {
			if n < last {
				t.Errorf("progress went from %d to %d", last, n)
			}
			last = n
		}))
		if last != src.Size && size > 0 {
			t.Errorf("progress ended at %d of %d", last, src.Size)
		}
		if info := one(t, h, src.Path); info.SHA256 != src.SHA256 || info.Mode != src.Mode || info.Size != src.Size {
			t.Errorf("uploaded %+v, want %+v", info, src.Blob)
		}
		if info := one(t, h, host.PartPath(src.Blob)); info.Exists {
			t.Errorf("%s is still there", info.Path)
		}

		src.read.Store(0)
		src.Mode = 0o700
		must(t, h.Upload(t.Context(), src.Blob, nil))
		if n := src.read.Load(); n != 0 {
			t.Errorf("%d bytes were sent of what was there already", n)
		}
		if mode := one(t, h, src.Path).Mode; mode != 0o700 {
			t.Errorf("mode %v", mode)
		}
	}
}

// uploadResumes cuts an upload of 24 MiB after 16 and looks at where the next one starts.
func uploadResumes(t *testing.T, h host.Host, dir string) {
	src := newSource(dir+"/blob", noise(24<<20, 3))
	ctx, cut := context.WithCancel(t.Context())
	err := h.Upload(ctx, src.Blob, func(n int64) {
		if n >= 16<<20 {
			cut()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cut upload: %v", err)
	}
	if one(t, h, src.Path).Exists {
		t.Fatal("a cut upload is in place")
	}
	must(t, h.Upload(t.Context(), src.Blob, nil))
	if at := src.at.Load(); at < 8<<20 {
		t.Errorf("the second upload started at %d", at)
	}
	if info := one(t, h, src.Path); info.SHA256 != src.SHA256 {
		t.Errorf("resumed upload: %+v", info)
	}
}

func uploadWrong(t *testing.T, h host.Host, dir string) {
	src := newSource(dir+"/blob", noise(1<<20, 4))
	src.data = noise(1<<20, 5)
	if err := h.Upload(t.Context(), src.Blob, nil); err == nil {
		t.Error("content with another sum was accepted")
	}
	if one(t, h, src.Path).Exists {
		t.Error("content with another sum is in place")
	}
	src.data = noise(1<<20, 4)
	must(t, h.Upload(t.Context(), src.Blob, nil))
	if info := one(t, h, src.Path); info.SHA256 != src.SHA256 {
		t.Errorf("after the wrong content: %+v", info)
	}
}

func filesStop(t *testing.T, h host.Host, dir string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, read := h.ReadFile(ctx, dir+"/f")
	_, stat := h.Stat(ctx, dir)
	_, sums := h.Sums(ctx, dir)
	for name, err := range map[string]error{
		"ReadFile": read, "Stat": stat, "Sums": sums,
		"WriteFiles": h.WriteFiles(ctx, host.File{Path: dir + "/f", Mode: 0o644}),
		"Upload":     h.Upload(ctx, newSource(dir+"/g", []byte("x")).Blob, nil),
		"Remove":     h.Remove(ctx, dir+"/f"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s after ctx has ended: %v", name, err)
		}
	}
}
