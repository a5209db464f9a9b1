package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

const (
	// tagAge is how long it is believed that a tag stands for what it stood for. Kubernetes' tags never move; those of
	// load balancers do, with security fixes.
	tagAge = 24 * time.Hour
	// maxLayer and maxLayers bound what a manifest may claim.
	maxLayer  = 4 << 30
	maxLayers = 128
)

// accepted are the forms of manifests, of one image and of one per platform, as OCI and docker write them.
var accepted = strings.Join([]string{
	string(types.OCIImageIndex), string(types.DockerManifestList), string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
}, ", ")

// source is where an image is asked for.
type source struct {
	repository name.Repository
	tag        string
	scheme     string
}

// sourceOf splits REGISTRY/REPOSITORY:TAG. The registry is named explicitly: a library that guesses takes a mirror
// without a dot in its name for a folder of Docker's.
func (f *Fetcher) sourceOf(ref string) (source, error) {
	host, rest, _ := strings.Cut(ref, "/")
	at := strings.LastIndexByte(rest, ':')
	if host == "" || at <= 0 || at == len(rest)-1 {
		return source{}, fmt.Errorf("%q is not REGISTRY/REPOSITORY:TAG", ref)
	}
	repository, scheme := rest[:at], "https"
	var options []name.Option
	if f.mirror != nil {
		repository = path.Join(strings.Trim(f.mirror.Path, "/"), host, repository)
		host, scheme = f.mirror.Host, f.mirror.Scheme
	}
	if scheme == "http" {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(host, options...)
	if err != nil {
		return source{}, err
	}
	return source{registry.Repo(repository), rest[at+1:], scheme}, nil
}

// url is the address of a manifest (by tag or digest) or a blob.
func (s source) url(kind, identifier string) *url.URL {
	return &url.URL{Scheme: s.scheme, Host: s.repository.RegistryStr(), Path: "/v2/" + s.repository.RepositoryStr() + "/" + kind + "/" + identifier}
}

// image gets an image's blobs.
func (f *Fetcher) image(ctx context.Context, item release.Item) (Fetched, error) {
	s, err := f.sourceOf(item.Image)
	if err != nil {
		return Fetched{}, fmt.Errorf("fetch %s: %w", item, err)
	}
	at := s.url("manifests", s.tag)
	subject := "image " + at.String() + " for linux/" + item.Arch
	digest, err := f.digest(ctx, s, item, subject)
	if err != nil {
		return Fetched{}, f.describe(item.String(), at, err)
	}
	got, err := f.imageAt(ctx, s, item, digest)
	if err != nil {
		f.cache.forget(subject) // so that the next run asks anew
	}
	return got, err
}

// digest is that of the manifest which an item's tag stands for on its platform.
func (f *Fetcher) digest(ctx context.Context, s source, item release.Item, subject string) (string, error) {
	var known struct {
		Digest string    `json:"digest"`
		Tagged string    `json:"tagged"` // digest of what the tag itself stands for: the same, or that of an index
		Asked  time.Time `json:"asked"`
	}
	if f.cache.recall(subject, &known) && f.now().Sub(known.Asked) < tagAge {
		if _, err := sumOf(known.Digest); err == nil && (known.Tagged != "" || f.signatures.Roots == nil) {
			return known.Digest, f.verifyImage(ctx, s, item, subject, known.Tagged, known.Digest)
		}
	}
	data, header, err := f.manifest(ctx, s, item, s.tag)
	if err != nil {
		return "", err
	}
	tagged := "sha256:" + sum(data)
	digest := tagged
	if isIndex(data, header) {
		if digest, err = choose(data, item.Arch); err != nil {
			return "", err
		}
	}
	if err := f.verifyImage(ctx, s, item, subject, tagged, digest); err != nil {
		return "", err
	}
	if digest == tagged {
		if _, err := f.cache.put(bytes.NewReader(data)); err != nil {
			return "", err
		}
	}
	known.Digest, known.Tagged, known.Asked = digest, tagged, f.now()
	return digest, f.cache.remember(subject, known)
}

// imageAt gets the image with a digest.
func (f *Fetcher) imageAt(ctx context.Context, s source, item release.Item, digest string) (Fetched, error) {
	at := s.url("manifests", digest)
	manifest, blob, err := f.manifestAt(ctx, s, item, digest)
	if err != nil {
		return Fetched{}, f.describe(item.String(), at, err)
	}
	got := Fetched{Item: item, Digest: digest, Blobs: []bundle.Blob{blob}}
	descriptors := append([]v1.Descriptor{manifest.Config}, manifest.Layers...)
	total, done := int64(0), int64(0)
	for _, d := range descriptors {
		total += d.Size
	}
	for i, d := range descriptors {
		where := s.url("blobs", d.Digest.String())
		client, err := f.client(ctx, s)
		if err != nil {
			return Fetched{}, f.describe(item.String(), where, err)
		}
		blob, err := f.blob(ctx, download{
			request: request{item: item.String(), client: client, url: where},
			sum:     d.Digest.Hex, size: d.Size, limit: d.Size,
			advance: func(n, _ int64) { f.tell(Event{item.String(), done + n, total}) },
		})
		if err == nil && i == 0 {
			err = f.checkPlatform(blob, item.Arch)
		}
		if err == nil && blob.Size != d.Size {
			err = fmt.Errorf("the manifest gives %s %d bytes, and it has %d", d.Digest, d.Size, blob.Size)
		}
		if err != nil {
			return Fetched{}, f.describe(item.String(), where, err)
		}
		done += d.Size
		if !slices.Contains(got.Blobs, blob) { // an empty layer may be there twice
			got.Blobs = append(got.Blobs, blob)
		}
	}
	return got, nil
}

// manifestAt is the manifest with a digest, from the cache or the registry.
func (f *Fetcher) manifestAt(ctx context.Context, s source, item release.Item, digest string) (*v1.Manifest, bundle.Blob, error) {
	want, err := sumOf(digest)
	if err != nil {
		return nil, bundle.Blob{}, err
	}
	data, blob, cached := f.cachedManifest(want)
	if !cached {
		if data, _, err = f.manifest(ctx, s, item, digest); err != nil {
			return nil, bundle.Blob{}, err
		}
		if got := sum(data); got != want {
			return nil, bundle.Blob{}, &mismatchError{got, want}
		}
		if blob, err = f.cache.put(bytes.NewReader(data)); err != nil {
			return nil, bundle.Blob{}, err
		}
	}
	manifest, err := parseManifest(data)
	return manifest, blob, err
}

// cachedManifest reads a manifest of the cache. It is short, so it is verified again.
func (f *Fetcher) cachedManifest(want string) ([]byte, bundle.Blob, bool) {
	blob, ok := f.cache.find(want)
	if !ok || blob.Size > maxManifest {
		return nil, bundle.Blob{}, false
	}
	data, err := os.ReadFile(f.cache.blob(want))
	return data, blob, err == nil && sum(data) == want
}

// manifest asks a registry for a manifest, by tag or digest.
func (f *Fetcher) manifest(ctx context.Context, s source, item release.Item, identifier string) ([]byte, http.Header, error) {
	client, err := f.client(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	r := request{item: item.String(), client: client, url: s.url("manifests", identifier), header: http.Header{"Accept": {accepted}}}
	return f.small(ctx, r, maxManifest)
}

// client is one that has logged in to a repository.
func (f *Fetcher) client(ctx context.Context, s source) (*http.Client, error) {
	f.clients.Lock()
	client := f.registry[s.repository.Name()]
	f.clients.Unlock()
	if client != nil {
		return client, nil
	}
	auth, err := f.authFor(s.repository)
	if err != nil {
		return nil, err
	}
	err = f.retry(ctx, func(ctx context.Context) (bool, error) {
		scopes := []string{s.repository.Scope(transport.PullScope)}
		logged, err := transport.NewWithContext(ctx, s.repository.Registry, auth, f.transport, scopes)
		if err != nil {
			return false, &transferError{err}
		}
		client = &http.Client{Transport: logged, CheckRedirect: checkRedirect}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	f.clients.Lock()
	defer f.clients.Unlock()
	f.registry[s.repository.Name()] = client
	return client, nil
}

// isIndex tells an index from a manifest: by what it says of itself, or else by what the server says of it.
func isIndex(data []byte, header http.Header) bool {
	var itself struct {
		MediaType types.MediaType `json:"mediaType"`
	}
	if err := json.Unmarshal(data, &itself); err == nil && itself.MediaType != "" {
		return itself.MediaType.IsIndex()
	}
	return types.MediaType(header.Get("Content-Type")).IsIndex()
}

// choose picks a platform's manifest out of an index.
func choose(data []byte, arch string) (string, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("the index is malformed: %w", err)
	}
	var there []string
	for _, m := range index.Manifests {
		if m.Platform == nil || !m.MediaType.IsImage() {
			continue
		}
		if m.Platform.OS == "linux" && m.Platform.Architecture == arch {
			_, err := sumOf(m.Digest.String())
			return m.Digest.String(), err
		}
		there = append(there, m.Platform.String())
	}
	return "", fmt.Errorf("there is no image for linux/%s, only for %s", arch, strings.Join(there, ", "))
}

// parseManifest reads a manifest and checks what it claims.
func parseManifest(data []byte) (*v1.Manifest, error) {
	manifest, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("the manifest is malformed: %w", err)
	}
	if len(manifest.Layers) > maxLayers {
		return nil, fmt.Errorf("the manifest has %d layers, more than %d", len(manifest.Layers), maxLayers)
	}
	for i, d := range append([]v1.Descriptor{manifest.Config}, manifest.Layers...) {
		if _, err := sumOf(d.Digest.String()); err != nil {
			return nil, fmt.Errorf("the manifest: %w", err)
		}
		if most := int64(maxLayer); d.Size < 0 || d.Size > most || i == 0 && d.Size > maxManifest {
			return nil, fmt.Errorf("the manifest gives %s %d bytes, which it cannot have", d.Digest, d.Size)
		}
	}
	return manifest, nil
}

// checkPlatform reads of an image's configuration what it is for: an image without an index says so nowhere else.
func (f *Fetcher) checkPlatform(config bundle.Blob, arch string) error {
	file, err := f.cache.Open(config.SHA256)
	if err != nil {
		return err
	}
	defer file.Close()
	parsed, err := v1.ParseConfigFile(file)
	if err != nil {
		return fmt.Errorf("the image's configuration is malformed: %w", err)
	}
	if parsed.OS != "linux" || parsed.Architecture != arch {
		return fmt.Errorf("the image is for %s/%s, not for linux/%s", parsed.OS, parsed.Architecture, arch)
	}
	return nil
}

// sumOf is HEX of sha256:HEX.
func sumOf(digest string) (string, error) {
	hexadecimal, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || !sumPattern.MatchString(hexadecimal) {
		return "", fmt.Errorf("digest %q is not sha256:HEX", digest)
	}
	return hexadecimal, nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
