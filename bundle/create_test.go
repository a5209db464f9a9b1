package bundle_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/myadm/myadm/bundle"
)

// names are those of a folder's entries.
func names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestTarIsReproducible(t *testing.T) {
	first, err := os.ReadFile(newTar(t))
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(newTar(t))
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("two tar files of the same artifacts differ, or %v", err)
	}
}

// Until Close there is nothing under the bundle's name, and afterwards nothing beside it.
func TestCreateIsAtomic(t *testing.T) {
	for _, name := range []string{"bundle", "bundle.tar"} {
		for _, end := range []string{"close", "discard", "fail"} {
			t.Run(name+" "+end, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, name)
				w := create(t, path)
				if err := w.AddBinary(artifacts()[0], strings.NewReader("x")); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("before Close there is a bundle, or %v", err)
				}
				want := ""
				switch end {
				case "close":
					want = name
					if err := errors.Join(w.Close(), w.Discard()); err != nil {
						t.Error(err)
					}
					wantError(t, w.Close(), path, "closed already")
				case "discard":
					if err := w.Discard(); err != nil {
						t.Error(err)
					}
				case "fail":
					if err := w.AddBinary(artifacts()[0], strings.NewReader("y")); err != nil { // the same name
						t.Fatal(err)
					}
					wantError(t, w.Close(), path, "name kubelet is already that of kubelet")
				}
				wantError(t, w.AddBinary(artifacts()[1], strings.NewReader("x")), "add ctr", path, "closed already")
				if got := names(t, dir); got != want {
					t.Errorf("there are %q, want %q", got, want)
				}
			})
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	folder, file, noFile := newFolder(t), newTar(t), filepath.Join(t.TempDir(), "empty.tar")
	if err := os.Mkdir(noFile, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{folder, file, noFile, filepath.Join(folder, "index.json"), filepath.Dir(folder)} {
		_, err := bundle.Create(path, "v1.37.2")
		wantError(t, err, path, "is there already", "hint:")
	}
	_, err := bundle.Create(filepath.Join(file, "x"), "v1.37.2")
	wantError(t, err, "create bundle")
	w := create(t, t.TempDir()) // empty
	if err := w.AddBinary(bundle.Artifact{Name: "kubelet"}, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.Close(), "artifact 0 (kubelet)", "version", "arch", "roles", "target")
}

// A place that is no longer free at the end is left alone.
func TestPlaceTakenMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle")
	w := create(t, path)
	if err := w.AddBinary(artifacts()[0], strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(path, "precious"), nil)
	wantError(t, w.Close(), path)
	if got := names(t, path); got != "precious" {
		t.Errorf("there are %q", got)
	}
}

// lying is an image that gives other bytes than it says.
type lying struct {
	v1.Image
	layer v1.Layer
}

func (l lying) LayerByDigest(v1.Hash) (v1.Layer, error) { return l.layer, nil }

func TestAddRefuses(t *testing.T) {
	etcd := artifacts()[2]
	image := imageOf(t, "amd64", "one", "two")
	other, err := imageOf(t, "amd64", "three").Layers()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bundle")
	w := create(t, path)
	wantError(t, w.AddImage(etcd, imageOf(t, "arm64", "one")), "add etcd", path, "linux/arm64 instead of linux/amd64")
	wantError(t, w.AddImage(etcd, lying{image, other[0]}), "add etcd", "5 bytes", "instead of 3", "hint:")
	wrong := etcd
	wrong.Digest = "sha256:" + strings.Repeat("d", 64)
	wantError(t, w.AddImage(wrong, image), "add etcd", "instead of "+wrong.Digest)
	kubelet := artifacts()[0]
	wantError(t, w.AddBinary(kubelet, iotest.ErrReader(errors.New("the line is dead"))), "add kubelet", "the line is dead")
	if err := w.AddBinary(kubelet, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, path); got != "blobs index.json" {
		t.Errorf("there are %q", got)
	}
	if got := names(t, filepath.Join(path, "blobs", "sha256")); got != open(t, path).Index.Artifacts[0].Blobs[0].SHA256 {
		t.Errorf("there are %q, want the one that an artifact has", got)
	}
}

// An archive that a bundle made goes into another bundle as the same image.
func TestAddArchive(t *testing.T) {
	from := open(t, newFolder(t))
	file := filepath.Join(t.TempDir(), "image.tar")
	write(t, file, archiveOf(t, from, "etcd"))
	path := filepath.Join(t.TempDir(), "bundle.tar")
	w := create(t, path)
	if err := errors.Join(w.AddArchive(artifacts()[2], file), w.Close()); err != nil {
		t.Fatal(err)
	}
	to := open(t, path)
	if !bytes.Equal(archiveOf(t, to, "etcd"), archiveOf(t, from, "etcd")) {
		t.Error("the image is another one")
	}
	if d := bundle.Diff(from, to); len(d.OnlyB.Artifacts) > 0 {
		t.Errorf("new are %+v", d.OnlyB)
	}
}

func TestAddArchiveRefuses(t *testing.T) {
	b := open(t, newFolder(t))
	good := archiveOf(t, b, "etcd")
	etcd := find(t, b, "etcd")
	manifest := func(body string) entry { return entry{name: "blobs/sha256/" + etcd.Blobs[0].SHA256, body: body} }
	index := func(body string) entry { return entry{name: "index.json", body: body} }
	named := `{"manifests":[{"digest":"` + etcd.Digest + `","size":1}]}`
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"cut off":          {good[:len(good)-2*512-510], "cut off"},
		"another layer":    {bytes.Replace(good, []byte("etcd's files"), []byte("ETCD'S FILES"), 1), "instead of 12"},
		"no index":         {tarOf(t, entry{name: "oci-layout"}), "index.json is missing"},
		"no JSON":          {tarOf(t, index("x")), "index.json: invalid"},
		"no image":         {tarOf(t, index("{}")), "names 0 images"},
		"two":              {tarOf(t, index(`{"manifests":[{},{}]}`)), "names 2 images"},
		"no digest":        {tarOf(t, index(`{"manifests":[{}]}`)), "index.json: digest"},
		"no manifest":      {tarOf(t, index(named)), "is missing"},
		"a huge manifest":  {tarOf(t, index(named), manifest(strings.Repeat(" ", 5<<20))), "has 5242880 bytes"},
		"an index":         {tarOf(t, index(named), manifest(`{"schemaVersion":2,"manifests":[]}`)), "an index of several"},
		"another manifest": {tarOf(t, index(named), manifest(manifestOf(descriptor(ociConfig, "c", 1)))), "the manifest has sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "image.tar")
			write(t, file, c.data)
			w := create(t, filepath.Join(t.TempDir(), "bundle"))
			wantError(t, w.AddArchive(artifacts()[2], file), "add etcd", file, c.want)
		})
	}
}

// Copies of a bundle's artifacts are the bundle, in either form.
func TestCopy(t *testing.T) {
	from := open(t, newTar(t))
	for _, name := range []string{"bundle", "bundle.tar"} {
		path := filepath.Join(t.TempDir(), name)
		w := create(t, path)
		for _, a := range from.Index.Artifacts {
			if err := w.Copy(t.Context(), from, a); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		to := open(t, path)
		if err := to.Verify(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if d := bundle.Diff(from, to); d.OnlyA.Artifacts != nil || d.OnlyB.Artifacts != nil || d.OnlyA.Blobs != nil || d.OnlyB.Blobs != nil {
			t.Errorf("%s differs: %+v", name, d)
		}
	}
}

func TestCopyVerifies(t *testing.T) {
	dir := newFolder(t)
	from := open(t, dir)
	for name, content := range map[string]string{"kubelet": "THE KUBELET", "etcd": "ETCD'S FILES"} {
		write(t, blobFile(t, dir, name), []byte(content))
		w := create(t, filepath.Join(t.TempDir(), "copy"))
		wantError(t, w.Copy(t.Context(), from, find(t, from, name)), "add "+name, dir, "sha256", "hint:")
	}
}

// Of half a binary nothing stays.
func TestDiscardAfterFailure(t *testing.T) {
	dir := t.TempDir()
	w := create(t, filepath.Join(dir, "bundle"))
	broken := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if err := w.AddBinary(artifacts()[0], broken); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("added half a binary: %v", err)
	}
	if err := w.Discard(); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); got != "" {
		t.Errorf("there is %q", got)
	}
}
