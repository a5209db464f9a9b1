package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myadm/myadm/bundle"
)

var digest = "sha256:" + strings.Repeat("d", 64)

// contents of the synthetic bundle, by artifact; two share one blob.
var contents = map[string]string{"kubelet": "the kubelet", "etcd": "the etcd image", "ctr": "the kubelet", "e2e": "a test"}

func artifacts() []bundle.Artifact {
	binary := bundle.Artifact{Version: "v1.37.2", Kind: bundle.KindBinary, OS: "linux", Arch: "amd64", Mode: 0o755}
	image := bundle.Artifact{Version: "3.7.0-0", Kind: bundle.KindImage, OS: "linux", Arch: "amd64", Digest: digest}
	kubelet, ctr, etcd, test := binary, binary, image, image
	kubelet.Name, kubelet.Target, kubelet.Roles = "kubelet", "/usr/local/bin/kubelet", []bundle.Role{bundle.RoleNode}
	ctr.Name, ctr.Target, ctr.Roles = "ctr", "/usr/local/bin/ctr", []bundle.Role{bundle.RoleRuntime, bundle.RoleNode}
	etcd.Name, etcd.Image, etcd.Roles = "etcd", "registry.k8s.io/etcd:3.7.0-0", []bundle.Role{bundle.RoleControlPlane}
	test.Name, test.Image, test.Roles = "e2e", "docker.io/myadm/e2e:v1", []bundle.Role{bundle.RoleTest}
	return []bundle.Artifact{kubelet, ctr, etcd, test}
}

func newFolder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	w, err := bundle.Create(dir, "v1.37.2")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range artifacts() {
		if err := w.Add(a, strings.NewReader(contents[a.Name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newTar(t *testing.T) string {
	t.Helper()
	b := open(t, newFolder(t))
	var data bytes.Buffer
	if err := b.WriteTar(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "bundle.tar")
	write(t, name, data.Bytes())
	return name
}

func open(t *testing.T, path string) *bundle.Bundle {
	t.Helper()
	b, err := bundle.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want one with %q", err, part)
		}
	}
}

// Both forms hold the same: what goes in comes out, and is found by name and by role.
func TestRoundTrip(t *testing.T) {
	for form, path := range map[string]string{"folder": newFolder(t), "tar": newTar(t)} {
		t.Run(form, func(t *testing.T) {
			b := open(t, path)
			if b.Index.KubernetesVersion != "v1.37.2" || b.Path() != path {
				t.Errorf("opened %s for %s", b.Path(), b.Index.KubernetesVersion)
			}
			for _, a := range b.Index.Artifacts {
				file, err := b.Open(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := file.Seek(4, io.SeekStart); err != nil {
					t.Error(err)
				}
				rest, err := io.ReadAll(file)
				if err := errors.Join(err, file.Close()); err != nil || string(rest) != contents[a.Name][4:] {
					t.Errorf("%s after 4 bytes is %q, %v", a.Name, rest, err)
				}
			}
			var last, total int64
			if err := b.Verify(t.Context(), func(done, all int64) { last, total = done, all }); err != nil {
				t.Error(err)
			}
			if want := int64(len("the kubelet" + "the etcd image" + "a test")); total != want || last != want {
				t.Errorf("verified %d of %d bytes, want all of %d: a shared blob counts once", last, total, want)
			}
		})
	}
}

func TestWriteTarIsReproducible(t *testing.T) {
	first, err := os.ReadFile(newTar(t))
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(newTar(t))
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("two tar files of one bundle differ, or %v", err)
	}
}

func TestSelect(t *testing.T) {
	b := open(t, newFolder(t))
	for _, c := range []struct {
		arch  string
		roles []bundle.Role
		want  string
	}{
		{"amd64", []bundle.Role{bundle.RoleNode}, "kubelet ctr"},
		{"amd64", []bundle.Role{bundle.RoleRuntime, bundle.RoleNode}, "kubelet ctr"}, // ctr has both, comes once
		{"amd64", []bundle.Role{bundle.RoleControlPlane, bundle.RoleRuntime}, "ctr etcd"},
		{"arm64", []bundle.Role{bundle.RoleNode}, ""},
		{"amd64", nil, ""},
	} {
		var names []string
		for _, a := range b.Select(c.arch, c.roles...) {
			names = append(names, a.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s %v selects %q, want %q", c.arch, c.roles, got, c.want)
		}
	}
	if size := bundle.TotalSize(b.Select("amd64", bundle.RoleNode)); size != int64(len("the kubelet")) {
		t.Errorf("kubelet and ctr have %d bytes together, want their one blob's", size)
	}
}

func TestFind(t *testing.T) {
	b := open(t, newFolder(t))
	if a, err := b.Image("etcd", "amd64"); err != nil || a.Image != "registry.k8s.io/etcd:3.7.0-0" {
		t.Errorf("etcd is %+v, %v", a, err)
	}
	if a, err := b.Binary("kubelet", "amd64"); err != nil || a.Mode != 0o755 {
		t.Errorf("kubelet is %+v, %v", a, err)
	}
	_, err := b.Find("kubelet", "arm64")
	wantError(t, err, b.Path(), "kubelet for [amd64]", "arm64", "hint:")
	_, err = b.Find("kubeletta", "amd64")
	wantError(t, err, b.Path(), "no kubeletta", "hint:")
	_, err = b.Image("kubelet", "amd64")
	wantError(t, err, "kind binary, not image")
}

// A blob that changed after it was verified is verified again; one that did not is not read twice.
func TestVerifiedOnce(t *testing.T) {
	dir := newFolder(t)
	b := open(t, dir)
	a, err := b.Find("etcd", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Verified(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, a.Path)
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	// The same size and time: only reading it would tell, so this shows that it is not read.
	write(t, name, []byte("THE ETCD IMAGE"))
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := b.Verified(t.Context(), a); err != nil {
		t.Errorf("a verified blob was read again: %v", err)
	}
	if err := os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	wantError(t, b.Verified(t.Context(), a), dir, "artifact etcd (amd64)", "sha256", "hint:")
}

// Many hosts may ask for one blob at the same moment, each with a position of its own.
func TestOpenByMany(t *testing.T) {
	b := open(t, newTar(t))
	a, err := b.Find("kubelet", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	var hosts sync.WaitGroup
	for range 16 {
		hosts.Go(func() {
			file, err := b.Open(t.Context(), a)
			if err != nil {
				t.Error(err)
				return
			}
			data, err := io.ReadAll(file)
			if err := errors.Join(err, file.Close()); err != nil || string(data) != contents["kubelet"] {
				t.Errorf("read %q, %v", data, err)
			}
		})
	}
	hosts.Wait()
}

func TestVerifyReportsEverything(t *testing.T) {
	dir := newFolder(t)
	b := open(t, dir)
	for _, name := range []string{"kubelet", "e2e"} {
		a, err := b.Find(name, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, a.Path), bytes.ToUpper([]byte(contents[name])))
	}
	err := b.Verify(t.Context(), nil)
	wantError(t, err, "artifact kubelet", "artifact e2e")
	if err != nil && strings.Contains(err.Error(), "artifact etcd") {
		t.Errorf("a good blob was reported: %v", err)
	}
}

func TestVerifyStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, newFolder(t)).Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("verified under a cancelled context: %v", err)
	}
}

func TestOpenFolderRefuses(t *testing.T) {
	blob := func(dir, name string) string {
		b, err := bundle.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		i := slices.IndexFunc(b.Index.Artifacts, func(a bundle.Artifact) bool { return a.Name == name })
		return filepath.Join(dir, b.Index.Artifacts[i].Path)
	}
	for name, c := range map[string]struct {
		harm func(dir string) error
		want []string
	}{
		"no index":    {func(dir string) error { return os.Remove(filepath.Join(dir, "index.json")) }, []string{"index.json is missing", "hint:"}},
		"huge index":  {func(dir string) error { return os.Truncate(filepath.Join(dir, "index.json"), 5<<20) }, []string{"index.json has 5242880 bytes"}},
		"missing":     {func(dir string) error { return os.Remove(blob(dir, "etcd")) }, []string{"artifact etcd (amd64)", "is missing"}},
		"cut off":     {func(dir string) error { return os.Truncate(blob(dir, "etcd"), 3) }, []string{"artifact etcd (amd64)", "3 bytes instead of 14", "hint:"}},
		"not a file":  {func(dir string) error { b := blob(dir, "etcd"); return errors.Join(os.Remove(b), os.Mkdir(b, 0o755)) }, []string{"artifact etcd", "not a regular file"}},
		"no folder":   {os.RemoveAll, []string{"no such file or folder", "hint:"}},
		"link out of": {func(dir string) error { return linkOut(blob(dir, "etcd"), contents["etcd"]) }, []string{"artifact etcd", "escapes"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newFolder(t)
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			_, err := bundle.Open(dir)
			wantError(t, err, append(c.want, dir)...)
		})
	}
}

// linkOut replaces a blob by a link to a file with its content outside of the bundle.
func linkOut(blob, content string) error {
	outside := filepath.Join(filepath.Dir(blob), "..", "..", "..", "outside")
	return errors.Join(os.WriteFile(outside, []byte(content), 0o644), os.Remove(blob), os.Symlink("../../../outside", blob))
}

func TestCreateRefuses(t *testing.T) {
	dir := newFolder(t)
	_, err := bundle.Create(dir, "v1.37.2")
	wantError(t, err, dir, "already holds one")
	w, err := bundle.Create(t.TempDir(), "v1.37.2")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(bundle.Artifact{Name: "kubelet"}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.Close(), "artifact 0 (kubelet)", "version", "arch", "roles", "kind")
}
