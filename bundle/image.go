package bundle

import (
	"context"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// RegistryImage gives an image of this bundle as registries take it, with the bytes that the bundle has, so that its digest is the
// artifact's. Its manifest is verified at once; its configuration and its layers are when they are read, each as far as it
// is not known to be good. ctx is used for as long as the image is.
func (b *Bundle) RegistryImage(ctx context.Context, a Artifact) (v1.Image, error) {
	manifest, err := b.manifest(ctx, a)
	if err != nil {
		return nil, b.describe(a, err)
	}
	_, mediaType, err := readManifest(manifest)
	if err != nil {
		return nil, b.describe(a, err)
	}
	return partial.CompressedToImage(&bundledImage{ctx, b, a, manifest, mediaType})
}

// bundledImage implements partial.CompressedImageCore.
type bundledImage struct {
	ctx       context.Context // the interface has none
	bundle    *Bundle
	artifact  Artifact
	manifest  []byte
	mediaType types.MediaType
}

// MediaType implements partial.ImageCore.
func (i *bundledImage) MediaType() (types.MediaType, error) { return i.mediaType, nil }

// RawManifest implements partial.CompressedImageCore.
func (i *bundledImage) RawManifest() ([]byte, error) { return i.manifest, nil }

// RawConfigFile implements partial.ImageCore.
func (i *bundledImage) RawConfigFile() ([]byte, error) {
	file, err := i.open(i.artifact.Blobs[1]) // there are two at least: readManifest saw to it
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// LayerByDigest implements partial.CompressedImageCore; the configuration counts as a layer.
func (i *bundledImage) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	descriptors, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	for _, d := range append([]v1.Descriptor{descriptors.Config}, descriptors.Layers...) {
		at := slices.IndexFunc(i.artifact.Blobs, func(b Blob) bool { return b.SHA256 == d.Digest.Hex })
		if d.Digest == digest && at >= 0 {
			return &bundledLayer{i, i.artifact.Blobs[at], d}, nil
		}
	}
	return nil, i.bundle.describe(i.artifact, fmt.Errorf("it has no layer %s", digest))
}

func (i *bundledImage) open(blob Blob) (io.ReadCloser, error) {
	file, err := i.bundle.open(i.ctx, blob, func(int) {})
	if err != nil {
		return nil, i.bundle.describe(i.artifact, err)
	}
	return file, nil
}

// bundledLayer implements partial.CompressedLayer.
type bundledLayer struct {
	image      *bundledImage
	blob       Blob
	descriptor v1.Descriptor
}

// Digest implements partial.CompressedLayer.
func (l *bundledLayer) Digest() (v1.Hash, error) { return l.descriptor.Digest, nil }

// Size implements partial.CompressedLayer.
func (l *bundledLayer) Size() (int64, error) { return l.blob.Size, nil }

// MediaType implements partial.CompressedLayer.
func (l *bundledLayer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }

// Compressed implements partial.CompressedLayer.
func (l *bundledLayer) Compressed() (io.ReadCloser, error) { return l.image.open(l.blob) }
