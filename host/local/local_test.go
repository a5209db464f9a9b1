package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/host/local"
)

func open(t *testing.T) host.Host {
	t.Helper()
	h, err := local.New()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestConformance(t *testing.T) {
	hosttest.Conformance(t, open, func(t *testing.T) string { return t.TempDir() })
}

// TestRemoveStopsAtMounts binds a folder of the same file system: device numbers would not tell.
func TestRemoveStopsAtMounts(t *testing.T) {
	h, dir := open(t), t.TempDir()
	precious := filepath.Join(dir, "precious", "data")
	target := filepath.Join(dir, "gone", "a mount")
	err := h.WriteFiles(t.Context(),
		host.File{Path: precious, Mode: 0o644},
		host.File{Path: filepath.Join(dir, "gone", "file"), Mode: 0o644},
		host.File{Path: filepath.Join(target, "below"), Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(filepath.Dir(precious), target, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	mounted := true
	defer func() {
		if mounted {
			syscall.Unmount(target, syscall.MNT_DETACH) //nolint:errcheck // best effort after a failure
		}
	}()
	var inTheWay *host.MountedError
	if err := h.Remove(t.Context(), filepath.Join(dir, "gone")); !errors.As(err, &inTheWay) || inTheWay.Mount != target {
		t.Fatalf("remove: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "gone", "file")); err != nil {
		t.Errorf("something was removed all the same: %v", err)
	}
	if err := h.Remove(t.Context(), target); err != nil {
		t.Fatalf("a mount point itself: %v", err)
	}
	if _, err := os.Stat(precious); !os.IsNotExist(err) {
		t.Errorf("a mount point itself is not emptied: %v", err)
	}
	if err := syscall.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	mounted = false
	if err := h.Remove(t.Context(), filepath.Join(dir, "gone")); err != nil {
		t.Errorf("after unmounting: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "gone")); !os.IsNotExist(err) {
		t.Errorf("after unmounting: %v", err)
	}
}
