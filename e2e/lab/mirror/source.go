package mirror

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
)

// contents are what a bundle has, with its blobs in the store. Nothing else in this package knows the bundle's format.
type contents struct {
	kubernetesVersion string // with a v
	programs          []program
	images            []image
}

// program is one binary.
type program struct {
	name, version, arch string // "kubelet", "v1.37.2", "amd64"
	blob                string // SHA-256
}

// image is one image for one architecture.
type image struct {
	ref      string        // REGISTRY/REPOSITORY:TAG
	arch     string        // as Go names it
	manifest v1.Descriptor // media type, size and digest
	blobs    []string      // SHA-256 of the manifest, the configuration and the layers
}

// readBundle takes a bundle's blobs into the store.
func readBundle(ctx context.Context, s store, path string) (contents, error) {
	b, err := bundle.Open(path)
	if err != nil {
		return contents{}, err
	}
	defer b.Close()
	all := contents{kubernetesVersion: b.Index.KubernetesVersion}
	for _, a := range b.Index.Artifacts {
		if a.OS != "linux" {
			continue
		}
		var sums []string
		for _, blob := range a.Blobs {
			if err := takeBlob(ctx, s, b, blob); err != nil {
				return contents{}, fmt.Errorf("mirror %s: %w", a.Name, err)
			}
			sums = append(sums, blob.SHA256)
		}
		switch a.Kind {
		case bundle.KindBinary:
			all.programs = append(all.programs, program{a.Name, a.Version, a.Arch, sums[0]})
		case bundle.KindImage:
			manifest, err := describeManifest(s, a.Blobs[0])
			if err != nil {
				return contents{}, fmt.Errorf("mirror %s of bundle %s: %w", a.Name, path, err)
			}
			all.images = append(all.images, image{a.Image, a.Arch, manifest, sums})
		}
	}
	return all, nil
}

func takeBlob(ctx context.Context, s store, b *bundle.Bundle, blob bundle.Blob) error {
	if s.has(blob.SHA256) {
		return nil
	}
	file, err := b.OpenBlob(ctx, blob) // verifies it
	if err != nil {
		return err
	}
	defer file.Close()
	if blob.Zstd == (bundle.Packed{}) {
		if err := s.link(filepath.Join(b.Path(), "blobs", "sha256", blob.SHA256), blob.SHA256); err == nil {
			return nil
		}
	}
	return s.putAs(blob.SHA256, file) // the bundle is a tar file, or has the blob compressed
}

// describeManifest is the descriptor of an image's first blob. A manifest of OCI may leave its media type out.
func describeManifest(s store, blob bundle.Blob) (v1.Descriptor, error) {
	file, err := os.Open(s.path(blob.SHA256))
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer file.Close()
	manifest, err := v1.ParseManifest(file)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("manifest: %w", err)
	}
	d := v1.Descriptor{MediaType: manifest.MediaType, Size: blob.Size, Digest: v1.Hash{Algorithm: "sha256", Hex: blob.SHA256}}
	if d.MediaType == "" {
		d.MediaType = types.OCIManifestSchema1
	}
	return d, nil
}
