package hosttest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
)

// ConformMounts is the part of Conformance about Remove and mounted folders, and about full disks. The host can mount.
func ConformMounts(t *testing.T, open func(t *testing.T) host.Host, root func(t *testing.T) string) {
	for _, name := range []string{"plain", "with space\tand \\134 % "} {
		t.Run("remove and mounts, "+name, func(t *testing.T) { removeStopsAtMounts(t, open(t), root(t), name) })
	}
	t.Run("full disk", func(t *testing.T) { fullDisk(t, open(t), root(t)) })
}

// removeStopsAtMounts binds a folder of the same file system: device numbers would not tell.
func removeStopsAtMounts(t *testing.T, h host.Host, dir, name string) {
	precious, point := dir+"/precious/data", dir+"/gone/"+name
	must(t, h.WriteFiles(t.Context(),
		host.File{Path: precious, Mode: 0o644},
		host.File{Path: dir + "/gone/file", Mode: 0o644},
		host.File{Path: dir + "/also/file", Mode: 0o644},
		host.File{Path: point + "/below", Mode: 0o644},
	))
	mount := func(ctx context.Context, argv ...string) {
		t.Helper()
		_, err := h.Run(ctx, host.Command(argv...))
		must(t, err)
	}
	exists := func(paths ...string) (found []string) {
		t.Helper()
		infos, err := h.Stat(t.Context(), paths...)
		must(t, err)
		for _, info := range infos {
			if info.Exists {
				found = append(found, info.Path)
			}
		}
		return found
	}
	mount(t.Context(), "mount", "--bind", dir+"/precious", point)
	t.Cleanup(func() { h.Run(context.Background(), host.Command("umount", "-l", point)) }) //nolint:errcheck // it is not mounted any more

	err := h.Remove(t.Context(), dir+"/gone", dir+"/also")
	var mounted *host.MountedError
	if !errors.As(err, &mounted) {
		t.Fatalf("remove: %v", err)
	}
	if diff := cmp.Diff(&host.MountedError{Path: dir + "/gone", Mount: point}, mounted); diff != "" {
		t.Errorf("remove:\n%s", diff)
	}
	if diff := cmp.Diff([]string{precious, dir + "/gone/file"}, exists(precious, dir+"/gone/file", dir+"/also")); diff != "" {
		t.Errorf("what is left:\n%s", diff)
	}
	must(t, h.Remove(t.Context(), point))
	if diff := cmp.Diff([]string{point}, exists(point, precious)); diff != "" {
		t.Errorf("a mount point is emptied and stays:\n%s", diff)
	}
	mount(t.Context(), "umount", point)
	must(t, h.Remove(t.Context(), dir+"/gone"))
	if found := exists(dir + "/gone"); found != nil {
		t.Errorf("still there: %s", found)
	}
}

// fullDisk writes to a disk of 1 MiB, which then grows.
func fullDisk(t *testing.T, h host.Host, dir string) {
	disk := dir + "/disk"
	run := func(ctx context.Context, argv ...string) {
		t.Helper()
		_, err := h.Run(ctx, host.Command(argv...))
		must(t, err)
	}
	run(t.Context(), "mkdir", disk)
	run(t.Context(), "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk)
	t.Cleanup(func() { run(context.Background(), "umount", "-l", disk) })

	src, file := newSource(disk+"/blob", noise(4<<20, 6)), host.File{Path: disk + "/file", Mode: 0o600, Data: noise(1<<20, 7)}
	write := func() error { return h.WriteFiles(t.Context(), file) }
	upload := func() error { return h.Upload(t.Context(), src.Blob, nil) }
	for _, do := range []func() error{upload, write} { // what the upload left fills the disk
		var full *host.FullError
		if err := do(); !errors.As(err, &full) || full.Path != disk {
			t.Errorf("%v, want a full disk at %s", err, disk)
		}
	}
	for _, p := range []string{src.Path, file.Path, host.TempPath(file.Path)} {
		if one(t, h, p).Exists {
			t.Errorf("%s is there", p)
		}
	}
	run(t.Context(), "mount", "-o", "remount,size=16m", disk)
	must(t, errors.Join(upload(), write()))
	if info := one(t, h, src.Path); info.SHA256 != src.SHA256 {
		t.Errorf("the blob in the end: %+v", info)
	}
}
