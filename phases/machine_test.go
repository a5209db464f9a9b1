package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
)

// errCut is what a machine says to everything after it was cut off.
var errCut = errors.New("cut off")

// machine is a host as the phases see it: the strict fake with systemd, a kernel, containerd, and a clock that goes on by
// a second with everything that is done to it. It can be cut off between any two of those things.
type machine struct {
	*hosttest.Fake
	units *hosttest.Units

	mu       sync.Mutex
	now      int64            // Unix seconds
	written  map[string]int64 // files, when
	started  map[string]int64 // units, when
	onStart  func(unit string)
	onFile   func(path string) // after a file was written or removed
	onCut    func()            // when it is found to be cut off
	left     int               // things that can still be done before it is cut off; negative: any number
	backward bool              // files given to one WriteFiles are written from the last to the first

	kernel     kernel
	containerd containerd
	survey     surveyed
	balancer   *balancer // nil until balance
	mounts     []string  // mount points; one that is mounted over is there twice
}

func newMachine(t testing.TB, name string) *machine {
	f := hosttest.New(t, name)
	m := &machine{
		Fake: f, units: hosttest.Systemd(f), now: 1_800_000_000, left: -1, onStart: func(string) {}, onFile: func(string) {}, onCut: func() {},
		written: map[string]int64{}, started: map[string]int64{},
		containerd: containerd{images: map[string]string{}},
		survey:     surveyed{freeKiB: 100 << 20},
	}
	f.OnPrefix("sh", "-c", UnitScript, "sh").Do(m.showUnit)
	f.OnPrefix("install", "-d", "-m").Changes().Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		mode, err := strconv.ParseUint(cmd.Argv[3], 8, 32)
		f.Mkdir(cmd.Argv[4], fs.FileMode(mode))
		return nil, err
	})
	f.OnPrefix("sh", "-c", waitScript, "sh").Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		if _, ok := f.Get(cmd.Argv[4]); !ok {
			return nil, fmt.Errorf("%s is waited for in vain", cmd.Argv[4])
		}
		return nil, nil
	})
	m.kernel.install(f)
	m.containerd.install(m)
	m.survey.install(f)
	m.installReset()
	return m
}

// do counts one thing that is done to the machine, and refuses it once the machine is cut off.
func (m *machine) do() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		m.onCut()
		return errCut
	}
	m.left--
	m.now++
	return nil
}

// WriteFiles writes the files one by one, so that the machine can be cut off between them.
func (m *machine) WriteFiles(ctx context.Context, files ...host.File) error {
	if m.backward {
		files = slices.Clone(files)
		slices.Reverse(files)
	}
	for _, f := range files {
		if err := m.do(); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		if err := m.Fake.WriteFiles(ctx, f); err != nil {
			return err
		}
		m.note(m.written, f.Path)
		m.onFile(f.Path)
	}
	return nil
}

// Upload puts a blob in place.
func (m *machine) Upload(ctx context.Context, blob host.Blob, progress func(int64)) error {
	if err := m.do(); err != nil {
		return fmt.Errorf("upload %s: %w", blob.Path, err)
	}
	if err := m.Fake.Upload(ctx, blob, progress); err != nil {
		return err
	}
	m.note(m.written, blob.Path)
	return nil
}

// Remove removes the paths one by one.
func (m *machine) Remove(ctx context.Context, paths ...string) error {
	for _, p := range paths {
		if err := m.do(); err != nil {
			return fmt.Errorf("remove %s: %w", p, err)
		}
		if err := m.Fake.Remove(ctx, p); err != nil {
			return err
		}
		m.onFile(p)
	}
	return nil
}

// Run runs a command, and remembers when units were started.
func (m *machine) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	if err := m.do(); err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(cmd.Argv, " "), err)
	}
	out, err := m.Fake.Run(ctx, cmd)
	if err == nil && cmd.Argv[0] == "systemctl" {
		switch cmd.Argv[1] {
		case "enable", "disable": // both end with a daemon-reload, see systemctl(1)
			_, err = m.Fake.Run(ctx, host.Command("systemctl", "daemon-reload"))
		case "start", "restart":
			m.note(m.started, cmd.Argv[2])
			m.onStart(cmd.Argv[2])
		}
	}
	return out, err
}

func (m *machine) note(when map[string]int64, what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	when[what] = m.now
}

// touch writes a file as somebody other than the code under test would.
func (m *machine) touch(path string, mode fs.FileMode, data string) {
	m.Put(host.File{Path: path, Mode: mode, Data: []byte(data)})
	m.mu.Lock()
	m.now++
	m.mu.Unlock()
	m.note(m.written, path)
}

// chmod gives a file another mode.
func (m *machine) chmod(path string, mode fs.FileMode) {
	f, _ := m.Get(path)
	m.Put(host.File{Path: path, Mode: mode, Data: f.Data})
}

// showUnit is UnitScript.
func (m *machine) showUnit(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
	unit, files := cmd.Argv[4], cmd.Argv[5:]
	out, err := f.Query(context.Background(), host.Command("systemctl", "show", "-p", "LoadState,ActiveState,UnitFileState,NeedDaemonReload", unit))
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := strings.Builder{}
	b.Write(out)
	b.WriteString("ExecMainStartTimestamp=")
	if at, ok := m.started[unit]; ok {
		b.WriteString(time.Unix(at, 0).UTC().Format(systemdTime))
	}
	b.WriteByte('\n')
	for _, path := range files {
		if _, ok := f.Get(path); ok {
			fmt.Fprintf(&b, "written=%d\n", m.written[path])
		}
	}
	return []byte(b.String()), nil
}

// state is everything about the machine that lasts: files with their modes, links, images, modules and settings. The
// contents that opaque names are left out: keys differ from run to run.
func (m *machine) state(t testing.TB, opaque func(path string) bool) map[string]string {
	t.Helper()
	infos, err := m.Sums(context.Background(), m.Paths("/")...)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, info := range infos {
		all[info.Path] = fmt.Sprintf("%v %s%s", info.Mode, info.SHA256, info.Target)
		if opaque != nil && opaque(info.Path) {
			all[info.Path] = info.Mode.String()
		}
	}
	for name, digest := range m.containerd.images {
		all["image "+name] = digest
	}
	for name := range m.kernel.modules {
		all["module "+name] = "loaded"
	}
	for name, value := range m.kernel.settings {
		all["sysctl "+name] = value
	}
	return all
}
