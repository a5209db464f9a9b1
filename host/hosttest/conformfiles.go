package hosttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
)

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

// What a killed run left beside a file is replaced and not gone on with, whatever it is.
func writeAfterKill(t *testing.T, h host.Host, dir string) {
	must(t, h.WriteFiles(t.Context(), host.File{Path: host.TempPath(dir + "/file"), Mode: 0o644, Data: []byte("longer than what follows")}))
	must(t, h.WriteFiles(t.Context(), host.File{Path: dir + "/elsewhere", Mode: 0o644, Data: []byte("untouched")}))
	link(t, h, "elsewhere", host.TempPath(dir+"/linked"))
	for _, p := range []string{dir + "/file", dir + "/linked"} {
		must(t, h.WriteFiles(t.Context(), host.File{Path: p, Mode: 0o600, Data: []byte("new")}))
		if got := content(t, h, p); got != "new" {
			t.Errorf("%s is %q", p, got)
		}
		if info := one(t, h, p); info.Mode != 0o600 {
			t.Errorf("%s has mode %o", p, info.Mode)
		}
		if info := one(t, h, host.TempPath(p)); info.Exists {
			t.Errorf("it is still there: %+v", info)
		}
	}
	if got := content(t, h, dir+"/elsewhere"); got != "untouched" {
		t.Errorf("a link was followed: %q", got)
	}
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
