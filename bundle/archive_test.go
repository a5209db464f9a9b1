package bundle_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/myadm/myadm/bundle"
)

func find(t testing.TB, b *bundle.Bundle, name string) bundle.Artifact {
	t.Helper()
	a, err := b.Find(name, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// archiveOf reads an image's whole archive.
func archiveOf(t testing.TB, b *bundle.Bundle, name string) []byte {
	t.Helper()
	content, size, err := b.Archive(t.Context(), find(t, b, name))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(content)
	if err := errors.Join(err, content.Close()); err != nil || int64(len(data)) != size {
		t.Fatalf("an archive of %d bytes, want the %d that it said, %v", len(data), size, err)
	}
	return data
}

// untar unpacks an archive and returns the names in it, in order.
func untar(t *testing.T, data []byte, dir string) []string {
	t.Helper()
	var names []string
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		body, err := io.ReadAll(r)
		name := filepath.Join(dir, h.Name)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, body, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// The library's own reader finds in the archive the image that went into the bundle.
func TestArchive(t *testing.T) {
	for form, path := range map[string]string{"folder": newFolder(t), "tar": newTar(t)} {
		t.Run(form, func(t *testing.T) {
			b := open(t, path)
			dir := t.TempDir()
			data := archiveOf(t, b, "etcd")
			names := untar(t, data, dir)
			if !slices.Equal(names[:2], []string{"oci-layout", "index.json"}) || len(names) != 6 {
				t.Errorf("the archive has %v", names)
			}
			index, err := layout.ImageIndexFromPath(dir)
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := index.IndexManifest()
			if err != nil || len(manifest.Manifests) != 1 {
				t.Fatalf("%+v, %v; want one image", manifest, err)
			}
			want, err := imageOf(t, "amd64", layers["etcd"]...).Digest()
			if err != nil {
				t.Fatal(err)
			}
			d := manifest.Manifests[0]
			if d.Digest != want || d.Annotations["io.containerd.image.name"] != "registry.k8s.io/etcd:3.7.0-0" ||
				d.Annotations["org.opencontainers.image.ref.name"] != "3.7.0-0" {
				t.Errorf("descriptor %+v, want %s as etcd", d, want)
			}
			image, err := index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(image, validate.Fast); err != nil {
				t.Error(err)
			}
			all, err := image.Layers()
			if err != nil || len(all) != 2 {
				t.Fatalf("%d layers, %v", len(all), err)
			}
			for i, l := range all {
				content, err := l.Compressed()
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(content)
				if err := errors.Join(err, content.Close()); err != nil || string(body) != layers["etcd"][i] {
					t.Errorf("layer %d is %q, %v", i, body, err)
				}
			}
			if again := archiveOf(t, b, "etcd"); !bytes.Equal(data, again) {
				t.Error("two archives of one image differ")
			}
		})
	}
}

// An image has the same archive in a bundle and outside of one.
func TestWriteArchive(t *testing.T) {
	var data bytes.Buffer
	if err := bundle.WriteArchive(&data, "registry.k8s.io/etcd:3.7.0-0", imageOf(t, "amd64", layers["etcd"]...)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data.Bytes(), archiveOf(t, open(t, newFolder(t)), "etcd")) {
		t.Error("the archives differ")
	}
	full := &fullDisk{left: 700}
	wantError(t, bundle.WriteArchive(full, "x:y", imageOf(t, "amd64", "one")), "archive x:y", "no space left")
}

// fullDisk takes some bytes and no more.
type fullDisk struct{ left int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if len(p) > d.left {
		return 0, syscall.ENOSPC
	}
	d.left -= len(p)
	return len(p), nil
}

// Nothing is sent of an image that is damaged.
func TestArchiveRefuses(t *testing.T) {
	dir := newFolder(t)
	b := open(t, dir)
	_, _, err := b.Archive(t.Context(), find(t, b, "kubelet"))
	wantError(t, err, "artifact kubelet", "no image")
	_, err = b.Open(t.Context(), find(t, b, "etcd"))
	wantError(t, err, "artifact etcd", "no binary")
	_, err = b.OpenBlob(t.Context(), bundle.Blob{SHA256: "../../index.json"})
	wantError(t, err, dir, "is not in this bundle's index")
	write(t, blobFile(t, dir, "etcd"), []byte("ETCD'S FILES"))
	_, _, err = b.Archive(t.Context(), find(t, b, "etcd"))
	wantError(t, err, dir, "artifact etcd (amd64)", "sha256", "hint:")
	if _, _, err := b.Archive(t.Context(), find(t, b, "e2e")); err != nil {
		t.Errorf("a good image: %v", err)
	}
	if err := os.Truncate(blobFile(t, dir, "e2e"), 2); err != nil {
		t.Fatal(err)
	}
	_, _, err = b.Archive(t.Context(), find(t, b, "e2e"))
	wantError(t, err, "artifact e2e (amd64)", "2 bytes instead of 6")
}

// A blob that changes under the archive's reader ends it with an error that says which.
func TestArchiveWhileABlobChanges(t *testing.T) {
	dir := newFolder(t)
	b := open(t, dir)
	content, _, err := b.Archive(t.Context(), find(t, b, "etcd"))
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	write(t, blobFile(t, dir, "etcd"), []byte("ETCD'S"))
	_, err = io.ReadAll(content)
	wantError(t, err, "artifact etcd (amd64)", "6 bytes instead of 12")
}

func TestCloseOfArchiveThatIsHalfRead(t *testing.T) {
	b := open(t, newFolder(t))
	content, size, err := b.Archive(t.Context(), find(t, b, "etcd"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.CopyN(io.Discard, content, size-3*512-1) // in the last layer
	if err := errors.Join(err, content.Close(), content.Close()); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(content); err == nil && strings.Contains(string(rest), "files") {
		t.Errorf("read %q after it was closed", rest)
	}
}

// An index whose image has other blobs than its manifest is found out before anything is sent.
func TestManifestNamesOtherBlobs(t *testing.T) {
	for name, spoil := range map[string]func(etcd *bundle.Artifact, other bundle.Blob){
		"one more":  func(a *bundle.Artifact, other bundle.Blob) { a.Blobs = append(a.Blobs, other) },
		"one less":  func(a *bundle.Artifact, _ bundle.Blob) { a.Blobs = a.Blobs[:len(a.Blobs)-1] },
		"another":   func(a *bundle.Artifact, other bundle.Blob) { a.Blobs[2] = other },
		"exchanged": func(a *bundle.Artifact, _ bundle.Blob) { a.Blobs[2], a.Blobs[3] = a.Blobs[3], a.Blobs[2] },
		"no manifest": func(a *bundle.Artifact, other bundle.Blob) {
			a.Blobs[0], a.Digest = other, "sha256:"+other.SHA256
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newFolder(t)
			index := open(t, dir).Index
			spoil(&index.Artifacts[2], index.Artifacts[0].Blobs[0])
			write(t, filepath.Join(dir, "index.json"), encode(t, index))
			b := open(t, dir)
			want := []string{dir, "artifact etcd (amd64)", "manifest"}
			_, _, err := b.Archive(t.Context(), find(t, b, "etcd"))
			wantError(t, err, want...)
			wantError(t, b.Verify(t.Context(), nil), want...)
			w := create(t, filepath.Join(t.TempDir(), "copy"))
			wantError(t, w.Copy(t.Context(), b, find(t, b, "etcd")), want...)
		})
	}
}
