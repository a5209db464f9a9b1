package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// locate finds everything for amd64.
func locate(t *testing.T, f *Fetcher, roles ...bundle.Role) *Located {
	t.Helper()
	l, err := f.Locate(t.Context(), version, []string{"amd64"}, roles)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Bundle.Close() })
	return l
}

func sourcesOf(t *testing.T, l *Located) map[string]Source {
	t.Helper()
	sources, err := l.Sources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

// pull gets a source as a host does, which knows nothing but it.
func pull(t *testing.T, client *http.Client, s Source) ([]byte, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range s.Headers {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	data, err := io.ReadAll(response.Body)
	if err != nil || s.Member == "" {
		return data, err
	}
	if sum(data) != s.Blob.SHA256 || int64(len(data)) != s.Blob.Size {
		t.Errorf("the archive %s has %d bytes, want %+v", s.URL, len(data), s.Blob)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if err != nil {
			return nil, err
		}
		if strings.TrimPrefix(header.Name, "./") == s.Member {
			return io.ReadAll(archive)
		}
	}
}

// checkSources has a host get every blob of the bundle from its source.
func checkSources(t *testing.T, l *Located, client *http.Client) {
	t.Helper()
	sources := sourcesOf(t, l)
	blobs := bundle.Blobs(l.Bundle.Index.Artifacts)
	if len(sources) != len(blobs) {
		t.Errorf("%d sources of %d blobs", len(sources), len(blobs))
	}
	for _, b := range blobs {
		s := sources[b.SHA256]
		data, err := pull(t, client, s)
		if err != nil || sum(data) != b.SHA256 || int64(len(data)) != b.Size {
			t.Errorf("%+v: %d bytes with SHA-256 %s, %v; want %+v", s, len(data), sum(data), err, b)
		}
		if s.Member == "" && s.Blob != b {
			t.Errorf("the source of %+v is one of %+v", b, s.Blob)
		}
	}
}

// isBlob tells whether a request is one for what Locate is to find without getting it. Configurations are small.
func (w *world) isBlob(request string) bool {
	method, key, _ := strings.Cut(request, " ")
	_, isFile := w.files[key]
	return method == http.MethodGet && (strings.Contains(key, "/blobs/") || isFile && !strings.HasSuffix(key, "sha256") && !strings.HasSuffix(key, "sha256sum"))
}

// blobRequests are those of the requests since the last call.
func (w *world) blobRequests() []string {
	var blobs []string
	for _, r := range w.requests() {
		if w.isBlob(r) {
			blobs = append(blobs, r)
		}
	}
	return blobs
}

// TestLocate finds what Provide gets, without getting more than archives and what describes images, and hosts find it
// there. What it found out it knows from then on, whatever is pruned.
func TestLocate(t *testing.T) {
	w := newWorld(t)
	w.pushImages(t, items(t))
	mirror, dir := serve(t, w), t.TempDir()
	f := open(t, Options{Mirror: mirror, CacheDir: dir})
	l := locate(t, f)
	archives, configs := 0, 0
	for _, r := range w.blobRequests() {
		switch {
		case strings.HasSuffix(r, "gz"):
			archives++
		case strings.Contains(r, "/blobs/"):
			configs++
		default:
			t.Errorf("Locate took %s", r)
		}
	}
	images := 0
	for _, a := range l.Bundle.Index.Artifacts {
		if a.Kind == bundle.KindImage {
			images++
		}
	}
	if archives != 3 || configs != images {
		t.Errorf("%d archives and %d configurations of %d images were taken", archives, configs, images)
	}
	checkSources(t, l, http.DefaultClient)
	l.Bundle.Close()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	// The second run finds the same, and asks for nothing but what was pruned: manifests.
	prune(t, dir)
	w.requests()
	f = open(t, Options{Mirror: mirror, CacheDir: dir})
	again := locate(t, f)
	if d := cmp.Diff(l.Bundle.Index, again.Bundle.Index); d != "" {
		t.Errorf("the second run found something else:\n%s", d)
	}
	manifests := 0
	for _, r := range w.requests() {
		switch {
		case strings.Contains(r, "/manifests/sha256:"):
			manifests++
		case r != "GET /v2/":
			t.Errorf("with a memory Locate took %s", r)
		}
	}
	if manifests != images {
		t.Errorf("%d manifests of %d images were taken", manifests, images)
	}
	third := locate(t, f)
	if r := w.requests(); len(r) != 0 {
		t.Errorf("the third time took %v", r)
	}
	checkSources(t, third, http.DefaultClient)

	provided, err := f.Provide(t.Context(), version, []string{"amd64"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer provided.Close()
	if d := cmp.Diff(provided.Index, third.Bundle.Index); d != "" {
		t.Errorf("Provide has something else:\n%s", d)
	}
	if err := third.Bundle.Verify(t.Context(), nil); err != nil {
		t.Errorf("the cache has everything now: %v", err)
	}
}

// prune deletes all blobs of a cache as a limit of a few bytes does.
func prune(t *testing.T, dir string) {
	t.Helper()
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	records := int64(0)
	files, err := c.files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.record {
			records += f.size
		}
	}
	if p, err := c.Prune(records); err != nil || p.Kept != records {
		t.Fatalf("%+v of records with %d bytes, %v", p, records, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*")); err != nil || len(left) > 0 {
		t.Fatalf("blobs are left: %v, %v", left, err)
	}
}

// TestLocateAfterGet: what Get had is known, whatever is pruned: not even sizes are asked for.
func TestLocateAfterGet(t *testing.T) {
	w := newWorld(t)
	mirror, dir := serve(t, w), t.TempDir()
	f := open(t, Options{Mirror: mirror, CacheDir: dir})
	if _, err := f.Get(t.Context(), release.Select(items(t), bundle.RoleRuntime, bundle.RoleCNI)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	prune(t, dir)
	w.requests()
	l := locate(t, open(t, Options{Mirror: mirror, CacheDir: dir}), bundle.RoleRuntime, bundle.RoleCNI)
	for _, r := range w.requests() {
		if !strings.Contains(r, "/manifests/") {
			t.Errorf("Locate took %s", r)
		}
	}
	checkSources(t, l, http.DefaultClient)
}

// TestLocateFromMakers: without a mirror sources are the makers' own addresses, whatever they redirect to.
func TestLocateFromMakers(t *testing.T) {
	w := newWorld(t)
	w.mirror = false
	w.pushImages(t, items(t))
	kubelet := items(t, "kubelet")[0]
	server, caFile := serveTLS(t, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Host+r.URL.Path == key(kubelet) && r.URL.RawQuery == "" {
			http.Redirect(out, r, "https://github.com/"+key(kubelet)+"?signed", http.StatusFound)
			return
		}
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/dl.k8s.io")
		if r.URL.RawQuery == "signed" {
			r.Host = "dl.k8s.io"
		}
		w.ServeHTTP(out, r)
	}))
	p := &proxy{to: server.Listener.Addr().String(), asked: map[string]bool{}}
	f := open(t, Options{CAFile: caFile, Proxy: Proxy{HTTPSProxy: serve(t, p)}})
	l := locate(t, f)
	sum := sum(w.files[key(kubelet)])
	if s := sourcesOf(t, l)[sum]; s.URL != kubelet.File.URL || s.Headers != nil || s.Blob.Size != int64(len(w.files[key(kubelet)])) {
		t.Errorf("the source of kubelet is %+v", s)
	}
	checkSources(t, l, &http.Client{Transport: f.transport})
	if !bytes.Contains(f.CA(), []byte("BEGIN CERTIFICATE")) {
		t.Errorf("hosts are to trust %q", f.CA())
	}
}

// TestMissingBlobs: a bundle without its blobs says which one is missing, and has them once they were ensured.
func TestMissingBlobs(t *testing.T) {
	w := newWorld(t)
	w.pushImages(t, items(t))
	events := map[string]Event{}
	f := open(t, Options{Mirror: serve(t, w), Progress: func(e Event) { events[e.Item] = e }})
	l := locate(t, f)
	ctr, err := l.Bundle.Binary("ctr", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	kubelet, err := l.Bundle.Binary("kubelet", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	etcd, err := l.Bundle.Image("etcd", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.cache.blob(ctr.Blobs[0].SHA256)); err != nil {
		t.Fatal(err)
	}
	for _, a := range []bundle.Artifact{ctr, kubelet} {
		_, err := l.Bundle.Open(t.Context(), a)
		wantError(t, err, "artifact "+a.Name+" (amd64): blobs/sha256/"+a.Blobs[0].SHA256+" is missing")
		if !errors.Is(err, fs.ErrNotExist) || f.Has(a.Blobs[0]) {
			t.Errorf("%s is there, or not known to be missing: %v", a.Name, err)
		}
	}
	if archive, _, err := l.Bundle.Archive(t.Context(), etcd); err == nil {
		_, err = io.Copy(io.Discard, archive)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an image without layers is read: %v", err)
		}
		archive.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}

	clear(events)
	w.requests()
	wanted := bundle.Blobs([]bundle.Artifact{ctr, kubelet, etcd})
	if err := l.Ensure(t.Context(), wanted...); err != nil {
		t.Fatal(err)
	}
	// The manifest and the configuration of etcd and the archive with ctr are there since Locate.
	if r := w.blobRequests(); len(r) != 3 {
		t.Errorf("kubelet and two layers took %v", r)
	}
	for _, item := range []string{"kubelet v1.37.2 (amd64)", "etcd " + etcd.Version + " (amd64)"} {
		if e := events[item]; e.Done != e.Total || e.Total <= 0 || len(events) != 2 {
			t.Errorf("%s ended at %d of %d bytes, among %v", item, e.Done, e.Total, events)
		}
	}
	for _, b := range wanted {
		file, err := l.Bundle.OpenBlob(t.Context(), b)
		if err != nil {
			t.Error(err)
			continue
		}
		file.Close()
	}
	w.requests()
	if err := l.Ensure(t.Context(), append(wanted, wanted...)...); err != nil || len(w.requests()) > 0 {
		t.Errorf("what is there was asked for, %v", err)
	}
	err = l.Ensure(t.Context(), bundle.Blob{SHA256: strings.Repeat("0", 64)})
	wantError(t, err, "is none of those that were located")
	if err := l.Ensure(t.Context(), bundle.Blobs(l.Bundle.Index.Artifacts)...); err != nil {
		t.Fatal(err)
	}
	if err := l.Bundle.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
