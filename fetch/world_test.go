package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

const version = "v1.37.2"

// world is all makers at once: files by HOST/PATH, and a registry whose repositories are named with their registry in
// front, as a mirror has them, or without, as the makers do.
type world struct {
	mu       sync.Mutex
	files    map[string][]byte
	sent     map[string]int64        // bytes of bodies, by HOST/PATH, or by the path of a registry
	asked    []string                // METHOD KEY of every request
	faults   map[string]http.Handler // instead of what there is, by HOST/PATH or by the path of a registry
	registry http.Handler
	budget   atomic.Int64 // bytes after which every connection breaks off
	mirror   bool         // paths begin with the maker's host
}

// newWorld is a mirror with everything of a version for both architectures.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		mirror: true, files: map[string][]byte{}, sent: map[string]int64{}, faults: map[string]http.Handler{},
		registry: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
	}
	w.budget.Store(1 << 40)
	for _, arch := range release.Architectures() {
		items, err := release.Items(version, arch)
		if err != nil {
			t.Fatal(err)
		}
		members := map[string]map[string][]byte{} // by URL of the archive
		for _, item := range items {
			at := strings.TrimPrefix(item.File.URL, "https://")
			switch {
			case item.Kind == bundle.KindImage:
			case item.Member == "":
				w.publish(item, content(item.String()))
			case members[at] == nil:
				members[at] = map[string][]byte{}
				fallthrough
			default:
				members[at][item.Member] = content(item.String())
				w.publish(item, archive(t, members[at]))
			}
		}
	}
	w.files["dl.k8s.io/release/stable.txt"] = []byte(version + "\n")
	w.files["dl.k8s.io/release/stable-1.37.txt"] = []byte(version)
	w.files["dl.k8s.io/release/stable-1.36.txt"] = []byte("v1.36.3")
	return w
}

// pushImages fills the registry with images of both architectures, each reference an index.
func (w *world) pushImages(t testing.TB, items []release.Item) {
	t.Helper()
	server := httptest.NewServer(w.registry)
	defer server.Close()
	for _, item := range items {
		if item.Kind != bundle.KindImage {
			continue
		}
		index := v1.ImageIndex(empty.Index)
		for _, arch := range []string{"s390x", "amd64", "arm64"} {
			index = mutate.AppendManifests(index, mutate.IndexAddendum{
				Add:        image(t, arch),
				Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
			})
		}
		host, rest, _ := strings.Cut(item.Image, "/")
		repositories := []string{rest, host + "/" + rest, "some/where/" + host + "/" + rest}
		for _, repository := range repositories {
			ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://")+"/"+repository, name.Insecure)
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.WriteIndex(ref, index); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// image is one with two layers for an architecture.
func image(t testing.TB, arch string) v1.Image {
	t.Helper()
	im, err := random.Image(40<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := im.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	if im, err = mutate.ConfigFile(im, config); err != nil {
		t.Fatal(err)
	}
	return im
}

// publish puts an item's file and its checksum where its maker has them.
func (w *world) publish(item release.Item, data []byte) {
	at := strings.TrimPrefix(item.File.URL, "https://")
	w.files[at] = data
	sums := strings.TrimPrefix(item.File.Checksum.URL, "https://")
	if item.File.Checksum.Form == release.FormBare {
		w.files[sums] = []byte(sum(data))
		return
	}
	kept := "" // the lines of other files
	for line := range strings.Lines(string(w.files[sums])) {
		if !strings.HasSuffix(strings.TrimSpace(line), "  "+item.File.Checksum.Name) {
			kept += line
		}
	}
	w.files[sums] = fmt.Appendf(nil, "%s%s  %s\n", kept, sum(data), item.File.Checksum.Name)
}

// content is as good as random, and always the same for a name. Its first bytes are the name.
func content(name string) []byte {
	var seed [32]byte
	copy(seed[:], name)
	data := make([]byte, 100<<10)
	_, _ = rand.NewChaCha8(seed).Read(data)
	copy(data, name)
	return data
}

func archive(t testing.TB, members map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	tarred := tar.NewWriter(zipped)
	entries := map[string][]byte{"./README.md": []byte("read me"), "./unused": []byte("x")}
	for name, data := range members {
		entries["./"+name] = data
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(entries[name])), Mode: 0o755}
		if err := tarred.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tarred.Write(entries[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tarred.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// ServeHTTP implements http.Handler.
func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	key := r.Host + path.Clean(r.URL.Path)
	isRegistry := strings.HasPrefix(r.URL.Path, "/v2/")
	switch {
	case isRegistry:
		key = r.URL.Path
	case w.mirror:
		key = strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	}
	counted := &counter{ResponseWriter: out, w: w, key: key}
	w.mu.Lock()
	w.asked = append(w.asked, r.Method+" "+key)
	fault, data, ok := w.faults[key], w.files[key], false
	if data != nil {
		ok = true
	}
	w.mu.Unlock()
	switch {
	case fault != nil:
		fault.ServeHTTP(counted, r)
	case isRegistry:
		w.registry.ServeHTTP(counted, r)
	case ok:
		counted.Header().Set("ETag", `"`+sum(data)+`"`)
		http.ServeContent(counted, r, "", time.Time{}, bytes.NewReader(data))
	default:
		http.NotFound(counted, r)
	}
}

// counter counts what is sent, before it is: who has received everything finds everything counted.
type counter struct {
	http.ResponseWriter
	w   *world
	key string
}

func (c *counter) Write(data []byte) (int, error) {
	if c.w.budget.Add(-int64(len(data))) < 0 {
		panic(http.ErrAbortHandler)
	}
	c.w.mu.Lock()
	c.w.sent[c.key] += int64(len(data))
	c.w.mu.Unlock()
	return c.ResponseWriter.Write(data)
}

// fault lets a handler answer for a key; nil ends that.
func (w *world) fault(key string, h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h == nil {
		delete(w.faults, key)
		return
	}
	w.faults[key] = h
}

// taken is what was sent since the last call, by key.
func (w *world) taken() map[string]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = map[string]int64{}
	return sent
}

// requests are those since the last call, as METHOD KEY.
func (w *world) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	return asked
}

// blobs are the bytes of blobs and files in taken, without checksums, manifests and the like.
func blobBytes(taken map[string]int64) int64 {
	var total int64
	for key, n := range taken {
		if strings.Contains(key, "/blobs/") || strings.HasSuffix(key, "/kubelet") || strings.HasSuffix(key, "gz") {
			total += n
		}
	}
	return total
}

// items are those with the names, for amd64; all of them without names.
func items(t testing.TB, names ...string) []release.Item {
	t.Helper()
	all, err := release.Items(version, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		return all
	}
	var some []release.Item
	for _, n := range names {
		for _, item := range all {
			if item.Name == n {
				some = append(some, item)
			}
		}
	}
	if len(some) != len(names) {
		t.Fatalf("items %v: %v", names, some)
	}
	return some
}

// open makes a Fetcher that does not wait between attempts. Without a folder it gets one of its own.
func open(t testing.TB, o Options) *Fetcher {
	t.Helper()
	if o.CacheDir == "" {
		o.CacheDir = t.TempDir()
	}
	if o.Keychain == nil {
		o.Keychain = keychainOf(t, "{}")
	}
	f, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	t.Cleanup(func() { f.Close() })
	return f
}

// serve starts a mirror in plain http.
func serve(t testing.TB, w http.Handler) string {
	t.Helper()
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	return server.URL
}

// checkGot compares what was got with what was asked for: every binary has its content, every image all its blobs.
func checkGot(t *testing.T, f *Fetcher, got []Fetched, asked []release.Item) {
	t.Helper()
	if len(got) != len(asked) {
		t.Fatalf("%d of %d items", len(got), len(asked))
	}
	for i, g := range got {
		if g.String() != asked[i].String() {
			t.Errorf("item %d is %s, want %s", i, g, asked[i])
		}
		for _, b := range g.Blobs {
			data := read(t, f, b.SHA256)
			if sum(data) != b.SHA256 || int64(len(data)) != b.Size {
				t.Errorf("%s: a blob of %d bytes with SHA-256 %s is called %+v", g, len(data), sum(data), b)
			}
		}
		switch g.Kind {
		case bundle.KindBinary:
			if len(g.Blobs) != 1 || !bytes.Equal(read(t, f, g.Blobs[0].SHA256), content(g.String())) {
				t.Errorf("%s: blobs %v", g, g.Blobs)
			}
		case bundle.KindImage:
			if len(g.Blobs) != 4 || g.Digest != "sha256:"+g.Blobs[0].SHA256 {
				t.Errorf("%s: digest %s, blobs %v", g, g.Digest, g.Blobs)
				continue
			}
			config, err := v1.ParseConfigFile(bytes.NewReader(read(t, f, g.Blobs[1].SHA256)))
			if err != nil || config.Architecture != g.Arch {
				t.Errorf("%s is for %+v, %v", g, config, err)
			}
		}
	}
}

func read(t *testing.T, f *Fetcher, sum string) []byte {
	t.Helper()
	file, err := f.Open(sum)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
