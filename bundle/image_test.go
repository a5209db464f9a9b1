package bundle_test

import (
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/myadm/myadm/bundle"
)

// The library finds in an image of a bundle what went into it, with its digest.
func TestRegistryImage(t *testing.T) {
	for form, path := range map[string]string{"folder": newFolder(t), "tar": newTar(t)} {
		b := open(t, path)
		a := find(t, b, "etcd")
		im, err := b.RegistryImage(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := im.Digest()
		if err != nil || digest.String() != a.Digest {
			t.Errorf("%s: digest %s, %v; want %s", form, digest, err, a.Digest)
		}
		if err := validate.Image(im, validate.Fast); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		// A blob of another image, or of none, is not the image's.
		other := find(t, b, "e2e").Blobs
		if _, err := im.LayerByDigest(v1.Hash{Algorithm: "sha256", Hex: other[len(other)-1].SHA256}); err == nil {
			t.Errorf("%s: it has a layer of another image", form)
		}
	}
}

func TestRegistryImageVerifies(t *testing.T) {
	path := newFolder(t)
	b := open(t, path)
	_, err := b.RegistryImage(t.Context(), find(t, b, "kubelet"))
	wantError(t, err, "artifact kubelet", "it is no image")
	a := find(t, b, "etcd")
	spoil := func(blob bundle.Blob) {
		write(t, filepath.Join(path, "blobs/sha256", blob.SHA256), make([]byte, blob.Size))
	}
	im, err := b.RegistryImage(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	layer := a.Blobs[len(a.Blobs)-1]
	spoil(layer)
	l, err := im.LayerByDigest(v1.Hash{Algorithm: "sha256", Hex: layer.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Compressed()
	wantError(t, err, "artifact etcd", layer.SHA256, "the bundle is damaged")
	spoil(a.Blobs[1])
	_, err = im.RawConfigFile()
	wantError(t, err, "artifact etcd", a.Blobs[1].SHA256, "the bundle is damaged")
	if err := os.Remove(filepath.Join(path, "blobs/sha256", a.Blobs[0].SHA256)); err != nil {
		t.Fatal(err)
	}
	_, err = b.RegistryImage(t.Context(), a)
	wantError(t, err, "artifact etcd", a.Blobs[0].SHA256)
}
