package mirror

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

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
		if err := ctx.Err(); err != nil {
			return contents{}, err
		}
		if a.OS != "linux" {
			continue
		}
		switch a.Kind {
		case bundle.KindBinary:
			err = takeBinary(ctx, s, b, a)
			all.programs = append(all.programs, program{a.Name, a.Version, a.Arch, a.SHA256})
		case bundle.KindImage:
			var im image
			im, err = takeImage(ctx, s, b, a)
			all.images = append(all.images, im)
		}
		if err != nil {
			return contents{}, fmt.Errorf("mirror %s of bundle %s: %w", a.Name, path, err)
		}
	}
	return all, nil
}

func takeBinary(ctx context.Context, s store, b *bundle.Bundle, a bundle.Artifact) error {
	if s.has(a.SHA256) {
		return nil
	}
	file, err := b.Open(ctx, a) // verifies it
	if err != nil {
		return err
	}
	defer file.Close()
	if err := s.link(filepath.Join(b.Path(), a.Path), a.SHA256); err == nil {
		return nil
	}
	return s.putAs(a.SHA256, file) // the bundle is a tar file
}

// takeImage unpacks an OCI image layout, which is a tar file with the blobs that a registry has.
func takeImage(ctx context.Context, s store, b *bundle.Bundle, a bundle.Artifact) (image, error) {
	file, err := b.Open(ctx, a)
	if err != nil {
		return image{}, err
	}
	defer file.Close()
	im := image{ref: a.Image, arch: a.Arch}
	var index v1.IndexManifest
	for layout := tar.NewReader(file); ; {
		header, err := layout.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return image{}, err
		}
		if header.Name == "index.json" {
			err = json.NewDecoder(layout).Decode(&index)
		} else if sum, ok := strings.CutPrefix(header.Name, "blobs/sha256/"); ok && header.Typeflag == tar.TypeReg {
			im.blobs = append(im.blobs, sum)
			err = s.putAs(sum, layout)
		}
		if err != nil {
			return image{}, fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	if len(index.Manifests) != 1 {
		return image{}, fmt.Errorf("%d manifests instead of one", len(index.Manifests))
	}
	d := index.Manifests[0]
	im.manifest = v1.Descriptor{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest}
	return im, nil
}
