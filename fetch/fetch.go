// Package fetch gets what package release names, from its makers or from a mirror of them, into a cache on this machine.
//
// Nothing is trusted but checksums, and signatures of them where Options say whose: a file has the SHA-256 that is published beside it, an image is resolved once, from
// its tag to the digest of its manifest for one platform, and everything below is known by digest. A blob has its name in
// the cache only after it was verified, so what is there is whole. What was interrupted, by a signal, a server or a power
// cut, goes on where it ended, in this run or in the next one.
//
// A mirror M (a URL) has the file https://HOST/PATH at M/HOST/PATH, and the image REGISTRY/REPOSITORY:TAG in M's registry
// as PATH/REGISTRY/REPOSITORY:TAG, where PATH is that of M. With a mirror, nobody else is asked. Plain http is spoken to a
// mirror whose URL says so and to nobody else.
//
// Hosts may get blobs by themselves: Locate finds out which ones they need and where those are, and fetches none of them.
// Such a host is given, by Sources, URLs and what their servers want to see, and verifies by the same checksums.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// DefaultCacheLimit is room for half a dozen versions of Kubernetes for one architecture.
const DefaultCacheLimit = 8 << 30 // bytes

// Options say where things come from and where they go. The zero value is usable.
type Options struct {
	Mirror     string         // URL of a mirror; empty: the makers' own servers
	CAFile     string         // PEM file of authorities to trust besides the system's
	Proxy      Proxy          // the zero value: what the environment says
	CacheDir   string         // empty: DefaultCacheDir
	CacheLimit int64          // bytes that the cache may have when the Fetcher is closed; 0: DefaultCacheLimit
	Keychain   authn.Keychain // credentials for registries and the mirror; nil: those of docker and podman
	Signatures Signatures     // the zero value: none are looked at
	Progress   func(Event)    // nil: nobody asks; calls do not overlap
}

// Proxy is who passes requests on, in the form of the variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
type Proxy struct{ HTTPProxy, HTTPSProxy, NoProxy string }

// Event is how far an item has come, or the archive that several are in. What the cache has is not told.
type Event struct {
	Item        string // as the item's String
	Done, Total int64  // bytes; Total is -1 while it is not known
}

// Fetched is an item with its blobs, which the cache has for as long as the Fetcher is not closed.
type Fetched struct {
	release.Item
	Digest string        // of an image: its manifest's, sha256:HEX
	Blobs  []bundle.Blob // as an artifact of a bundle has them
}

// Fetcher gets items. Its methods may be used by many goroutines at once.
type Fetcher struct {
	cache     *Cache
	limit     int64
	mirror    *url.URL // without credentials; nil: none
	login     authn.Authenticator
	keychain  authn.Keychain
	ca        []byte // PEM of Options.CAFile
	transport http.RoundTripper
	files     *http.Client

	signatures Signatures
	verified   verified

	now   func() time.Time
	sleep func(context.Context, time.Duration) error
	stall time.Duration // a transfer that brings no byte for so long is broken off

	events   sync.Mutex // serialises progress
	progress func(Event)
	clients  sync.Mutex // guards registry and granted
	registry map[string]*http.Client
	granted  map[string]pass // by repository
}

// parallel is how many items are fetched at once: enough to fill a link with several servers at its other end.
const parallel = 4

// New opens the cache and reads what o names. Close the Fetcher when its blobs are not needed any more.
func New(ctx context.Context, o Options) (*Fetcher, error) {
	f := &Fetcher{
		limit: o.CacheLimit, keychain: o.Keychain, progress: o.Progress, now: time.Now, sleep: sleep, stall: time.Minute,
		registry: map[string]*http.Client{}, granted: map[string]pass{}, signatures: o.Signatures,
	}
	if f.limit == 0 {
		f.limit = DefaultCacheLimit
	}
	if f.keychain == nil {
		f.keychain = authn.DefaultKeychain
	}
	if f.progress == nil {
		f.progress = func(Event) {}
	}
	if err := f.setMirror(o.Mirror); err != nil {
		return nil, err
	}
	if err := f.setTransport(o); err != nil {
		return nil, err
	}
	var err error
	if f.cache, err = OpenCache(o.CacheDir); err != nil {
		return nil, err
	}
	if err := f.cache.hold(ctx); err != nil {
		return nil, errors.Join(err, f.cache.Close())
	}
	return f, nil
}

// Close lets go of the cache and brings it below its limit, unless another myadm uses it: then that one does.
func (f *Fetcher) Close() error {
	if t, ok := f.transport.(guard); ok {
		t.inner.CloseIdleConnections()
	}
	_, err := f.cache.Prune(f.limit)
	if errors.Is(err, errBusy) {
		err = nil
	}
	return errors.Join(err, f.cache.Close())
}

// DefaultCacheDir is the folder myadm in the user's folder for caches.
func DefaultCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the cache: %w; hint: set XDG_CACHE_HOME or HOME", err)
	}
	return filepath.Join(dir, "myadm"), nil
}

// Open opens a blob of the cache, and its size.
func (f *Fetcher) Open(sha256 string) (*os.File, error) { return f.cache.Open(sha256) }

// Get makes the cache have all blobs of the items, several at a time, and returns the items in their order. It ends with
// the first error, and keeps what was got.
func (f *Fetcher) Get(ctx context.Context, items []release.Item) ([]Fetched, error) {
	got := make([]Fetched, len(items))
	err := each(ctx, jobs(items), func(ctx context.Context, job []int) error {
		fetched, err := f.get(ctx, pick(items, job))
		for i, at := range job {
			if err == nil {
				got[at] = fetched[i]
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// each does several things at a time, and ends with the first error.
func each[T any](ctx context.Context, things []T, do func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, thing := range things {
		group.Go(func() error {
			if err := ctx.Err(); err != nil { // another one failed before this one began
				return err
			}
			return do(ctx, thing)
		})
	}
	return group.Wait()
}

// jobs groups items, by index, that come out of one file.
func jobs(items []release.Item) [][]int {
	var all [][]int
	byFile := map[string]int{} // index of the job, by URL
	for i, item := range items {
		at, known := byFile[item.File.URL]
		switch {
		case item.Kind != bundle.KindBinary:
			all = append(all, []int{i})
		case known:
			all[at] = append(all[at], i)
		default:
			byFile[item.File.URL] = len(all)
			all = append(all, []int{i})
		}
	}
	return all
}

// pick are the items of a job.
func pick(items []release.Item, job []int) []release.Item {
	var of []release.Item
	for _, at := range job {
		of = append(of, items[at])
	}
	return of
}

func (f *Fetcher) get(ctx context.Context, items []release.Item) ([]Fetched, error) {
	if items[0].Kind == bundle.KindImage {
		got, err := f.image(ctx, items[0])
		return []Fetched{got}, err
	}
	return f.file(ctx, items)
}
