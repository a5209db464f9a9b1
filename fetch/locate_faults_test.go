package fetch

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// TestSizes: a server that does not tell a file's size has to send it; what it told wrongly is put right by the file.
func TestSizes(t *testing.T) {
	w := newWorld(t)
	kubelet := items(t, "kubelet")[0]
	data := w.files[key(kubelet)]
	w.pushImages(t, release.Select(items(t), bundle.RoleNode))
	mirror := serve(t, w)
	head := func(answer http.HandlerFunc) {
		w.fault(key(kubelet), func(out http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				answer(out, r)
				return
			}
			_, _ = out.Write(data)
		})
	}
	for name, answer := range map[string]http.HandlerFunc{
		"knows no HEAD":     func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusMethodNotAllowed) },
		"signs GET alone":   func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusForbidden) },
		"breaks on HEAD":    func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusInternalServerError) },
		"tells nothing":     func(http.ResponseWriter, *http.Request) {},
		"tells what cannot": func(out http.ResponseWriter, _ *http.Request) { out.Header().Set("Content-Length", "99999999999") },
	} {
		t.Run(name, func(t *testing.T) {
			head(answer)
			f := open(t, Options{Mirror: mirror})
			l := locate(t, f, bundle.RoleNode)
			a, err := l.Bundle.Binary("kubelet", "amd64")
			if err != nil {
				t.Fatal(err)
			}
			if want := (bundle.Blob{SHA256: sum(data), Size: int64(len(data))}); a.Blobs[0] != want || !f.Has(want) {
				t.Errorf("kubelet is %+v, want %+v, which is there: %v", a.Blobs[0], want, f.Has(want))
			}
		})
	}
	t.Run("there is no file", func(t *testing.T) {
		w.fault(key(kubelet), http.NotFound)
		_, err := open(t, Options{Mirror: mirror}).Locate(t.Context(), version, []string{"amd64"}, []bundle.Role{bundle.RoleNode})
		wantError(t, err, "fetch "+kubelet.String(), "404 Not Found; hint: ")
	})
	t.Run("lies", func(t *testing.T) {
		head(func(out http.ResponseWriter, _ *http.Request) { out.Header().Set("Content-Length", "1234") })
		f := open(t, Options{Mirror: mirror})
		l := locate(t, f, bundle.RoleNode)
		a, err := l.Bundle.Binary("kubelet", "amd64")
		if err != nil || a.Blobs[0].Size != 1234 {
			t.Fatalf("%+v, %v", a, err)
		}
		err = l.Ensure(t.Context(), a.Blobs...)
		wantError(t, err, "fetch "+kubelet.String(), "it has "+strconv.Itoa(len(data))+" bytes", ", and 1234 and ", "; hint: try again")
		l = locate(t, f, bundle.RoleNode)
		if a, err = l.Bundle.Binary("kubelet", "amd64"); err != nil || a.Blobs[0].Size != int64(len(data)) {
			t.Errorf("after the file was here it is %+v, %v", a, err)
		}
		if err := l.Ensure(t.Context(), a.Blobs...); err != nil {
			t.Error(err)
		}
	})
}

// TestOldMemory: a cache that remembers members without their sizes, as it did once, is looked into again.
func TestOldMemory(t *testing.T) {
	w := newWorld(t)
	f := open(t, Options{Mirror: serve(t, w)})
	l := locate(t, f, bundle.RoleRuntime)
	ctr := items(t, "ctr")[0]
	archive := sum(w.files[key(ctr)])
	old := map[string]string{"bin/ctr": sum(content(ctr.String()))}
	if err := f.cache.remember(membersSubject(archive), old); err != nil {
		t.Fatal(err)
	}
	w.requests()
	again := locate(t, f, bundle.RoleRuntime)
	if a, b := l.Bundle.Index.Artifacts, again.Bundle.Index.Artifacts; len(a) != len(b) || a[0].Blobs[0] != b[0].Blobs[0] {
		t.Errorf("%+v became %+v", a, b)
	}
	if r := w.requests(); len(r) > 0 {
		t.Errorf("the archive is there, and %v was asked for", r)
	}
}

// TestLocateWrongImages: what Get refuses, no host is told of.
func TestLocateWrongImages(t *testing.T) {
	w := newWorld(t)
	w.pushImages(t, items(t))
	mirror := serve(t, w)
	pause := items(t, "pause")[0]
	arm := pause
	arm.Arch = "arm64"
	g := open(t, Options{Mirror: mirror})
	got, err := g.Get(t.Context(), []release.Item{arm})
	if err != nil {
		t.Fatal(err)
	}
	manifest := read(t, g, got[0].Blobs[0].SHA256)
	tag := "/v2/registry.k8s.io/pause/manifests/3.10.2"
	for want, answer := range map[string][]byte{
		"pause/blobs/sha256:" + got[0].Blobs[1].SHA256 + ": the image is for linux/arm64, not for linux/amd64": manifest,
		"manifests/sha256:" + sum([]byte("{}")) + ": manifest: schema 0":                                       []byte("{}"),
	} {
		w.fault(tag, func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write(answer) })
		for range 2 { // the second time from memory
			f := open(t, Options{Mirror: mirror})
			_, err = f.Locate(t.Context(), version, []string{"amd64"}, nil)
			wantError(t, err, "fetch "+pause.String(), want)
		}
	}
}

// TestEnsureGoesOn: what was whole of a broken transfer is not sent again, and many hosts that want a blob get it once.
func TestEnsureGoesOn(t *testing.T) {
	w := newWorld(t)
	kubelet, ctr := items(t, "kubelet")[0], items(t, "ctr")[0]
	w.pushImages(t, items(t))
	mirror, dir := serve(t, w), t.TempDir()
	f := open(t, Options{Mirror: mirror, CacheDir: dir})
	locate(t, f).Bundle.Close()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	prune(t, dir)
	f = open(t, Options{Mirror: mirror, CacheDir: dir})
	l := locate(t, f)
	data := w.files[key(kubelet)]
	ctx, cancel := context.WithCancel(t.Context())
	f.progress = func(e Event) {
		if e.Done >= 60<<10 {
			cancel()
		}
	}
	w.once(key(kubelet), func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("ETag", `"`+sum(data)+`"`)
		out.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = out.Write(data[:60<<10])
		out.(*counter).ResponseWriter.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	blob := bundle.Blob{SHA256: sum(data), Size: int64(len(data))}
	if err := l.Ensure(ctx, blob); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	f.progress = func(Event) {}
	w.taken()
	member := bundle.Blob{SHA256: sum(content(ctr.String())), Size: int64(len(content(ctr.String())))}
	var hosts sync.WaitGroup
	for range 5 {
		hosts.Go(func() {
			if err := l.Ensure(t.Context(), blob, member); err != nil {
				t.Error(err)
			}
		})
	}
	hosts.Wait()
	taken := w.taken()
	if n := taken[key(kubelet)]; n != int64(len(data)-60<<10) {
		t.Errorf("%d bytes were sent after the interruption", n)
	}
	if n := taken[key(ctr)]; n != int64(len(w.files[key(ctr)])) {
		t.Errorf("%d bytes were sent of an archive with %d", n, len(w.files[key(ctr)]))
	}
	if !bytes.Equal(read(t, f, blob.SHA256), data) || !bytes.Equal(read(t, f, member.SHA256), content(ctr.String())) {
		t.Error("the blobs are others")
	}

	// A wrong file is nothing that a host gets.
	runc := items(t, "runc")[0]
	right := w.files[key(runc)]
	w.files[key(runc)] = append(bytes.Clone(right[:len(right)-1]), '!')
	err := l.Ensure(t.Context(), bundle.Blob{SHA256: sum(right), Size: int64(len(right))})
	wantError(t, err, "fetch "+runc.String(), "its SHA-256 is ", ", not "+sum(right), "; hint: ")
	if f.Has(bundle.Blob{SHA256: sum(right), Size: int64(len(right))}) {
		t.Error("the wrong file is there")
	}
}

// TestEnsureOfADamagedCache: a layer that a disk has cut off is fetched again.
func TestEnsureOfADamagedCache(t *testing.T) {
	w := newWorld(t)
	w.pushImages(t, items(t))
	f := open(t, Options{Mirror: serve(t, w)})
	l := locate(t, f)
	pause, err := l.Bundle.Image("pause", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Ensure(t.Context(), pause.Blobs...); err != nil {
		t.Fatal(err)
	}
	for _, b := range pause.Blobs {
		if err := os.Truncate(f.cache.blob(b.SHA256), b.Size-1); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Ensure(t.Context(), pause.Blobs...); err != nil {
		t.Fatal(err)
	}
	for _, b := range pause.Blobs {
		if data := read(t, f, b.SHA256); sum(data) != b.SHA256 {
			t.Errorf("%+v has %d bytes", b, len(data))
		}
	}
}
