package hosttest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/myadm/myadm/host"
)

// folderMode is that of folders which are made because something is put into them.
const folderMode = fs.ModeDir | 0o755

// node is what stands at a path: a file, a folder or a symbolic link, as the type bits of mode say.
type node struct {
	mode   fs.FileMode
	data   []byte
	target string
}

// tree is a file system in memory: clean absolute paths to nodes. Every node but the root has its folder in the tree.
type tree map[string]*node

func newTree() tree { return tree{"/": {mode: folderMode}} }

// resolve follows symbolic links in the folders of name, and in its last part too when last is set.
func (tr tree) resolve(name string, last bool) (string, error) {
	done, todo := "/", strings.Split(strings.Trim(name, "/"), "/")
	for hops := 0; len(todo) > 0; {
		next := path.Join(done, todo[0])
		todo = todo[1:]
		n := tr[next]
		if n != nil && n.mode&fs.ModeSymlink != 0 && (last || len(todo) > 0) {
			if hops++; hops > 40 {
				return "", pathError("open", name, syscall.ELOOP)
			}
			target := n.target
			if !path.IsAbs(target) {
				target = path.Join(done, target)
			}
			done, todo = "/", append(strings.Split(strings.Trim(path.Clean(target), "/"), "/"), todo...)
			continue
		}
		if n != nil && !n.mode.IsDir() && len(todo) > 0 {
			return "", pathError("open", name, syscall.ENOTDIR)
		}
		done = next
	}
	return done, nil
}

// put places a node, making the folders above it.
func (tr tree) put(name string, n *node) error {
	name, err := tr.resolve(name, false)
	if err != nil {
		return err
	}
	if old := tr[name]; old != nil && old.mode.IsDir() && !n.mode.IsDir() {
		return pathError("rename", name, syscall.EISDIR)
	}
	for dir := path.Dir(name); tr[dir] == nil; dir = path.Dir(dir) {
		tr[dir] = &node{mode: folderMode}
	}
	tr[name] = n
	return nil
}

func (tr tree) read(name string) ([]byte, error) {
	real, err := tr.resolve(name, true)
	if err != nil {
		return nil, err
	}
	switch n := tr[real]; {
	case n == nil:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n.mode.IsDir():
		return nil, pathError("read", name, syscall.EISDIR)
	default:
		return slices.Clone(n.data), nil
	}
}

func (tr tree) info(name string, sum bool) host.Info {
	real, err := tr.resolve(name, false)
	n := tr[real]
	if err != nil || n == nil {
		return host.Info{Path: name}
	}
	info := host.Info{Path: name, Exists: true, Mode: n.mode, Size: int64(len(n.data)), Target: n.target}
	if sum && n.mode.IsRegular() {
		info.SHA256 = hexSum(n.data)
	}
	return info
}

// below lists the paths under a folder, in order.
func (tr tree) below(name string) []string {
	prefix := strings.TrimSuffix(name, "/") + "/"
	var names []string
	for _, p := range slices.Sorted(maps.Keys(tr)) {
		if p != name && strings.HasPrefix(p, prefix) {
			names = append(names, p)
		}
	}
	return names
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// lost is the error of a host that cannot be reached any more.
func lost(name string, err error) error { return fmt.Errorf("%s: connection lost: %w", name, err) }
