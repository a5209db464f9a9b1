package delivery

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/local"
)

// theCourier is the real program, gzipped. A plain `go test` has none embedded.
var theCourier []byte

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "courier-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "courier")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "../courier/cmd/courier")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the courier: %v\n%s", err, out)
		return 1
	}
	content, err := os.ReadFile(program)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	theCourier = gzipped(content)
	return m.Run()
}

func gzipped(content []byte) []byte {
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // the level is known
	w.Write(content)                                     //nolint:errcheck // a buffer takes everything
	w.Close()
	return packed.Bytes()
}

// machine is this machine as one of several hosts: with a name and folders of its own. It counts what it is sent.
type machine struct {
	host.Host
	name, dir string

	wrap     []string                                // put before the command line of couriers
	meddle   func(ctx context.Context, cmd host.Cmd) // called before a command
	inUpload func(ctx context.Context, blob host.Blob) error

	mu       sync.Mutex
	sent     map[string]int64 // bytes of blobs that were read to be sent here, by SHA-256
	streamed int64            // bytes of standard input of imports
	argvs    [][]string
}

func (m *machine) Name() string { return m.name }

func (m *machine) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	m.mu.Lock()
	m.argvs = append(m.argvs, cmd.Argv)
	m.mu.Unlock()
	if m.meddle != nil {
		m.meddle(ctx, cmd)
	}
	if strings.HasPrefix(cmd.Argv[0], filepath.Join(m.dir, "courier-")) {
		cmd.Argv = append(slices.Clone(m.wrap), cmd.Argv...)
	}
	if cmd.Stdin != nil && cmd.Stdout == nil {
		cmd.Stdin = &metered{cmd.Stdin, func(n int) { m.mu.Lock(); defer m.mu.Unlock(); m.streamed += int64(n) }}
	}
	return m.Host.Run(ctx, cmd)
}

func (m *machine) Upload(ctx context.Context, blob host.Blob, progress func(int64)) error {
	if m.inUpload != nil {
		if err := m.inUpload(ctx, blob); err != nil {
			return err
		}
	}
	open := blob.Open
	blob.Open = func() (io.ReadSeekCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		add := func(n int) { m.mu.Lock(); defer m.mu.Unlock(); m.sent[blob.SHA256] += int64(n) }
		return struct {
			io.Reader
			io.Seeker
			io.Closer
		}{&metered{r, add}, r, r}, nil
	}
	return m.Host.Upload(ctx, blob, progress)
}

type metered struct {
	io.Reader
	add func(n int)
}

func (r *metered) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.add(n)
	return n, err
}

// host is the machine as a delivery gets it.
func (m *machine) host() Host {
	return Host{Host: m, Arch: "amd64", Address: netip.MustParseAddr("127.0.0.1"), Dir: m.dir}
}

// total is how many bytes of blobs were sent to it.
func (m *machine) total() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, bytes := range m.sent {
		n += bytes
	}
	return n
}

// world is a bundle and machines.
type world struct {
	t        *testing.T
	ctx      context.Context
	bundle   *bundle.Bundle
	machines []*machine
	contents map[string][]byte // of the binaries, by name

	mu       sync.Mutex
	warnings []string
}

const blobSize = 300_000

// bytesOf are n bytes, always the same for a seed.
func bytesOf(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) //nolint:errcheck // it never fails
	return b
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// newWorld has so many machines, and a bundle of three binaries, one of them compressed, and two images. The images share a layer, whose bytes are
// also those of a binary.
func newWorld(t *testing.T, machines int) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, contents: map[string][]byte{
		"kubelet": bytesOf(1, blobSize), "kubectl": bytes.Repeat(bytesOf(2, blobSize/16), 16), "shared": bytesOf(3, blobSize),
	}}
	dir := t.TempDir()
	path := filepath.Join(dir, "bundle")
	writer, err := bundle.Create(path, "v1.37.2")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kubelet", "kubectl", "shared"} {
		err := writer.AddBinary(artifact(bundle.Artifact{Name: name, Target: "/usr/bin/" + name, Mode: 0o755}), bytes.NewReader(w.contents[name]))
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"etcd", "pause"} {
		a := artifact(bundle.Artifact{Name: name, Image: "registry.example/" + name + ":1"})
		if err := writer.AddImage(a, imageOf(t, w.contents["shared"], bytesOf(byte(10+i), blobSize))); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if w.bundle, err = bundle.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.bundle.Close() })
	here, err := local.New()
	if err != nil {
		t.Fatal(err)
	}
	for i := range machines {
		name := fmt.Sprintf("h%d", i+1)
		m := &machine{Host: here, name: name, dir: filepath.Join(dir, name, "lib"), sent: map[string]int64{}}
		if err := os.MkdirAll(filepath.Join(dir, name, "imported"), 0o755); err != nil {
			t.Fatal(err)
		}
		w.machines = append(w.machines, m)
	}
	return w
}

func artifact(a bundle.Artifact) bundle.Artifact {
	a.Version, a.OS, a.Arch, a.Roles = "v1.0.0", "linux", "amd64", []bundle.Role{bundle.RoleNode}
	return a
}

func imageOf(t *testing.T, layers ...[]byte) v1.Image {
	t.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, content := range layers {
		var err error
		if image, err = mutate.AppendLayers(image, static.NewLayer(content, types.OCILayerZStd)); err != nil {
			t.Fatal(err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// delivery is a new Delivery of the bundle, with the real courier.
func (w *world) delivery(o Options) *Delivery {
	o.Bundle = w.bundle
	if o.Hosts == 0 {
		o.Hosts = len(w.machines)
	}
	o.Warn = func(_ context.Context, message string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.warnings = append(w.warnings, message)
	}
	d := New(o)
	d.packed = func(string) ([]byte, error) { return theCourier, nil }
	return d
}

// warned tells whether there was a warning with all of the words.
func (w *world) warned(words ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, warning := range w.warnings {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(warning, word) }) {
			return
		}
	}
	w.t.Errorf("no warning of %q; there are %q", words, w.warnings)
}

// binaries are those of the bundle, with targets in the machine's folder.
func (w *world) binaries(m *machine, names ...string) []bundle.Artifact {
	var all []bundle.Artifact
	for _, a := range w.bundle.Select("amd64", bundle.RoleNode) {
		if a.Kind == bundle.KindBinary && (len(names) == 0 || slices.Contains(names, a.Name)) {
			a.Target = m.bin(a.Name)
			all = append(all, a)
		}
	}
	return all
}

func (m *machine) bin(name string) string { return filepath.Join(filepath.Dir(m.dir), "bin", name) }

func (w *world) images(names ...string) []bundle.Artifact {
	var all []bundle.Artifact
	for _, a := range w.bundle.Select("amd64", bundle.RoleNode) {
		if a.Kind == bundle.KindImage && (len(names) == 0 || slices.Contains(names, a.Name)) {
			all = append(all, a)
		}
	}
	return all
}

// importing is a command that keeps each tar that it reads.
func (m *machine) importing() []string {
	return []string{"sh", "-c", `cat >"$(mktemp "$1/XXXXXX")"`, "sh", filepath.Join(filepath.Dir(m.dir), "imported")}
}

// files delivers binaries to a machine, all when none is named, and checks them and their progress.
func (w *world) files(d *Delivery, m *machine, names ...string) error {
	binaries := w.binaries(m, names...)
	progress := newProgress(w.t)
	if err := d.Files(w.ctx, m.host(), binaries, progress.told); err != nil {
		return err
	}
	for _, a := range binaries {
		got, err := os.ReadFile(a.Target)
		if err != nil || !bytes.Equal(got, w.contents[a.Name]) {
			return fmt.Errorf("%s: %d bytes, %w", a.Target, len(got), err)
		}
		if info, err := os.Stat(a.Target); err != nil || info.Mode() != 0o755 {
			return fmt.Errorf("%s: mode %v, %w", a.Target, info.Mode(), err)
		}
		progress.reached(a)
	}
	return nil
}

// import_ delivers images to a machine and checks their progress.
func (w *world) import_(d *Delivery, m *machine, names ...string) error {
	progress := newProgress(w.t)
	if err := d.Images(w.ctx, m.host(), w.images(names...), m.importing(), progress.told); err != nil {
		return err
	}
	for _, a := range w.images(names...) {
		progress.reached(a)
	}
	return nil
}

// progress checks what is told: it grows, and ends with all.
type progress struct {
	t  *testing.T
	mu sync.Mutex
	at map[string]int64
}

func newProgress(t *testing.T) *progress { return &progress{t: t, at: map[string]int64{}} }

func (p *progress) told(name string, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if bytes < p.at[name] {
		p.t.Errorf("progress of %s goes back from %d to %d", name, p.at[name], bytes)
	}
	p.at[name] = bytes
}

func (p *progress) reached(a bundle.Artifact) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at[a.Name] != a.Size() {
		p.t.Errorf("progress of %s ends at %d of %d", a.Name, p.at[a.Name], a.Size())
	}
}

// everywhere does something for all machines at once.
func (w *world) everywhere(do func(m *machine) error) error {
	var g errgroup.Group
	for _, m := range w.machines {
		g.Go(func() error { return do(m) })
	}
	return g.Wait()
}

// imported are the tars that a machine's import command read, each as its files by name, by the image's name.
func (w *world) imported(m *machine) map[string]map[string][]byte {
	w.t.Helper()
	dir := filepath.Join(filepath.Dir(m.dir), "imported")
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]map[string][]byte{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			w.t.Fatal(err)
		}
		files := untar(w.t, bytes.NewReader(content))
		name := "none"
		for _, a := range w.images() {
			if bytes.Contains(files["index.json"], []byte(`"`+a.Image+`"`)) {
				name = a.Name
			}
		}
		if all[name] != nil {
			w.t.Errorf("%s was imported twice on %s", name, m.name)
		}
		all[name] = files
	}
	return all
}

func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil || h.Typeflag != tar.TypeReg || files[h.Name] != nil {
			t.Fatalf("%s of type %c, %v; want each file once", h.Name, h.Typeflag, err)
		}
		files[h.Name] = content
	}
}

// close closes a delivery, and checks that nothing of it runs any more.
func (w *world) close(d *Delivery) {
	w.t.Helper()
	if err := d.Close(w.ctx); err != nil {
		w.t.Error(err)
	}
	w.nothingRuns()
}

// nothingRuns waits until no courier and no goroutine of a delivery is left.
func (w *world) nothingRuns() {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for {
		left := goroutines()
		for _, p := range w.couriers() {
			left = append(left, fmt.Sprint(p))
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late.C:
			w.t.Fatalf("still there: %s", strings.Join(left, "\n\n"))
		}
	}
}

// process is a running courier.
type process struct {
	pid  int
	line string
}

// couriers are those of the world's machines whose command line has all of the words.
func (w *world) couriers(words ...string) (found []process) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, _ := os.ReadFile(file) // nothing, when it has just ended
		p := process{line: strings.ReplaceAll(string(line), "\x00", " ")}
		p.pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(file)))
		lacks := func(word string) bool { return !strings.Contains(p.line, word) }
		if !slices.ContainsFunc(append(words, filepath.Dir(w.bundle.Path()), "/courier-"), lacks) {
			found = append(found, p)
		}
	}
	return found
}

// goroutines are the stacks of those that a delivery has started.
func goroutines() (found []string) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		of := func(part string) bool { return strings.Contains(stack, "myadm/myadm/"+part) }
		if (of("delivery") || of("courier") || of("host")) && !strings.Contains(stack, "testing.tRunner(") && !strings.Contains(stack, "testing.(*M).Run") {
			found = append(found, stack)
		}
	}
	return found
}

// under are the files below a machine's Dir, relative to it.
func (m *machine) under(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(m.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			name, _ := filepath.Rel(m.dir, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

// has tells whether there is a file below Dir whose name begins so.
func (m *machine) has(t *testing.T, prefix string) bool {
	t.Helper()
	return slices.ContainsFunc(m.under(t), func(name string) bool { return strings.HasPrefix(name, prefix) })
}
