package hosttest

import (
	"context"
	"io/fs"
	"net"
	"slices"

	"github.com/myadm/myadm/host"
)

// What a test arranges, and what it looks at afterwards. None of it counts as done by the code under test.

// Put places files, with the folders above them.
func (f *Fake) Put(files ...host.File) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.strict(host.CheckFiles(files...)) != nil {
		return
	}
	for _, file := range files {
		f.place(file.Path, &node{mode: file.Mode, data: slices.Clone(file.Data)})
	}
}

// Mkdir places a folder.
func (f *Fake) Mkdir(path string, perm fs.FileMode) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.place(path, &node{mode: fs.ModeDir | perm.Perm()})
}

// Symlink places a symbolic link.
func (f *Fake) Symlink(target, path string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.place(path, &node{mode: fs.ModeSymlink | 0o777, target: target})
}

// Mount makes a folder a mount point.
func (f *Fake) Mount(path string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.place(path, &node{mode: folderMode})
	f.mounts[path] = true
}

// Unmount undoes Mount. What stood in the folder stays.
func (f *Fake) Unmount(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mounts, path)
}

// Delete takes away a path and what is below it, as something other than the code under test would.
func (f *Fake) Delete(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range append(f.files.below(path), path) {
		delete(f.files, b)
	}
}

func (f *Fake) place(path string, n *node) {
	f.t.Helper()
	if f.strict(host.CheckPath(path)) == nil {
		f.strict(f.files.put(path, n)) //nolint:errcheck // strict has failed the test
	}
}

// Get returns the file at a path, following links, and false when there is none.
func (f *Fake) Get(path string) (host.File, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := f.files.read(path)
	if err != nil {
		return host.File{}, false
	}
	real, _ := f.files.resolve(path, true)
	return host.File{Path: path, Mode: f.files[real].mode.Perm(), Data: data}, true
}

// Paths lists everything below a folder, in order.
func (f *Fake) Paths(below string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files.below(below)
}

// OnDial sets what Dial does.
func (f *Fake) OnDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dial = dial
}

// FailWrites makes writing, uploading and removing a path fail; nil heals it.
func (f *Fake) FailWrites(path string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures[path] = err
}

// Lose makes every call fail as if the connection were gone; nil brings it back.
func (f *Fake) Lose(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && f.lost == nil:
		f.die(lost(f.name, err))
	case err == nil && f.lost != nil:
		f.revive()
	}
	f.lost = err
}

// Writes lists the paths that WriteFiles and Upload wrote, in order, one entry for each time.
func (f *Fake) Writes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.writes)
}

// Removed lists the paths given to Remove that were there, in order.
func (f *Fake) Removed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.removed)
}

// Commands lists all calls of Query and Run, in order.
func (f *Fake) Commands() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.commands)
}

// Runs lists the command lines that came through Run, in order.
func (f *Fake) Runs() []string {
	var lines []string
	for _, c := range f.Commands() {
		if !c.Query {
			lines = append(lines, c.String())
		}
	}
	return lines
}

// ResetRecord forgets Writes, Removed and Commands, so that a second Apply can be looked at alone.
func (f *Fake) ResetRecord() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes, f.removed, f.commands = nil, nil, nil
}
