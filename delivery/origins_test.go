package delivery

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/courier/wire"
	"github.com/myadm/myadm/host"
)

const secret = "Bearer of-the-mirror"

// origin is a real web server that has all blobs of a world, each by its sum, and an archive of kubelet and kubectl. Who
// does not know the secret gets nothing.
type origin struct {
	*httptest.Server
	world   *world
	archive []byte

	mu   sync.Mutex
	gets map[string]int // by path
}

func newOrigin(w *world) *origin {
	o := &origin{world: w, archive: archiveOf(w.contents, "kubelet", "kubectl"), gets: map[string]int{}}
	o.Server = httptest.NewTLSServer(o)
	w.t.Cleanup(o.Close)
	return o
}

func archiveOf(contents map[string][]byte, names ...string) []byte {
	var b bytes.Buffer
	packing := gzip.NewWriter(&b)
	archive := tar.NewWriter(packing)
	for _, name := range names {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: "bin/" + name, Size: int64(len(contents[name])), Mode: 0o755}
		archive.WriteHeader(header)   //nolint:errcheck // a buffer takes everything
		archive.Write(contents[name]) //nolint:errcheck // a buffer takes everything
	}
	archive.Close()
	packing.Close()
	return b.Bytes()
}

func (o *origin) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != secret {
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodGet {
		o.mu.Lock()
		o.gets[strings.TrimPrefix(r.URL.Path, "/")]++
		o.mu.Unlock()
	}
	content := o.archive
	if sum := strings.TrimPrefix(r.URL.Path, "/"); sum != "archive" {
		for _, b := range bundle.Blobs(o.world.bundle.Index.Artifacts) {
			if b.SHA256 == sum {
				content, _ = os.ReadFile(filepath.Join(o.world.bundle.Path(), bundle.BlobPath(sum)))
			}
		}
	}
	http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(content))
}

// options are those of a delivery from the server, or from one at another URL. The binaries named are in the archive.
func (o *origin) options(way Way, url string, archived ...string) Options {
	source := func(path string) wire.Source {
		return wire.Source{URL: url + "/" + path, Headers: map[string]string{"Authorization": secret}}
	}
	origins := map[string]Origin{}
	for _, b := range bundle.Blobs(o.world.bundle.Index.Artifacts) {
		origins[b.SHA256] = Origin{Source: source(b.SHA256), Blob: b}
	}
	for _, name := range archived {
		origins[hexSum(o.world.contents[name])] = Origin{
			Source: source("archive"), Blob: bundle.Blob{SHA256: hexSum(o.archive), Size: int64(len(o.archive))}, Member: "bin/" + name,
		}
	}
	return Options{
		Way:     way,
		Origins: func(context.Context) (map[string]Origin, error) { return origins, nil },
		Net:     wire.Net{CA: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.Certificate().Raw}))},
	}
}

// nobody is the URL of a server that refuses connections.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

// Hosts that can download do so, and are sent nothing from here but the program. An archive is downloaded once for its members.
func TestDownload(t *testing.T) {
	for _, way := range []Way{Auto, Download} {
		t.Run(string(way), func(t *testing.T) {
			w := newWorld(t, 2)
			o := newOrigin(w)
			d := w.delivery(o.options(way, o.URL, "kubelet", "kubectl"))
			if err := w.everywhere(func(m *machine) error { return errors.Join(w.files(d, m), w.import_(d, m)) }); err != nil {
				t.Fatal(err)
			}
			for _, m := range w.machines {
				w.checkImported(m)
				if m.total() > 0 {
					t.Errorf("%d bytes were sent to %s", m.total(), m.name)
				}
				if m.has(t, "blobs/sha256/"+hexSum(o.archive)) {
					t.Error("the archive is left")
				}
			}
			if o.gets["archive"] != len(w.machines) || o.gets[hexSum(w.contents["kubelet"])] > 0 {
				t.Errorf("%v", o.gets)
			}
			w.close(d)
			for _, m := range w.machines {
				for _, argv := range m.argvs {
					if strings.Contains(strings.Join(argv, " "), secret) {
						t.Errorf("the secret is in %q", argv)
					}
				}
			}
			if len(w.warnings) > 0 {
				t.Errorf("%q", w.warnings)
			}
		})
	}
}

// Where nobody answers, auto takes another way and warns; what was told to download fails, and names what and why.
func TestCannotDownload(t *testing.T) {
	for _, hosts := range []int{2, 5} {
		w := newWorld(t, hosts)
		o := newOrigin(w)
		d := w.delivery(o.options(Auto, nobody(t)))
		if err := w.everywhere(func(m *machine) error { return errors.Join(w.files(d, m), w.import_(d, m)) }); err != nil {
			t.Fatal(err)
		}
		w.warned("it cannot download by itself", "connection refused")
		for _, m := range w.machines {
			w.checkImported(m)
		}
		if hosts > fewHosts {
			w.sentOnce()
		}
		w.close(d)
	}
	w := newWorld(t, 5)
	o := newOrigin(w)
	d := w.delivery(o.options(Download, nobody(t)))
	err := w.files(d, w.machines[0], "kubelet")
	if err == nil || !strings.Contains(err.Error(), "kubelet") || !strings.Contains(err.Error(), "connection refused") ||
		strings.Contains(err.Error(), secret) {
		t.Error(err)
	}
	if n := w.machines[0].total(); n > 0 {
		t.Errorf("%d bytes were sent", n)
	}
	w.close(d)
}

// What a server does not have, or has with other bytes, comes from here, in auto; the rest is downloaded all the same.
func TestSomeDownloadsFail(t *testing.T) {
	for _, hosts := range []int{1, 5} {
		w := newWorld(t, hosts)
		o := newOrigin(w)
		options := o.options(Auto, o.URL, "kubelet")
		all, _ := options.Origins(w.ctx)
		lost := all[hexSum(w.contents["kubectl"])]
		lost.Source.Headers = nil
		all[hexSum(w.contents["kubectl"])] = lost
		delete(all, hexSum(w.contents["shared"])) // nobody has said where that one is
		d := w.delivery(options)
		m := w.machines[0]
		if err := w.files(d, m); err != nil {
			t.Fatal(err)
		}
		if n := m.total(); n <= blobSize || n > 2*blobSize || m.sent[hexSum(w.contents["kubelet"])] > 0 {
			t.Errorf("%d bytes were sent", n)
		}
		w.warned("1 of 3 downloads failed", "kubectl", "401")
		w.close(d)

		d = w.delivery(o.options(Download, o.URL, "kubelet"))
		o.archive = o.archive[:100]
		if err := w.files(d, m); err != nil {
			t.Errorf("all is there: %v", err)
		}
		os.Remove(m.bin("kubelet")) //nolint:errcheck // the next lines tell
		if err := w.files(d, m); err == nil || !strings.Contains(err.Error(), "fetch kubelet") {
			t.Error(err)
		}
		w.close(d)
	}
}

// A full disk is an error, whatever the way: nothing else is tried.
func TestFullDisk(t *testing.T) {
	for _, test := range []struct {
		name string
		wrap []string
		size int64
		want string
	}{
		{"seen before", nil, 1 << 60, "bytes are needed"},
		{"while it is written", []string{"sh", "-c", `ulimit -f 100; exec "$@"`, "sh"}, blobSize, "make room and run again"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, 5)
			o := newOrigin(w)
			d := w.delivery(o.options(Auto, o.URL))
			m := w.machines[0]
			m.wrap = test.wrap
			binaries := slices.Clone(w.binaries(m, "kubelet"))
			all, _ := d.Origins(w.ctx)
			big := all[binaries[0].Blobs[0].SHA256]
			big.Blob.Size = test.size
			all[big.Blob.SHA256] = big
			binaries[0].Blobs = []bundle.Blob{big.Blob}
			err := d.Files(w.ctx, m.host(), binaries, func(string, int64) {})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Error(err)
			}
			if n := m.total(); n > 0 || len(w.warnings) > 0 {
				t.Errorf("%d bytes were sent; %q", n, w.warnings)
			}
			w.close(d)
		})
	}
}

// A download that hangs ends with ctx, at once, and so does its program.
func TestDownloadCancelled(t *testing.T) {
	w := newWorld(t, 1)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	hangs := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			cancel()
			<-r.Context().Done()
		}
	}))
	defer hangs.Close()
	o := newOrigin(w)
	d := w.delivery(o.options(Auto, hangs.URL))
	w.ctx = ctx
	began := time.Now()
	if err := w.files(d, w.machines[0]); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
	w.nothingRuns()
}

// A server that has died, and one whose file has gone: the blob comes from another peer, or from here. What else those
// peers have is no longer asked of them.
func TestPeerFails(t *testing.T) {
	kubelet := hexSum(bytesOf(1, blobSize))
	t.Run("died", func(t *testing.T) {
		w := newWorld(t, 5)
		d := w.delivery(Options{Way: Peer})
		for _, m := range w.machines[:2] { // the second makes the first serve
			if err := w.files(d, m, "kubelet"); err != nil {
				t.Fatal(err)
			}
		}
		w.kill(w.machines[0])
		os.Remove(w.machines[0].bin("kubelet")) //nolint:errcheck // the server has gone with it
		if err := w.files(d, w.machines[2], "kubelet"); err != nil {
			t.Fatal(err)
		}
		if n := w.machines[2].total(); n > 0 {
			t.Errorf("%d bytes were sent", n)
		}
		w.close(d)
	})
	t.Run("the only one died", func(t *testing.T) {
		w := newWorld(t, 5)
		d := w.delivery(Options{Way: Peer})
		first, second := w.machines[0], w.machines[1]
		if err := errors.Join(w.files(d, first, "kubelet", "kubectl"), w.files(d, second, "kubectl")); err != nil {
			t.Fatal(err)
		}
		w.kill(first)
		if err := w.files(d, second, "kubelet"); err != nil {
			t.Fatal(err)
		}
		if n := second.sent[kubelet]; n != blobSize {
			t.Errorf("%d bytes were sent", n)
		}
		w.close(d)
	})
	t.Run("gone", func(t *testing.T) {
		w := newWorld(t, 5)
		d := w.delivery(Options{Way: Peer})
		first, second := w.machines[0], w.machines[1]
		if err := errors.Join(w.files(d, first, "kubelet", "kubectl"), w.files(d, second, "kubectl")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(first.bin("kubelet"), first.bin("moved")); err != nil {
			t.Fatal(err)
		}
		if err := w.files(d, second, "kubelet"); err != nil {
			t.Fatal(err)
		}
		if n := second.sent[kubelet]; n != blobSize {
			t.Errorf("%d bytes were sent", n)
		}
		w.warned("other hosts did not give it 1 of 1 blobs", "kubelet", "410 Gone")
		if len(w.couriers("serve")) == 0 {
			t.Error("the server has ended")
		}
		w.close(d)
	})
}

// kill kills a machine's server and waits for its end.
func (w *world) kill(m *machine) {
	w.t.Helper()
	servers := w.couriers(m.dir, "serve")
	if len(servers) != 1 {
		w.t.Fatalf("%d servers on %s", len(servers), m.name)
	}
	for len(w.couriers(m.dir, "serve")) > 0 {
		if err := syscall.Kill(servers[0].pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			w.t.Fatal(err)
		}
	}
}

var _ host.Host = (*machine)(nil)

// A file that is wanted at two places is one member of the archive.
func TestMemberTwice(t *testing.T) {
	w := newWorld(t, 1)
	o := newOrigin(w)
	m := w.machines[0]
	d := w.delivery(o.options(Download, o.URL, "kubelet"))
	binaries := append(w.binaries(m, "kubelet"), w.binaries(m, "kubelet")...)
	binaries[1].Target = m.bin("another")
	if err := d.Files(w.ctx, m.host(), binaries, func(string, int64) {}); err != nil {
		t.Fatal(err)
	}
	for _, a := range binaries {
		if got, err := os.ReadFile(a.Target); err != nil || !bytes.Equal(got, w.contents["kubelet"]) {
			t.Errorf("%s: %d bytes, %v", a.Target, len(got), err)
		}
	}
	w.close(d)
}

// A blob that is cut off on its way and comes another way begins anew; what is told of it does not go back.
func TestProgress(t *testing.T) {
	var got []int64
	told := rising(func(n int64) { got = append(got, n) })
	for _, n := range []int64{0, 1, 5, 3, 5, 6} {
		told(n)
	}
	if !slices.Equal(got, []int64{1, 5, 6}) {
		t.Error(got)
	}
}
