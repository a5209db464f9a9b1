package fetch

import (
	"context"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocipartial "github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// Bundle gets what hosts of the architectures need for a Kubernetes version, for the given roles or, without any, for all
// of them, and adds it to a bundle: an architecture after the other, each in the order of the table. The caller closes
// the bundle.
func (f *Fetcher) Bundle(ctx context.Context, version string, archs []string, roles []bundle.Role, w *bundle.Writer) error {
	got, err := f.all(ctx, version, archs, roles)
	if err != nil {
		return err
	}
	for _, g := range got {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.add(ctx, w, g); err != nil {
			return err
		}
	}
	return nil
}

// Provide gets the same and opens it where the cache has it, as a bundle that is good for as long as the Fetcher is not
// closed.
func (f *Fetcher) Provide(ctx context.Context, version string, archs []string, roles []bundle.Role) (*bundle.Bundle, error) {
	got, err := f.all(ctx, version, archs, roles)
	if err != nil {
		return nil, err
	}
	index := bundle.Index{APIVersion: bundle.APIVersion, KubernetesVersion: version}
	for _, g := range got {
		a := g.Artifact()
		a.Blobs, a.Digest = g.Blobs, g.Digest
		index.Artifacts = append(index.Artifacts, a)
	}
	return bundle.OpenFolder(f.cache.dir, index)
}

// all gets what Bundle is to have, in its order.
func (f *Fetcher) all(ctx context.Context, version string, archs []string, roles []bundle.Role) ([]Fetched, error) {
	var items []release.Item
	for _, arch := range archs {
		all, err := release.Items(version, arch)
		if err != nil {
			return nil, err
		}
		items = append(items, release.Select(all, roles...)...)
	}
	return f.Get(ctx, items)
}

// add copies an item from the cache, which is read and so verified once more.
func (f *Fetcher) add(ctx context.Context, w *bundle.Writer, g Fetched) error {
	a := g.Artifact()
	if g.Kind == bundle.KindImage {
		a.Digest = g.Digest
		image, err := f.cached(ctx, g)
		if err != nil {
			return err
		}
		return w.AddImage(a, image)
	}
	file, err := f.Open(g.Blobs[0].SHA256)
	if err != nil {
		return err
	}
	defer file.Close()
	return w.AddBinary(a, newVerifier(interruptible{ctx, file}, g.Blobs[0]))
}

// cached is an image out of the cache.
func (f *Fetcher) cached(ctx context.Context, g Fetched) (v1.Image, error) {
	return ocipartial.CompressedToImage(cachedImage{f, ctx, g})
}

// cachedImage is what go-containerregistry makes an image of. It is used while ctx lasts and not kept.
type cachedImage struct {
	f   *Fetcher
	ctx context.Context
	g   Fetched
}

// RawManifest implements partial.CompressedImageCore.
func (c cachedImage) RawManifest() ([]byte, error) { return c.read(0) }

// RawConfigFile implements partial.CompressedImageCore.
func (c cachedImage) RawConfigFile() ([]byte, error) { return c.read(1) }

func (c cachedImage) read(blob int) ([]byte, error) {
	file, err := c.f.Open(c.g.Blobs[blob].SHA256)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxManifest))
}

// MediaType implements partial.CompressedImageCore.
func (c cachedImage) MediaType() (types.MediaType, error) {
	data, err := c.RawManifest()
	if err != nil {
		return "", err
	}
	manifest, err := parseManifest(data)
	if err != nil {
		return "", err
	}
	return manifest.MediaType, nil
}

// LayerByDigest implements partial.CompressedImageCore.
func (c cachedImage) LayerByDigest(digest v1.Hash) (ocipartial.CompressedLayer, error) {
	at := slices.IndexFunc(c.g.Blobs, func(b bundle.Blob) bool { return b.SHA256 == digest.Hex })
	if at < 0 {
		return nil, fmt.Errorf("%s has no layer %s", c.g, digest)
	}
	return cachedLayer{c, c.g.Blobs[at]}, nil
}

type cachedLayer struct {
	image cachedImage
	blob  bundle.Blob
}

// Digest implements partial.CompressedLayer.
func (l cachedLayer) Digest() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: l.blob.SHA256}, nil
}

// Size implements partial.CompressedLayer.
func (l cachedLayer) Size() (int64, error) { return l.blob.Size, nil }

// MediaType implements partial.CompressedLayer. Nobody asks: the manifest says it.
func (l cachedLayer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }

// Compressed implements partial.CompressedLayer.
func (l cachedLayer) Compressed() (io.ReadCloser, error) {
	file, err := l.image.f.Open(l.blob.SHA256)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{interruptible{l.image.ctx, file}, file}, nil
}
