package fetch

import (
	"context"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// Bundle gets what hosts of the architectures need for a Kubernetes version, for the given roles or, without any, for all
// of them, and adds it to a bundle: an architecture after the other, each in the order of the table. The caller closes
// the bundle.
func (f *Fetcher) Bundle(ctx context.Context, version string, archs []string, roles []bundle.Role, w *bundle.Writer) error {
	b, err := f.Provide(ctx, version, archs, roles)
	if err != nil {
		return err
	}
	defer b.Close()
	return copyAll(ctx, w, b)
}

// copyAll adds a bundle to another, which verifies every blob.
func copyAll(ctx context.Context, w *bundle.Writer, b *bundle.Bundle) error {
	for _, a := range b.Index.Artifacts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.Copy(ctx, b, a); err != nil {
			return err
		}
	}
	return nil
}

// Provide gets the same and opens it where the cache has it, as a bundle that is good for as long as the Fetcher is not
// closed.
func (f *Fetcher) Provide(ctx context.Context, version string, archs []string, roles []bundle.Role) (*bundle.Bundle, error) {
	items, err := itemsOf(version, archs, roles)
	if err != nil {
		return nil, err
	}
	got, err := f.Get(ctx, items)
	if err != nil {
		return nil, err
	}
	return bundle.OpenFolder(f.cache.dir, indexOf(version, got))
}

// itemsOf is what a bundle is to have, in its order.
func itemsOf(version string, archs []string, roles []bundle.Role) ([]release.Item, error) {
	var items []release.Item
	for _, arch := range archs {
		all, err := release.Items(version, arch)
		if err != nil {
			return nil, err
		}
		items = append(items, release.Select(all, roles...)...)
	}
	return items, nil
}

func indexOf(version string, got []Fetched) bundle.Index {
	index := bundle.Index{APIVersion: bundle.APIVersion, KubernetesVersion: version}
	for _, g := range got {
		a := g.Artifact()
		a.Blobs, a.Digest = g.Blobs, g.Digest
		index.Artifacts = append(index.Artifacts, a)
	}
	return index
}
