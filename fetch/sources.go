package fetch

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/myadm/myadm/bundle"
)

// Source is where a host gets a blob by itself: by a GET of URL with Headers.
type Source struct {
	URL string // without credentials; where the server redirects to is for who asks to follow

	// Headers are for URL's own host alone: they have its credentials. nil: none.
	Headers map[string]string
	// Expires is when the server takes Headers no longer, as far as it told; the zero time: never.
	Expires time.Time

	// Blob is what URL has: the blob itself or, with a Member, a gzipped tar file with a member that is the blob. In the tar
	// file "./" may be in front of the member's name.
	Blob   bundle.Blob
	Member string
}

// Sources are where all blobs of the bundle are, by their SHA-256. Registries that want tokens are asked for them; one is
// used again for half of its life, so call this anew for each host, and when a source has expired.
func (l *Located) Sources(ctx context.Context) (map[string]Source, error) {
	files, err := l.f.fileHeaders(ctx)
	if err != nil {
		return nil, err
	}
	passes, err := l.passes(ctx)
	if err != nil {
		return nil, err
	}
	sources := map[string]Source{}
	for _, a := range l.Bundle.Index.Artifacts {
		for _, b := range a.Blobs {
			p := l.parcels[b.SHA256]
			if p.file != nil {
				sources[b.SHA256] = Source{URL: p.file.String(), Headers: maps.Clone(files), Blob: p.whole, Member: p.member(b)}
				continue
			}
			sources[b.SHA256] = p.imageSource(b, passes[p.image.repository.Name()])
		}
	}
	return sources, nil
}

// member is the name of a blob in an archive; empty: the parcel is no archive.
func (p *parcel) member(b bundle.Blob) string {
	for _, item := range p.items {
		if item.Blobs[0] == b {
			return item.Member
		}
	}
	return ""
}

func (p *parcel) imageSource(b bundle.Blob, pass pass) Source {
	headers := map[string]string{}
	at := p.image.blobURL(b)
	if image := p.items[0]; b == image.Blobs[0] {
		at = p.image.url("manifests", image.Digest)
		headers["Accept"] = accepted
	}
	if pass.authorization != "" {
		headers["Authorization"] = pass.authorization
	}
	if len(headers) == 0 {
		headers = nil
	}
	return Source{URL: at.String(), Headers: headers, Expires: pass.expires, Blob: b}
}

// fileHeaders are those that the mirror wants with requests for files. Makers want none.
func (f *Fetcher) fileHeaders(ctx context.Context) (map[string]string, error) {
	if f.mirror == nil {
		return nil, nil
	}
	value, err := f.mirrorLogin(ctx)
	if err != nil || value == "" {
		return nil, err
	}
	return map[string]string{"Authorization": value}, nil
}

// pass is a permission to pull from a repository.
type pass struct {
	authorization string    // the header; empty: everybody may
	renew         time.Time // when to ask for another one
	expires       time.Time // zero: never
}

// passes are those for the repositories of all images, by repository.
func (l *Located) passes(ctx context.Context) (map[string]pass, error) {
	var images []*parcel
	passes := map[string]*pass{}
	for _, p := range l.parcels {
		if p.file == nil && passes[p.image.repository.Name()] == nil {
			passes[p.image.repository.Name()] = &pass{}
			images = append(images, p)
		}
	}
	err := each(ctx, images, func(ctx context.Context, p *parcel) error {
		got, err := l.f.pass(ctx, p.image)
		*passes[p.image.repository.Name()] = got
		return l.f.describe(p.items[0].String(), p.image.url("manifests", p.image.tag), err)
	})
	known := map[string]pass{}
	for repository, p := range passes {
		known[repository] = *p
	}
	return known, err
}

// pass asks a registry for permission, unless there is one that is good for long enough.
func (f *Fetcher) pass(ctx context.Context, s source) (pass, error) {
	f.clients.Lock()
	known, ok := f.granted[s.repository.Name()]
	f.clients.Unlock()
	if ok && (known.expires.IsZero() || f.now().Before(known.renew)) {
		return known, nil
	}
	auth, err := f.authFor(s.repository)
	if err != nil {
		return pass{}, err
	}
	err = f.retry(ctx, func(ctx context.Context) (bool, error) {
		if known, err = f.ask(ctx, s.repository, auth); err != nil {
			return false, &transferError{err}
		}
		return true, nil
	})
	if err != nil {
		return pass{}, err
	}
	f.clients.Lock()
	defer f.clients.Unlock()
	f.granted[s.repository.Name()] = known
	return known, nil
}

// tokenLife is how long a token is good whose server does not say (distribution's token specification, "expires_in").
const tokenLife = time.Minute

// ask does what a registry wants from who pulls: nothing, a password, or a token that another server gives for one.
func (f *Fetcher) ask(ctx context.Context, repository name.Repository, auth authn.Authenticator) (pass, error) {
	login, err := authn.Authorization(ctx, auth)
	if err != nil {
		return pass{}, fmt.Errorf("credentials for %s: %w", repository.RegistryStr(), err)
	}
	if login.RegistryToken != "" {
		return pass{authorization: "Bearer " + login.RegistryToken}, nil
	}
	challenge, err := transport.Ping(ctx, repository.Registry, f.transport)
	if err != nil {
		return pass{}, err
	}
	if !strings.EqualFold(challenge.Scheme, "bearer") {
		return pass{authorization: basic(login)}, nil
	}
	asked := f.now()
	scopes := []string{repository.Scope(transport.PullScope)}
	token, err := transport.Exchange(ctx, repository.Registry, auth, f.transport, scopes, challenge)
	if err != nil {
		return pass{}, err
	}
	life := time.Duration(token.ExpiresIn) * time.Second
	if life <= 0 {
		life = tokenLife
	}
	return pass{
		authorization: "Bearer " + cmp.Or(token.AccessToken, token.Token),
		renew:         asked.Add(life / 2), expires: asked.Add(life),
	}, nil
}
