package build

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// packed builds the real pause program with the real compiler and an image of it with every feature.
func packed(t *testing.T) (ref, archive, digest string) {
	t.Helper()
	b := testBuilder(t)
	holder, err := b.module(module{dir: "pause", programs: []string{".=holder"}})
	if err != nil {
		t.Fatal(err)
	}
	set := debianSet{name: "set"}
	made := map[string]*step{"pause": holder, "set": {name: set.name}}
	userland := b.dir(made["set"])
	err = errors.Join(os.MkdirAll(filepath.Join(userland, "usr/sbin"), 0o755),
		os.WriteFile(filepath.Join(userland, "usr/sbin/tool"), []byte("tool"), 0o755),
		os.Symlink("tool", filepath.Join(userland, "usr/sbin/alias")),
		os.WriteFile(filepath.Join(userland, versionName), []byte("1"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	im := image{
		name: "x", ref: "registry.example:5000/x/y:v1", base: true, debian: "set", entrypoint: "/holder", user: "65532:65532",
		programs: []program{{from: "pause/holder", path: "/usr/local/bin/holder", bindLow: true}},
	}
	dir := mustRun(t, b, b.image(im, made))
	data, err := os.ReadFile(filepath.Join(dir, digestName))
	if err != nil {
		t.Fatal(err)
	}
	return im.ref, filepath.Join(dir, archiveName), string(data)
}

// The archive is read with the library's own reader: sums, sizes and media types must all agree.
func TestImageArchive(t *testing.T) {
	ref, archive, digest := packed(t)
	dir := t.TempDir()
	untar(t, archive, dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("%d manifests, want one", len(manifest.Manifests))
	}
	d := manifest.Manifests[0]
	if d.Digest.String() != digest || d.Annotations["io.containerd.image.name"] != ref || d.Annotations["org.opencontainers.image.ref.name"] != "v1" {
		t.Errorf("descriptor %+v, want %s as %s", d, digest, ref)
	}
	im, err := index.Image(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	// Fast, because the thorough check knows no layers but gzip's; contents checks their sums.
	if err := validate.Image(im, validate.Fast); err != nil {
		t.Error(err)
	}
	config, err := im.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture == "" || config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/holder" ||
		!strings.HasPrefix(config.Config.Env[0], "PATH=/usr/local/sbin:/usr/local/bin:") {
		t.Errorf("configuration %+v", config)
	}
	files, layers := contents(t, im)
	if layers != 3 {
		t.Errorf("%d layers, want base, userland and program", layers)
	}
	got := strings.Join(files, "\n")
	want := strings.Join([]string{
		"drwxr-xr-x etc/", "-rw-r--r-- etc/group", "-rw-r--r-- etc/nsswitch.conf", "-rw-r--r-- etc/passwd", "drwxr-xr-x run/", "dtrwxrwxrwx tmp/",
		"drwxr-xr-x usr/", "drwxr-xr-x usr/sbin/", "Lrwxrwxrwx usr/sbin/alias -> tool", "-rwxr-xr-x usr/sbin/tool",
		"drwxr-xr-x usr/", "drwxr-xr-x usr/local/", "drwxr-xr-x usr/local/bin/",
		"-rwxr-xr-x usr/local/bin/holder security.capability=0100000200040000000000000000000000000000",
	}, "\n")
	if got != want {
		t.Errorf("files\n%s\nwant\n%s", got, want)
	}
}

// Two builds in two caches give one digest.
func TestImageIsReproducible(t *testing.T) {
	_, first, _ := packed(t)
	_, second, _ := packed(t)
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("two builds differ, or %v", err)
	}
}

// contents lists what the layers hold, one after the other.
func contents(t *testing.T, im v1.Image) (files []string, layers int) {
	t.Helper()
	all, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if kind, err := l.MediaType(); err != nil || kind != types.OCILayerZStd {
			t.Errorf("layer of type %s, %v", kind, err)
		}
		plain, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(plain)
		if err := errors.Join(err, plain.Close()); err != nil {
			t.Fatal(err)
		}
		sum, _, err := v1.SHA256(bytes.NewReader(data))
		if want, wantErr := l.DiffID(); err != nil || wantErr != nil || sum != want {
			t.Errorf("a layer unpacks to %s, want %s", sum, want)
		}
		for r := tar.NewReader(bytes.NewReader(data)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			line := h.FileInfo().Mode().String() + " " + h.Name
			if h.Linkname != "" {
				line += " -> " + h.Linkname
			}
			if capability := h.PAXRecords["SCHILY.xattr.security.capability"]; capability != "" {
				line += fmt.Sprintf(" security.capability=%x", capability)
			}
			files = append(files, line)
		}
	}
	return files, len(all)
}

func untar(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		data, err := io.ReadAll(r)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(filepath.Join(dir, h.Name)), 0o755), os.WriteFile(filepath.Join(dir, h.Name), data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(names[:2], []string{"oci-layout", "index.json"}) {
		t.Errorf("the archive starts with %v", names[:2])
	}
	var version struct{ ImageLayoutVersion string }
	data, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
	if err := errors.Join(err, json.Unmarshal(data, &version)); err != nil || version.ImageLayoutVersion != "1.0.0" {
		t.Errorf("oci-layout %s, %v", data, err)
	}
}
