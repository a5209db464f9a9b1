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
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// tagAge is how long it is believed that a tag stands for what it stood for. Kubernetes' tags never move; those of
// load balancers do, with security fixes.
const tagAge = 24 * time.Hour

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
	got, s, err := f.locateImage(ctx, item)
	if err != nil {
		return Fetched{}, err
	}
	if err := f.imageBlobs(ctx, s, got, got.Blobs); err != nil {
		f.cache.forget(s.subject(item.Arch)) // so that the next run asks anew
		return Fetched{}, err
	}
	return got, nil
}

// locateImage is an image whose manifest is in the cache, and where it is. Its other blobs may not be there.
func (f *Fetcher) locateImage(ctx context.Context, item release.Item) (Fetched, source, error) {
	s, err := f.sourceOf(item.Image)
	if err != nil {
		return Fetched{}, source{}, fmt.Errorf("fetch %s: %w", item, err)
	}
	digest, err := f.digest(ctx, s, item)
	if err != nil {
		return Fetched{}, source{}, f.describe(item.String(), s.url("manifests", s.tag), err)
	}
	got, err := f.imageAt(ctx, s, item, digest)
	if err != nil {
		f.cache.forget(s.subject(item.Arch))
	}
	return got, s, err
}

// subject is what the cache's record of a tag is about.
func (s source) subject(arch string) string {
	return "image " + s.url("manifests", s.tag).String() + " for linux/" + arch
}

// digest is that of the manifest which an item's tag stands for on its platform.
func (f *Fetcher) digest(ctx context.Context, s source, item release.Item) (string, error) {
	subject := s.subject(item.Arch)
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

// imageAt is the image with a digest, as its manifest tells.
func (f *Fetcher) imageAt(ctx context.Context, s source, item release.Item, digest string) (Fetched, error) {
	blobs, err := f.manifestAt(ctx, s, item, digest)
	if err != nil {
		return Fetched{}, f.describe(item.String(), s.url("manifests", digest), err)
	}
	if err := f.checkPlatform(ctx, s, item, blobs[1]); err != nil {
		return Fetched{}, f.describe(item.String(), s.blobURL(blobs[1]), err)
	}
	return Fetched{Item: item, Digest: digest, Blobs: blobs}, nil
}

// imageBlobs makes the cache have some of an image's blobs.
func (f *Fetcher) imageBlobs(ctx context.Context, s source, image Fetched, wanted []bundle.Blob) error {
	total, done := int64(0), int64(0)
	for _, b := range wanted {
		total += b.Size
	}
	for _, b := range wanted {
		if b == image.Blobs[0] {
			if _, err := f.manifestAt(ctx, s, image.Item, image.Digest); err != nil {
				return f.describe(image.String(), s.url("manifests", image.Digest), err)
			}
		} else if err := f.imageBlob(ctx, s, image.Item, b, func(n, _ int64) { f.tell(Event{image.String(), done + n, total}) }); err != nil {
			return f.describe(image.String(), s.blobURL(b), err)
		}
		done += b.Size
	}
	return nil
}

// imageBlob makes the cache have a blob that a manifest names.
func (f *Fetcher) imageBlob(ctx context.Context, s source, item release.Item, b bundle.Blob, advance func(n, total int64)) error {
	client, err := f.client(ctx, s)
	if err != nil {
		return err
	}
	got, err := f.blob(ctx, download{
		request: request{item: item.String(), client: client, url: s.blobURL(b)},
		sum:     b.SHA256, size: b.Size, limit: b.Size, advance: advance,
	})
	if err == nil && got.Size != b.Size {
		err = fmt.Errorf("the manifest gives it %d bytes, and it has %d", b.Size, got.Size)
	}
	return err
}

func (s source) blobURL(b bundle.Blob) *url.URL { return s.url("blobs", "sha256:"+b.SHA256) }

// manifestAt makes the cache have the manifest with a digest, and returns the blobs of its image.
func (f *Fetcher) manifestAt(ctx context.Context, s source, item release.Item, digest string) ([]bundle.Blob, error) {
	want, err := sumOf(digest)
	if err != nil {
		return nil, err
	}
	data, cached := f.cachedManifest(want)
	if !cached {
		if data, _, err = f.manifest(ctx, s, item, digest); err != nil {
			return nil, err
		}
		if got := sum(data); got != want {
			return nil, &mismatchError{got, want}
		}
		if _, err = f.cache.put(bytes.NewReader(data)); err != nil {
			return nil, err
		}
	}
	return bundle.ImageBlobs(data)
}

// cachedManifest reads a manifest of the cache. It is short, so it is verified again.
func (f *Fetcher) cachedManifest(want string) ([]byte, bool) {
	if blob, ok := f.cache.find(want); !ok || blob.Size > maxManifest {
		return nil, false
	}
	data, err := os.ReadFile(f.cache.blob(want))
	return data, err == nil && sum(data) == want
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

// platform is what an image is for.
type platform struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
}

// checkPlatform reads of an image's configuration what it is for: an image without an index says so nowhere else. What was
// read once is remembered, so that the configuration is not needed again.
func (f *Fetcher) checkPlatform(ctx context.Context, s source, item release.Item, config bundle.Blob) error {
	subject := "platform of " + config.SHA256
	var is platform
	if !f.cache.recall(subject, &is) {
		if err := f.imageBlob(ctx, s, item, config, func(int64, int64) {}); err != nil {
			return err
		}
		file, err := f.cache.Open(config.SHA256)
		if err != nil {
			return err
		}
		defer file.Close()
		parsed, err := v1.ParseConfigFile(file)
		if err != nil {
			return fmt.Errorf("the image's configuration is malformed: %w", err)
		}
		is = platform{parsed.OS, parsed.Architecture}
		if err := f.cache.remember(subject, is); err != nil {
			return err
		}
	}
	if want := (platform{"linux", item.Arch}); is != want {
		return fmt.Errorf("the image is for %s/%s, not for %s/%s", is.OS, is.Arch, want.OS, want.Arch)
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
