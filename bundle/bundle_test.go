package bundle_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
)

// binaries are the contents of the synthetic bundle's binaries; two share one blob.
var binaries = map[string]string{"kubelet": "the kubelet", "ctr": "the kubelet"}

// layers are those of its images, which share the lowest.
var layers = map[string][]string{"etcd": {"the base", "etcd's files"}, "e2e": {"the base", "a test"}}

// artifacts are those of the synthetic bundle, without what a Writer fills in.
func artifacts() []bundle.Artifact {
	binary := bundle.Artifact{Version: "v1.37.2", OS: "linux", Arch: "amd64", Mode: 0o755}
	image := bundle.Artifact{Version: "3.7.0-0", OS: "linux", Arch: "amd64"}
	kubelet, ctr, etcd, test := binary, binary, image, image
	kubelet.Name, kubelet.Target, kubelet.Roles = "kubelet", "/usr/local/bin/kubelet", []bundle.Role{bundle.RoleNode}
	ctr.Name, ctr.Target, ctr.Roles = "ctr", "/usr/local/bin/ctr", []bundle.Role{bundle.RoleRuntime, bundle.RoleNode}
	etcd.Name, etcd.Image, etcd.Roles = "etcd", "registry.k8s.io/etcd:3.7.0-0", []bundle.Role{bundle.RoleControlPlane}
	test.Name, test.Image, test.Roles = "e2e", "docker.io/myadm/e2e:v1", []bundle.Role{bundle.RoleTest}
	return []bundle.Artifact{kubelet, ctr, etcd, test}
}

// imageOf is an image with layers that are as small as can be: nothing here unpacks them.
func imageOf(t testing.TB, arch string, layers ...string) v1.Image {
	t.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, content := range layers {
		var err error
		if image, err = mutate.AppendLayers(image, static.NewLayer([]byte(content), types.OCILayerZStd)); err != nil {
			t.Fatal(err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func create(t testing.TB, path string) *bundle.Writer {
	t.Helper()
	w, err := bundle.Create(path, "v1.37.2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Discard() })
	return w
}

// fill makes the synthetic bundle at path.
func fill(t testing.TB, path string) string {
	t.Helper()
	w := create(t, path)
	var errs []error
	for _, a := range artifacts() {
		if content, isBinary := binaries[a.Name]; isBinary {
			errs = append(errs, w.AddBinary(a, strings.NewReader(content)))
		} else {
			errs = append(errs, w.AddImage(a, imageOf(t, a.Arch, layers[a.Name]...)))
		}
	}
	if err := errors.Join(append(errs, w.Close())...); err != nil {
		t.Fatal(err)
	}
	return path
}

func newFolder(t testing.TB) string { t.Helper(); return fill(t, filepath.Join(t.TempDir(), "bundle")) }

func newTar(t testing.TB) string {
	t.Helper()
	return fill(t, filepath.Join(t.TempDir(), "bundle.tar"))
}

// blobFile is where a folder has a blob: the highest layer of an image, or a binary.
func blobFile(t testing.TB, dir, name string) string {
	t.Helper()
	b := open(t, dir)
	a, err := b.Find(name, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "blobs", "sha256", a.Blobs[len(a.Blobs)-1].SHA256)
}

func open(t testing.TB, path string) *bundle.Bundle {
	t.Helper()
	b, err := bundle.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, parts ...string) {
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
			for name, content := range binaries {
				a, err := b.Binary(name, "amd64")
				if err != nil {
					t.Fatal(err)
				}
				file, err := b.Open(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := file.Seek(4, io.SeekStart); err != nil {
					t.Error(err)
				}
				rest, err := io.ReadAll(file)
				if err := errors.Join(err, file.Close()); err != nil || string(rest) != content[4:] {
					t.Errorf("%s after 4 bytes is %q, %v", name, rest, err)
				}
			}
			etcd, err := b.Image("etcd", "amd64")
			if err != nil || len(etcd.Blobs) != 4 {
				t.Fatalf("etcd is %+v, %v; want a manifest, a configuration and two layers", etcd, err)
			}
			test, err := b.Image("e2e", "amd64")
			if err != nil || test.Blobs[2] != etcd.Blobs[2] {
				t.Errorf("e2e is %+v, %v; want etcd's lowest layer", test, err)
			}
			var last, total int64
			if err := b.Verify(t.Context(), func(done, all int64) { last, total = done, all }); err != nil {
				t.Error(err)
			}
			size := etcd.Size() + test.Size() - int64(len("the base"))
			if want := size + int64(len("the kubelet")); total != want || last != want {
				t.Errorf("verified %d of %d bytes, want all of %d: a shared blob counts once", last, total, want)
			}
		})
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
	a, err := b.Find("kubelet", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	use := func() error {
		file, err := b.Open(t.Context(), a)
		if err != nil {
			return err
		}
		return file.Close()
	}
	if err := use(); err != nil {
		t.Fatal(err)
	}
	name := blobFile(t, dir, "kubelet")
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	// The same size and time: only reading it would tell, so this shows that it is not read.
	write(t, name, []byte("THE KUBELET"))
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := use(); err != nil {
		t.Errorf("a verified blob was read again: %v", err)
	}
	if err := os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	wantError(t, use(), dir, "artifact kubelet (amd64)", "sha256", "hint:")
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
			if err := errors.Join(err, file.Close()); err != nil || string(data) != binaries["kubelet"] {
				t.Errorf("read %q, %v", data, err)
			}
		})
	}
	hosts.Wait()
}

func TestVerifyReportsEverything(t *testing.T) {
	dir := newFolder(t)
	b := open(t, dir)
	for name, content := range map[string]string{"kubelet": "THE KUBELET", "e2e": "A TEST"} {
		write(t, blobFile(t, dir, name), []byte(content))
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
	blob := func(dir, name string) string { return blobFile(t, dir, name) }
	for name, c := range map[string]struct {
		harm func(dir string) error
		want []string
	}{
		"no index":    {func(dir string) error { return os.Remove(filepath.Join(dir, "index.json")) }, []string{"index.json is missing", "hint:"}},
		"huge index":  {func(dir string) error { return os.Truncate(filepath.Join(dir, "index.json"), 5<<20) }, []string{"index.json has 5242880 bytes"}},
		"missing":     {func(dir string) error { return os.Remove(blob(dir, "etcd")) }, []string{"artifact etcd (amd64)", "is missing", "hint: "}},
		"cut off":     {func(dir string) error { return os.Truncate(blob(dir, "etcd"), 3) }, []string{"artifact etcd (amd64)", "3 bytes instead of 12", "hint:"}},
		"not a file":  {func(dir string) error { b := blob(dir, "etcd"); return errors.Join(os.Remove(b), os.Mkdir(b, 0o755)) }, []string{"artifact etcd", "not a regular file"}},
		"no folder":   {os.RemoveAll, []string{"no such file or folder", "hint:"}},
		"link out of": {func(dir string) error { return linkOut(blob(dir, "etcd"), layers["etcd"][1]) }, []string{"artifact etcd", "escapes"}},
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

// TestOpenPartial: what is missing is told when it is wanted, and is there once somebody brought it.
func TestOpenPartial(t *testing.T) {
	dir := newFolder(t)
	b := open(t, dir)
	blob := blobFile(t, dir, "kubelet")
	if err := os.Rename(blob, blob+".later"); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.OpenFolder(dir, b.Index); err == nil {
		t.Error("a folder with a blob too few is whole")
	}
	partial, err := bundle.OpenPartial(dir, b.Index)
	if err != nil {
		t.Fatal(err)
	}
	defer partial.Close()
	kubelet, err := partial.Binary("kubelet", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	_, err = partial.Open(t.Context(), kubelet)
	wantError(t, err, "bundle "+dir+": artifact kubelet (amd64): blobs/sha256/"+kubelet.Blobs[0].SHA256+" is missing")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v is not known as a file that does not exist", err)
	}
	if err := os.Rename(blob+".later", blob); err != nil {
		t.Fatal(err)
	}
	file, err := partial.Open(t.Context(), kubelet)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	write(t, blob, []byte("longer than the kubelet"))
	_, err = partial.Open(t.Context(), kubelet)
	wantError(t, err, "bytes instead of", "hint:")
}

// linkOut replaces a blob by a link to a file with its content outside of the bundle.
func linkOut(blob, content string) error {
	outside := filepath.Join(filepath.Dir(blob), "..", "..", "..", "outside")
	return errors.Join(os.WriteFile(outside, []byte(content), 0o644), os.Remove(blob), os.Symlink("../../../outside", blob))
}
