package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// key is where the world has an item's file.
func key(item release.Item) string { return strings.TrimPrefix(item.File.URL, "https://") }

// layerKey is where a mirror's registry has the largest blob of an image.
func layerKey(t *testing.T, f *Fetcher, item release.Item) (key, sum string) {
	t.Helper()
	got, err := f.Get(t.Context(), []release.Item{item})
	if err != nil {
		t.Fatal(err)
	}
	var largest bundle.Blob
	for _, b := range got[0].Blobs {
		if b.Size > largest.Size {
			largest = b
		}
	}
	ref, _, _ := strings.Cut(item.Image, ":")
	return "/v2/" + ref + "/blobs/sha256:" + largest.SHA256, largest.SHA256
}

// cut sends the first n bytes of what was promised whole, and breaks the connection.
func cut(data []byte, n int) http.HandlerFunc {
	return func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("ETag", `"`+sum(data)+`"`)
		out.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = out.Write(data[:n])
		panic(http.ErrAbortHandler)
	}
}

// once lets a fault happen a single time.
func (w *world) once(key string, h http.HandlerFunc) {
	w.fault(key, func(out http.ResponseWriter, r *http.Request) {
		w.fault(key, nil)
		h(out, r)
	})
}

// TestTruncated: what was whole of a broken transfer is not sent again, neither in the same run nor in the next one.
func TestTruncated(t *testing.T) {
	w := newWorld(t)
	item := items(t, "kubelet")[0]
	data := w.files[key(item)]

	t.Run("in the same run", func(t *testing.T) {
		f := open(t, Options{Mirror: serve(t, w)})
		w.once(key(item), cut(data, 60<<10))
		w.taken()
		got, err := f.Get(t.Context(), []release.Item{item})
		if err != nil {
			t.Fatal(err)
		}
		checkGot(t, f, got, []release.Item{item})
		if n := w.taken()[key(item)]; n != int64(len(data)) {
			t.Errorf("%d bytes were sent of a file with %d", n, len(data))
		}
	})
	t.Run("in the next run", func(t *testing.T) {
		dir := t.TempDir()
		f := open(t, Options{Mirror: serve(t, w), CacheDir: dir})
		dead := false
		w.fault(key(item), func(out http.ResponseWriter, r *http.Request) {
			if dead {
				panic(http.ErrAbortHandler)
			}
			dead = true
			cut(data, 60<<10)(out, r)
		})
		_, err := f.Get(t.Context(), []release.Item{item})
		wantError(t, err, "fetch kubelet v1.37.2 (amd64): "+f.mirror.String()+"/dl.k8s.io/release/v1.37.2/bin/linux/amd64/kubelet: ",
			"; hint: check the network and HTTPS_PROXY, and try again: what was got is kept")
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		w.fault(key(item), nil)
		before := w.taken()[key(item)]
		g := open(t, Options{Mirror: f.mirror.String(), CacheDir: dir})
		got, err := g.Get(t.Context(), []release.Item{item})
		if err != nil {
			t.Fatal(err)
		}
		checkGot(t, g, got, []release.Item{item})
		if n := w.taken()[key(item)]; before+n != int64(len(data)) || n != int64(len(data)-60<<10) {
			t.Errorf("%d bytes were sent, then %d, of a file with %d", before, n, len(data))
		}
	})
	t.Run("a layer, of a registry that wants to know the end of a range", func(t *testing.T) {
		item := items(t, "pause")[0]
		w.pushImages(t, []release.Item{item})
		f := open(t, Options{Mirror: serve(t, w)})
		key, sum := layerKey(t, f, item)
		data := read(t, f, sum)
		g := open(t, Options{Mirror: f.mirror.String()})
		w.taken()
		w.once(key, cut(data, len(data)/2))
		got, err := g.Get(t.Context(), []release.Item{item})
		if err != nil {
			t.Fatal(err)
		}
		checkGot(t, g, got, []release.Item{item})
		if n := w.taken()[key]; n != int64(len(data)) {
			t.Errorf("%d bytes were sent of a layer with %d", n, len(data))
		}
	})
}

// TestRangesThatDoNotFit: a server that knows no ranges, that knows them wrongly, or that has another file meanwhile
// sends the whole again, and it is right.
func TestRangesThatDoNotFit(t *testing.T) {
	w := newWorld(t)
	item := items(t, "kubelet")[0]
	data := w.files[key(item)]
	whole := func(out http.ResponseWriter) { _, _ = out.Write(data) }
	for name, answer := range map[string]http.HandlerFunc{
		"the whole instead": func(out http.ResponseWriter, _ *http.Request) { whole(out) },
		"not satisfiable": func(out http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				out.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			whole(out)
		},
		"another range": func(out http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				out.Header().Set("Content-Range", fmt.Sprintf("bytes 5-9/%d", len(data)))
				out.WriteHeader(http.StatusPartialContent)
				_, _ = out.Write(data[5:10])
				return
			}
			whole(out)
		},
		"the end of another file": func(out http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				out.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", 60<<10, len(data)-1, len(data)))
				out.WriteHeader(http.StatusPartialContent)
				_, _ = out.Write(bytes.Repeat([]byte("x"), len(data)-60<<10))
				return
			}
			whole(out)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, Options{Mirror: serve(t, w)})
			w.fault(key(item), func(out http.ResponseWriter, r *http.Request) {
				w.fault(key(item), answer)
				cut(data, 60<<10)(out, r)
			})
			got, err := f.Get(t.Context(), []release.Item{item})
			if err != nil {
				t.Fatal(err)
			}
			checkGot(t, f, got, []release.Item{item})
		})
	}
}

// TestNameWasMissing: a run that ended between the last byte and the name of a blob got everything.
func TestNameWasMissing(t *testing.T) {
	w := newWorld(t)
	item := items(t, "kubelet")[0]
	data := w.files[key(item)]
	f := open(t, Options{Mirror: serve(t, w)})
	if err := os.WriteFile(filepath.Join(f.cache.dir, "partial", sum(data)), data, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := f.Get(t.Context(), []release.Item{item})
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, got, []release.Item{item})
	if n := w.taken()[key(item)]; n >= int64(len(data)) {
		t.Errorf("%d bytes were sent", n)
	}
}

// TestWrongChecksum: nothing of a wrong file is kept under a name, and when the cause is gone the next run succeeds.
func TestWrongChecksum(t *testing.T) {
	w := newWorld(t)
	good, bad := items(t, "kubelet")[0], items(t, "runc")[0]
	right := w.files[key(bad)]
	f := open(t, Options{Mirror: serve(t, w)})
	if _, err := f.Get(t.Context(), []release.Item{good}); err != nil {
		t.Fatal(err)
	}
	w.files[key(bad)] = append(bytes.Clone(right[:len(right)-1]), '!')
	_, err := f.Get(t.Context(), []release.Item{good, bad})
	wantError(t, err, "fetch runc v1.5.2 (amd64): ", "/runc.amd64: its SHA-256 is "+sum(w.files[key(bad)])+", not "+sum(right), "; hint: ")
	if _, err := f.Open(sum(w.files[key(bad)])); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the wrong file is in the cache: %v", err)
	}
	w.taken()

	// Cause one: the file. Cause two: its checksum, which is corrected.
	w.files[key(bad)] = right
	got, err := f.Get(t.Context(), []release.Item{good, bad})
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, got, []release.Item{good, bad})
	if taken := w.taken(); taken[key(good)] != 0 || taken[key(bad)] != int64(len(right)) {
		t.Errorf("the next run took %v", taken)
	}
	other := items(t, "kubectl")[0]
	w.files[key(other)+".sha256"] = []byte(strings.Repeat("0", 64))
	if _, err := f.Get(t.Context(), []release.Item{other}); err == nil {
		t.Fatal("a file whose checksum is wrong is right")
	}
	w.files[key(other)+".sha256"] = []byte(sum(w.files[key(other)]))
	if _, err := f.Get(t.Context(), []release.Item{other}); err != nil {
		t.Errorf("the checksum was corrected: %v", err)
	}
}

// TestImagesThatAreWrong: an image is what its digests say, for the right platform.
func TestImagesThatAreWrong(t *testing.T) {
	w := newWorld(t)
	item := items(t, "pause")[0]
	w.pushImages(t, []release.Item{item})
	mirror := serve(t, w)
	key, layer := layerKey(t, open(t, Options{Mirror: mirror}), item)
	ofItem := "fetch pause 3.10.2 (amd64): " + mirror + "/v2/registry.k8s.io/pause/"

	t.Run("a layer", func(t *testing.T) {
		f := open(t, Options{Mirror: mirror})
		data := read(t, openAgain(t, mirror, item), layer)
		w.fault(key, func(out http.ResponseWriter, _ *http.Request) {
			_, _ = out.Write(append(data[:len(data)-1:len(data)-1], '!'))
		})
		defer w.fault(key, nil)
		_, err := f.Get(t.Context(), []release.Item{item})
		wantError(t, err, ofItem+"blobs/sha256:"+layer+": its SHA-256 is ", ", not "+layer)
	})
	t.Run("a layer that is too long", func(t *testing.T) {
		f := open(t, Options{Mirror: mirror})
		w.fault(key, func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write(make([]byte, 1<<20)) })
		defer w.fault(key, nil)
		_, err := f.Get(t.Context(), []release.Item{item})
		wantError(t, err, ofItem+"blobs/sha256:"+layer+": it has more than ")
	})
	t.Run("a manifest", func(t *testing.T) {
		f := open(t, Options{Mirror: mirror})
		got, err := openAgain(t, mirror, item).Get(t.Context(), []release.Item{item})
		if err != nil {
			t.Fatal(err)
		}
		at := "/v2/registry.k8s.io/pause/manifests/" + got[0].Digest
		w.fault(at, func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, "{}") })
		defer w.fault(at, nil)
		_, err = f.Get(t.Context(), []release.Item{item})
		wantError(t, err, ofItem+"manifests/"+got[0].Digest+": its SHA-256 is "+sum([]byte("{}")))
	})
	t.Run("an index without the platform", func(t *testing.T) {
		f := open(t, Options{Mirror: mirror})
		foreign := item
		foreign.Arch = "riscv64"
		_, err := f.Get(t.Context(), []release.Item{foreign})
		wantError(t, err, "manifests/3.10.2: there is no image for linux/riscv64, only for linux/s390x, linux/amd64, linux/arm64")
	})
	t.Run("a manifest of another platform, without an index", func(t *testing.T) {
		f := open(t, Options{Mirror: mirror})
		tag := "/v2/registry.k8s.io/pause/manifests/3.10.2"
		arm := item
		arm.Arch = "arm64"
		got, err := openAgain(t, mirror, arm).Get(t.Context(), []release.Item{arm})
		if err != nil {
			t.Fatal(err)
		}
		data := read(t, openAgain(t, mirror, arm), got[0].Blobs[0].SHA256)
		w.fault(tag, func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write(data) })
		defer w.fault(tag, nil)
		if got, err := f.Get(t.Context(), []release.Item{arm}); err != nil || got[0].Digest != "sha256:"+sum(data) {
			t.Errorf("for arm64 it is right: %v", err)
		}
		_, err = f.Get(t.Context(), []release.Item{item})
		wantError(t, err, ": the image is for linux/arm64, not for linux/amd64")
	})
	if _, err := choose([]byte(`{"manifests": [{"mediaType": "`+v1Manifest+`", "digest": "sha256:../../x", "platform": {"os": "linux", "architecture": "amd64"}}]}`), "amd64"); err == nil {
		t.Error("a digest is a path")
	}
}

const v1Manifest = "application/vnd.oci.image.manifest.v1+json"

// openAgain is a Fetcher that has an item.
func openAgain(t *testing.T, mirror string, item release.Item) *Fetcher {
	t.Helper()
	f := open(t, Options{Mirror: mirror})
	if _, err := f.Get(t.Context(), []release.Item{item}); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestRedirects: ten are followed, a circle is not.
func TestRedirects(t *testing.T) {
	w := newWorld(t)
	item := items(t, "kubelet")[0]
	f := open(t, Options{Mirror: serve(t, w)})
	for _, tt := range []struct {
		hops int
		ok   bool
	}{{11, false}, {10, true}} {
		left := atomic.Int64{}
		left.Store(int64(tt.hops))
		asked := 0
		w.fault(key(item), func(out http.ResponseWriter, r *http.Request) {
			asked++
			if left.Add(-1) < 0 {
				_, _ = out.Write(w.files[key(item)])
				return
			}
			http.Redirect(out, r, r.URL.Path+"?token=secret", http.StatusFound)
		})
		_, err := f.Get(t.Context(), []release.Item{item})
		if (err == nil) != tt.ok {
			t.Errorf("%d redirects: %v", tt.hops, err)
		}
		if err != nil {
			wantError(t, err, "/kubelet", "?***", ": more than 10 redirects; hint: the server sends in circles: ask whoever runs it")
			if strings.Contains(err.Error(), "secret") || strings.Count(err.Error(), "hint") != 1 || asked != 11 {
				t.Errorf("after %d requests: %v", asked, err)
			}
		}
	}
}

// TestStatuses: what passes by itself is asked for again, as often as is sensible; the rest is an error at once.
func TestStatuses(t *testing.T) {
	w := newWorld(t)
	item := items(t, "kubelet")[0]
	mirror := serve(t, w)
	for _, tt := range []struct {
		code, times, asked int
		hint               string // empty: it succeeds
	}{
		{503, 4, 5, ""},
		{503, 9, 5, "has trouble; try again, what was got is kept"},
		{429, 1, 2, ""},
		{500, 2, 3, ""},
		{404, 1, 1, "the mirror " + strings.TrimPrefix(mirror, "http://") + " does not have it; check the version"},
		{410, 1, 1, "has trouble"},
		{403, 1, 1, "wants other credentials"},
		{401, 1, 1, "`docker login " + strings.TrimPrefix(mirror, "http://") + "`"},
	} {
		t.Run(fmt.Sprint(tt.code, tt.times), func(t *testing.T) {
			f := open(t, Options{Mirror: mirror})
			var slept []time.Duration
			f.sleep = func(_ context.Context, d time.Duration) error { slept = append(slept, d); return nil }
			asked := 0
			w.fault(key(item), func(out http.ResponseWriter, _ *http.Request) {
				asked++
				if asked <= tt.times {
					out.Header().Set("Retry-After", "86400")
					http.Error(out, "no", tt.code)
					return
				}
				_, _ = out.Write(w.files[key(item)])
			})
			defer w.fault(key(item), nil)
			_, err := f.Get(t.Context(), []release.Item{item})
			if asked != tt.asked {
				t.Errorf("asked %d times, want %d", asked, tt.asked)
			}
			for _, d := range slept {
				if d > maxPause || d < firstPause/2 {
					t.Errorf("slept %v", slept)
				}
			}
			if tt.hint == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, fmt.Sprintf("%d %s", tt.code, http.StatusText(tt.code)), tt.hint)
		})
	}
}

// TestMirrorDies: the rest of a run fails, and the next one gets only what the first one did not.
func TestMirrorDies(t *testing.T) {
	w := newWorld(t)
	asked := items(t)
	w.pushImages(t, asked)
	w.budget.Store(700 << 10)
	mirror := serve(t, w)
	dir := t.TempDir()
	f := open(t, Options{Mirror: mirror, CacheDir: dir})
	if _, err := f.Get(t.Context(), asked); err == nil {
		t.Fatal("a mirror that died sent everything")
	} else {
		wantError(t, err, "fetch ", "; hint: ")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	first := blobBytes(w.taken())
	left := map[string]int64{} // bytes of what is there of a blob, by SHA-256
	files, err := f.cache.files()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		left[filepath.Base(file.path)] = file.size
	}
	sumOfFile := map[string]string{}
	for key, data := range w.files {
		if strings.HasSuffix(key, "/kubelet") || strings.HasSuffix(key, "gz") {
			sumOfFile[key] = sum(data)
		}
	}
	w.budget.Store(1 << 40)
	g := open(t, Options{Mirror: mirror, CacheDir: dir})
	got, err := g.Get(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, g, got, asked)
	second := blobBytes(w.taken())

	whole := open(t, Options{Mirror: mirror})
	if _, err := whole.Get(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	taken := w.taken()
	total, kept := blobBytes(taken), int64(0)
	for key := range taken {
		_, sum, isLayer := strings.Cut(key, "/blobs/sha256:")
		if !isLayer {
			sum = sumOfFile[key]
		}
		kept += left[sum]
	}
	// Of the first run's requests, the server may have begun to write a last piece after they were counted.
	if first == 0 || kept == 0 || second > total-kept+parallel*64<<10 {
		t.Errorf("%d bytes before, of which %d were kept, %d after; there are %d", first, kept, second, total)
	}
}

// TestStalls: a server that says no more is left.
func TestStalls(t *testing.T) {
	w := newWorld(t)
	item := items(t, "kubelet")[0]
	data := w.files[key(item)]
	f := open(t, Options{Mirror: serve(t, w)})
	f.stall = 50 * time.Millisecond
	w.once(key(item), func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = out.Write(data[:1000])
		out.(*counter).ResponseWriter.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	got, err := f.Get(t.Context(), []release.Item{item})
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, f, got, []release.Item{item})
	w.fault(key(item), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	g := open(t, Options{Mirror: f.mirror.String()})
	g.stall = 20 * time.Millisecond
	_, err = g.Get(t.Context(), []release.Item{item})
	wantError(t, err, "/kubelet: no byte came for too long; hint: ")
}

// TestCancel: an interrupted run ends at once, says so, and leaves what it got for the next one.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	item := items(t, "kubelet")[0]
	data := w.files[key(item)]
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	f := open(t, Options{Mirror: serve(t, w), CacheDir: dir, Progress: func(e Event) {
		if e.Done >= 50<<10 {
			cancel()
		}
	}})
	w.once(key(item), func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("ETag", `"`+sum(data)+`"`)
		out.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = out.Write(data[:50<<10])
		out.(*counter).ResponseWriter.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	_, err := f.Get(ctx, []release.Item{item})
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "hint") {
		t.Errorf("interrupted: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.taken()
	g := open(t, Options{Mirror: f.mirror.String(), CacheDir: dir})
	got, err := g.Get(t.Context(), []release.Item{item})
	if err != nil {
		t.Fatal(err)
	}
	checkGot(t, g, got, []release.Item{item})
	if n := w.taken()[key(item)]; n != int64(len(data)-50<<10) {
		t.Errorf("%d bytes were sent after the interruption", n)
	}
}

// TestCancelWhileWaiting: nobody waits out a pause, or another myadm, after an interruption.
func TestCancelWhileWaiting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f := open(t, Options{})
	p, err := f.cache.partial(t.Context(), strings.Repeat("a", 64))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := f.cache.partial(ctx, strings.Repeat("a", 64)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v\nwants %s", err, part)
			return
		}
	}
}
