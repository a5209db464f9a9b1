package fetch

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// TestBundle makes a bundle for both architectures, which is whole by its own checks, and the same when made again.
func TestBundle(t *testing.T) {
	w := newWorld(t)
	w.pushImages(t, items(t))
	f := open(t, Options{Mirror: serve(t, w)})
	var made [2]string
	for i := range made {
		made[i] = filepath.Join(t.TempDir(), "made.tar")
		out, err := bundle.Create(made[i], version)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Bundle(t.Context(), version, release.Architectures(), nil, out); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := bundle.Open(made[0])
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if n, want := len(b.Index.Artifacts), 2*len(items(t)); n != want {
		t.Errorf("%d artifacts, want %d", n, want)
	}
	first, err := os.ReadFile(made[0])
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(made[1])
	if err != nil || string(first) != string(second) {
		t.Errorf("the second bundle differs, %v", err)
	}
}

// TestProvide has a bundle of the cache's blobs, without a copy of any, from which all of it can be read.
func TestProvide(t *testing.T) {
	w := newWorld(t)
	w.pushImages(t, items(t))
	f := open(t, Options{Mirror: serve(t, w)})
	b, err := f.Provide(t.Context(), version, []string{"amd64"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if b.Index.KubernetesVersion != version || len(b.Index.Artifacts) != len(items(t)) || b.Path() != f.cache.Dir() {
		t.Errorf("version %s, %d artifacts at %s", b.Index.KubernetesVersion, len(b.Index.Artifacts), b.Path())
	}
	for _, a := range b.Index.Artifacts {
		if a.Kind != bundle.KindImage {
			continue
		}
		archive, _, err := b.Archive(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, archive); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
		archive.Close()
	}
}

// TestBundleForRoles: hosts of other roles get nothing.
func TestBundleForRoles(t *testing.T) {
	w := newWorld(t)
	f := open(t, Options{Mirror: serve(t, w)})
	path := filepath.Join(t.TempDir(), "made")
	out, err := bundle.Create(path, version)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Discard()
	if err := f.Bundle(t.Context(), version, []string{"arm64"}, []bundle.Role{bundle.RoleRuntime}, out); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if n := len(b.Select("arm64", bundle.RoleRuntime)); n != 5 || len(b.Index.Artifacts) != n {
		t.Errorf("%d artifacts, %d of them for runtimes", len(b.Index.Artifacts), n)
	}
}

// TestBundleOfADamagedCache: what a disk has changed since is not passed on.
func TestBundleOfADamagedCache(t *testing.T) {
	w := newWorld(t)
	f := open(t, Options{Mirror: serve(t, w)})
	b, err := f.Provide(t.Context(), version, []string{"amd64"}, []bundle.Role{bundle.RoleRuntime})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	first := b.Index.Artifacts[0]
	damaged := make([]byte, first.Size())
	if err := os.WriteFile(f.cache.blob(first.Blobs[0].SHA256), damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := bundle.Create(filepath.Join(t.TempDir(), "made"), version)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Discard()
	wantError(t, copyAll(t.Context(), out, b), "add "+first.Name, "has sha256 "+sum(damaged)+" instead of "+first.Blobs[0].SHA256)
}
