// Package push puts the images of a bundle into a registry, side by side in one folder, as spec.imageRepository of a
// Cluster document expects them: a cluster whose imageRepository names the folder pulls from there.
//
// An image that the bundle has for several architectures becomes an index of them, any other its manifest alone. The bytes
// are the bundle's, so every manifest keeps its digest. What the registry has already, blobs and tags, is not sent again:
// a push that was interrupted goes on where it ended, and one that is repeated sends nothing.
package push

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/fetch"
)

// Options say how the registry is reached. The zero value is usable.
type Options struct {
	CAFile   string         // PEM file of authorities to trust besides the system's
	Proxy    fetch.Proxy    // the zero value: what the environment says
	Keychain authn.Keychain // credentials; nil: those of docker and podman
	Progress func(Event)    // nil: nobody asks; calls do not overlap
}

// Event is how far an image has come.
type Event struct {
	Image       string // as Result's
	Done, Total int64  // bytes, of all architectures; what the registry has is told only when all is done
	Result      *Result
}

// Result is an image that the registry has.
type Result struct {
	Image  string   `json:"image"`  // REGISTRY/PREFIX/NAME:TAG
	Digest string   `json:"digest"` // of what the tag stands for
	Archs  []string `json:"archs"`  // as Go names them
	Pushed bool     `json:"pushed"` // false: it was there
	Bytes  int64    `json:"bytes"`  // that were sent for it
}

// parallel is how many images are pushed at once: enough to fill a link with the small ones' round trips.
const parallel = 4

// To pushes the images of a bundle, several at a time. It returns those that the registry has, in the order of their names,
// also beside an error, which is the first.
func To(ctx context.Context, b *bundle.Bundle, target Target, o Options) ([]Result, error) {
	p, err := newPusher(target, o)
	if err != nil {
		return nil, err
	}
	defer p.close()
	images := imagesOf(b, target)
	results := make([]*Result, len(images))
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, im := range images {
		group.Go(func() error {
			if err := working.Err(); err != nil { // another one failed before this one began
				return err
			}
			r, err := p.push(working, b, im)
			if err != nil {
				return p.describe(im.ref, err)
			}
			results[i] = &r
			return nil
		})
	}
	err = group.Wait()
	var there []Result
	for _, r := range results {
		if r != nil {
			there = append(there, *r)
		}
	}
	return there, err
}

// Images names what To pushes, in its order.
func Images(b *bundle.Bundle, target Target) []string {
	var names []string
	for _, im := range imagesOf(b, target) {
		names = append(names, im.ref)
	}
	return names
}

// image is what a tag is to stand for: an artifact for each architecture.
type image struct {
	ref string
	of  []bundle.Artifact
}

// imagesOf are the bundle's images by name. Those for tests alone are not for clusters.
func imagesOf(b *bundle.Bundle, target Target) []image {
	var images []image
	for _, a := range b.Index.Artifacts {
		if a.Kind != bundle.KindImage || !slices.ContainsFunc(a.Roles, func(r bundle.Role) bool { return r != bundle.RoleTest }) {
			continue
		}
		ref := config.InRepository(target.Repository(), a.Image)
		at := slices.IndexFunc(images, func(i image) bool { return i.ref == ref })
		if at < 0 {
			at = len(images)
			images = append(images, image{ref: ref})
		}
		images[at].of = append(images[at].of, a)
	}
	for _, im := range images {
		slices.SortFunc(im.of, func(a, b bundle.Artifact) int { return strings.Compare(a.Arch, b.Arch) })
	}
	slices.SortFunc(images, func(a, b image) int { return strings.Compare(a.ref, b.ref) })
	return images
}

// pusher talks to one registry.
type pusher struct {
	target    Target
	transport http.RoundTripper
	writes    *remote.Pusher
	reads     *remote.Puller

	events   sync.Mutex // serialises progress
	progress func(Event)
}

func newPusher(target Target, o Options) (*pusher, error) {
	inner, err := fetch.NewUploadTransport(o.Proxy, o.CAFile, target.plain)
	if err != nil {
		return nil, err
	}
	p := &pusher{target: target, transport: inner, progress: o.Progress}
	if p.progress == nil {
		p.progress = func(Event) {}
	}
	keychain := o.Keychain
	if keychain == nil {
		keychain = authn.DefaultKeychain
	}
	options := []remote.Option{
		remote.WithTransport(registryTransport{inner, target.registry.RegistryStr(), target.plain}), remote.WithAuthFromKeychain(keychain),
	}
	if p.writes, err = remote.NewPusher(options...); err != nil {
		return nil, err
	}
	p.reads, err = remote.NewPuller(options...)
	return p, err
}

func (p *pusher) close() {
	if t, ok := p.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// push has the registry have an image.
func (p *pusher) push(ctx context.Context, b *bundle.Bundle, im image) (Result, error) {
	c := &counter{pusher: p, image: im.ref, sent: map[v1.Hash]int64{}}
	content, digests, err := contentOf(ctx, b, im, c)
	if err != nil {
		return Result{}, err
	}
	repository, tag, _ := strings.Cut(strings.TrimPrefix(im.ref, p.target.Repository()+"/"), ":")
	ref := p.target.registry.Repo(p.target.prefix, repository).Tag(tag)
	digest, err := content.Digest()
	if err != nil {
		return Result{}, err
	}
	r := Result{Image: im.ref, Digest: digest.String()}
	for _, a := range im.of {
		r.Archs = append(r.Archs, a.Arch)
	}
	there, err := p.there(ctx, ref, digest, digests)
	if err != nil {
		return Result{}, err
	}
	if there.Hex != "" {
		r.Digest = there.String()
	} else {
		if err := p.writes.Push(ctx, ref, content); err != nil {
			return Result{}, err
		}
		r.Pushed, r.Bytes = true, c.total()
	}
	c.end(r)
	return r, nil
}

// there is the digest of what a tag stands for if that is the image, or an index that has it for the bundle's
// architectures, maybe beside others; else the zero digest.
func (p *pusher) there(ctx context.Context, ref name.Tag, want v1.Hash, digests []v1.Hash) (v1.Hash, error) {
	have, err := p.reads.Head(ctx, ref)
	var answer *transport.Error
	switch {
	case errors.As(err, &answer) && slices.Contains(unknown, answer.StatusCode):
		return v1.Hash{}, nil
	case err != nil:
		return v1.Hash{}, err
	case have.Digest == want:
		return want, nil
	case !have.MediaType.IsIndex():
		return v1.Hash{}, nil
	}
	got, err := p.reads.Get(ctx, ref.Context().Digest(have.Digest.String()))
	if err != nil {
		return v1.Hash{}, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(got.Manifest))
	if err != nil {
		return v1.Hash{}, nil // whatever it is, it is replaced
	}
	for _, digest := range digests {
		if !slices.ContainsFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Digest == digest }) {
			return v1.Hash{}, nil
		}
	}
	return have.Digest, nil
}

// unknown are the answers about what is not there. Some registries do not tell somebody who may not know.
var unknown = []int{http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden}
