package push

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/myadm/myadm/bundle"
)

// content is a manifest or an index, with everything below it.
type content interface {
	remote.Taggable
	partial.Describable
}

// contentOf is what a tag is to stand for, and the digests of the manifests in it, an architecture's each. The same
// artifacts give the same bytes.
func contentOf(ctx context.Context, b *bundle.Bundle, im image, c *counter) (content, []v1.Hash, error) {
	var (
		only    v1.Image
		digests []v1.Hash
	)
	index := v1.ImageIndex(empty.Index)
	for _, a := range im.of {
		bundled, err := b.RegistryImage(ctx, a)
		if err != nil {
			return nil, nil, err
		}
		digest, err := bundled.Digest()
		if err != nil {
			return nil, nil, err
		}
		digests = append(digests, digest)
		c.size += a.Size()
		only = counted{bundled, c}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: only, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: a.OS, Architecture: a.Arch}},
		})
	}
	if len(im.of) == 1 {
		return only, digests, nil
	}
	return index, digests, nil
}

// counter sums up what was sent of an image.
type counter struct {
	pusher *pusher
	image  string
	size   int64             // bytes of all blobs
	sent   map[v1.Hash]int64 // by blob, guarded by the pusher's lock for events
}

func (c *counter) set(blob v1.Hash, n int64) {
	c.pusher.events.Lock()
	defer c.pusher.events.Unlock()
	c.sent[blob] = n
	c.pusher.progress(Event{Image: c.image, Done: min(c.sum(), c.size), Total: c.size})
}

func (c *counter) sum() int64 {
	var sum int64
	for _, n := range c.sent {
		sum += n
	}
	return sum
}

func (c *counter) total() int64 {
	c.pusher.events.Lock()
	defer c.pusher.events.Unlock()
	return c.sum()
}

// end tells that the registry has the image.
func (c *counter) end(r Result) {
	c.pusher.events.Lock()
	defer c.pusher.events.Unlock()
	c.pusher.progress(Event{Image: c.image, Done: c.size, Total: c.size, Result: &r})
}

// counted is an image whose layers tell when they are read.
type counted struct {
	v1.Image
	counter *counter
}

// Layers implements v1.Image.
func (i counted) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	for at, l := range layers {
		layers[at] = countedLayer{l, i.counter}
	}
	return layers, err
}

type countedLayer struct {
	v1.Layer
	counter *counter
}

// Compressed implements v1.Layer.
func (l countedLayer) Compressed() (io.ReadCloser, error) {
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	r, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	return &countedReader{ReadCloser: r, told: func(n int64) { l.counter.set(digest, n) }}, nil
}

// countedReader tells how much of it was read: from the start each time that a layer is sent anew.
type countedReader struct {
	io.ReadCloser
	n    int64
	told func(n int64)
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n += int64(n)
	r.told(r.n)
	return n, err
}
