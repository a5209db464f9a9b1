package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/courier"
	"github.com/myadm/myadm/host"
)

// checkImported checks that a machine has imported images as the bundle gives them, and that the library's own reader
// finds them good.
func (w *world) checkImported(m *machine, names ...string) {
	w.t.Helper()
	got := w.imported(m)
	if len(got) != len(w.images(names...)) {
		w.t.Errorf("%s has imported %d images, want %d", m.name, len(got), len(w.images(names...)))
	}
	for _, a := range w.images(names...) {
		content, _, err := w.bundle.Archive(w.ctx, a)
		if err != nil {
			w.t.Fatal(err)
		}
		want := untar(w.t, content)
		content.Close()
		if diff := cmp.Diff(want, got[a.Name]); diff != "" {
			w.t.Errorf("%s on %s differs", a.Name, m.name)
		}
		dir := w.t.TempDir()
		for name, content := range got[a.Name] {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o600)); err != nil {
				w.t.Fatal(err)
			}
		}
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := validate.Index(index, validate.Fast); err != nil {
			w.t.Error(err)
		}
	}
}

// An upload needs no courier: binaries are uploaded, and images streamed into the command.
func TestUpload(t *testing.T) {
	w := newWorld(t, 1)
	m := w.machines[0]
	d := w.delivery(Options{Way: Upload})
	d.packed = func(string) ([]byte, error) { t.Error("a courier is asked for"); return nil, nil }
	if err := errors.Join(w.files(d, m), w.import_(d, m)); err != nil {
		t.Fatal(err)
	}
	w.checkImported(m)
	w.close(d)
	if left := m.under(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Among five hosts each blob leaves from here once, whatever is asked for at the same time, and is everywhere in the end.
func TestPeers(t *testing.T) {
	w := newWorld(t, 5)
	d := w.delivery(Options{Way: Peer})
	err := w.everywhere(func(m *machine) error {
		var g errgroup.Group
		g.Go(func() error { return w.files(d, m) })
		g.Go(func() error { return w.import_(d, m, "etcd") })
		g.Go(func() error { return w.import_(d, m, "pause") })
		return g.Wait()
	})
	if err != nil {
		t.Fatal(err)
	}
	w.sentOnce()
	for _, m := range w.machines {
		w.checkImported(m)
	}
	w.close(d)
	for _, m := range w.machines {
		if _, err := os.Stat(m.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", m.dir, m.under(t))
		}
		for _, argv := range m.argvs {
			if line := strings.Join(argv, " "); strings.Contains(line, "Bearer") || strings.Contains(line, "PRIVATE") {
				t.Errorf("a secret in %q", line)
			}
		}
	}
	if len(w.warnings) > 0 {
		t.Errorf("%q", w.warnings)
	}
}

// sentOnce checks that every blob of the bundle was sent to one machine, once and as it is stored.
func (w *world) sentOnce() {
	w.t.Helper()
	for _, b := range bundle.Blobs(w.bundle.Index.Artifacts) {
		b = b.Stored()
		var sent int64
		for _, m := range w.machines {
			sent += m.sent[b.SHA256]
		}
		if sent != b.Size {
			w.t.Errorf("%d bytes were sent of blob %.8s, which has %d", sent, b.SHA256, b.Size)
		}
	}
}

// A build without couriers uploads, unless it was told otherwise.
func TestNotEmbedded(t *testing.T) {
	for _, way := range []Way{Auto, Peer, Download} {
		t.Run(string(way), func(t *testing.T) {
			w := newWorld(t, 3)
			d := w.delivery(Options{Way: way})
			if way == Download {
				d.Origins = func(context.Context) (map[string]Origin, error) { return nil, nil }
			}
			d.packed = func(arch string) ([]byte, error) { return nil, fmt.Errorf("%w for %s", courier.ErrNotEmbedded, arch) }
			m := w.machines[0]
			err := errors.Join(w.files(d, m), w.import_(d, m))
			if way != Auto {
				if !errors.Is(err, courier.ErrNotEmbedded) || m.total() > 0 {
					t.Errorf("%d bytes, %v", m.total(), err)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				w.checkImported(m)
				w.warned("all is sent from here", "no courier for amd64")
			}
			w.close(d)
		})
	}
}

func TestNothingToDownload(t *testing.T) {
	w := newWorld(t, 1)
	d := w.delivery(Options{Way: Download})
	if err := w.files(d, w.machines[0]); err == nil || !strings.Contains(err.Error(), "hint: --delivery") {
		t.Error(err)
	}
	w.close(d)
}

// What a failed delivery brought is there for the next one. What a good one brought is not needed any more.
func TestGoOn(t *testing.T) {
	w := newWorld(t, 3)
	m := w.machines[0]
	d := w.delivery(Options{Way: Peer})
	err := d.Images(w.ctx, m.host(), w.images("etcd"), []string{"sh", "-c", "cat >/dev/null; echo sorry >&2; exit 3"}, func(string, int64) {})
	if code, _ := host.ExitCode(err); code != 3 || !strings.Contains(err.Error(), "import registry.example/etcd:1") ||
		!strings.Contains(err.Error(), "sorry") || strings.Contains(err.Error(), "tar -cf") {
		t.Fatal(err)
	}
	w.close(d)
	if m.has(t, "courier-") || !m.has(t, "blobs/") {
		t.Errorf("left: %v", m.under(t))
	}
	before := m.total()

	d = w.delivery(Options{Way: Peer})
	if err := w.import_(d, m, "etcd"); err != nil {
		t.Fatal(err)
	}
	w.checkImported(m, "etcd")
	if after := m.total(); before == 0 || after != before {
		t.Errorf("%d bytes were sent at first, %d in all", before, after)
	}
	w.close(d)
	if left := m.under(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// When ctx ends, all hosts stop, those that send and those that wait for others.
func TestCancelled(t *testing.T) {
	w := newWorld(t, 5)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	w.ctx = ctx
	for _, m := range w.machines {
		m.inUpload = func(ctx context.Context, blob host.Blob) error {
			cancel() // by then some send and the others wait
			<-ctx.Done()
			return context.Cause(ctx)
		}
	}
	d := w.delivery(Options{Way: Peer})
	err := w.everywhere(func(m *machine) error { return errors.Join(w.files(d, m), w.import_(d, m)) })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
	w.nothingRuns()
}

// Who asks for a file has looked: that the host had it once does not count. Peers do not ask there any more either.
func TestMoved(t *testing.T) {
	w := newWorld(t, 3)
	m := w.machines[0]
	d := w.delivery(Options{Way: Peer})
	for range 2 {
		if err := w.files(d, m, "kubelet"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(m.bin("kubelet"), m.bin("moved")); err != nil {
			t.Fatal(err)
		}
	}
	w.close(d)
}

// A delivery of nothing costs nothing.
func TestNothing(t *testing.T) {
	w := newWorld(t, 1)
	m := w.machines[0]
	d := w.delivery(Options{Way: Peer})
	told := func(string, int64) { t.Error("told of something") }
	if err := errors.Join(d.Files(w.ctx, m.host(), nil, told), d.Images(w.ctx, m.host(), nil, m.importing(), told)); err != nil {
		t.Error(err)
	}
	w.close(d)
	if len(m.argvs) > 0 {
		t.Errorf("%q", m.argvs)
	}
}

// A blob that has gone by the time of the import is an error, also where the command takes what it gets.
func TestImportLacks(t *testing.T) {
	w := newWorld(t, 3)
	m := w.machines[0]
	d := w.delivery(Options{Way: Peer})
	a := w.images("etcd")[0]
	m.meddle = func(_ context.Context, cmd host.Cmd) {
		if slices.Contains(cmd.Argv, importScript) {
			os.Remove(filepath.Join(m.dir, bundle.BlobPath(a.Blobs[2].SHA256))) //nolint:errcheck // the error is seen below
		}
	}
	err := w.import_(d, m, "etcd")
	if err == nil || !strings.Contains(err.Error(), "import "+a.Image) || !strings.Contains(err.Error(), a.Blobs[2].SHA256) {
		t.Error(err)
	}
	w.close(d)
}

// A command that ends before it has read its image is an error with its words, by either way.
func TestImportEndsEarly(t *testing.T) {
	for _, way := range []Way{Upload, Peer} {
		w := newWorld(t, 3)
		d := w.delivery(Options{Way: way})
		command := []string{"sh", "-c", "echo no room >&2; exit 5"}
		err := d.Images(w.ctx, w.machines[0].host(), w.images(), command, func(string, int64) {})
		if code, _ := host.ExitCode(err); code != 5 || !strings.Contains(err.Error(), "no room") {
			t.Errorf("%s: %v", way, err)
		}
		w.close(d)
	}
}

// Two names of one image are imported at the same time, each by its own.
func TestTwoNames(t *testing.T) {
	w := newWorld(t, 3)
	m := w.machines[0]
	d := w.delivery(Options{Way: Peer})
	images := append(w.images("etcd"), w.images("etcd")...)
	images[1].Name, images[1].Image = "other", "registry.example/other:1"
	if err := d.Images(w.ctx, m.host(), images, m.importing(), func(string, int64) {}); err != nil {
		t.Fatal(err)
	}
	if layouts, err := os.ReadDir(filepath.Join(m.dir, "layouts")); err != nil || len(layouts) != 2 {
		t.Errorf("%d layouts, %v", len(layouts), err)
	}
	w.close(d)
}

// What is read after the end of a command is neither read from the bundle nor told.
func TestCountingReader(t *testing.T) {
	var told []int64
	c := &countingReader{r: io.NopCloser(strings.NewReader("12345")), told: func(n int64) { told = append(told, n) }}
	for range 2 {
		if n, err := c.Read(make([]byte, 2)); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if n, err := c.Read(make([]byte, 2)); n != 0 || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%d, %v", n, err)
	}
	if diff := cmp.Diff([]int64{2, 4}, told); diff != "" {
		t.Error(diff)
	}
}
