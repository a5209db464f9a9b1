package host

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// CheckPath refuses what no Host accepts as a path: relative ones, unclean ones, and ones that hold a NUL.
func CheckPath(name string) error {
	if !path.IsAbs(name) || path.Clean(name) != name || strings.ContainsRune(name, 0) {
		return fmt.Errorf("path %q is not absolute and clean", name)
	}
	return nil
}

// CheckPaths is CheckPath for many.
func CheckPaths(names ...string) error {
	for _, name := range names {
		if err := CheckPath(name); err != nil {
			return err
		}
	}
	return nil
}

// CheckMode refuses a mode with more than permission bits, and 0: a file that nobody set a mode for.
func CheckMode(name string, mode fs.FileMode) error {
	if mode == 0 || mode != mode.Perm() {
		return fmt.Errorf("%s: mode %v is not one of a file that is written", name, mode)
	}
	return nil
}

// CheckFiles refuses files that no Host writes: a wrong path or mode, or the same path twice.
func CheckFiles(files ...File) error {
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		if err := CheckPath(f.Path); err != nil {
			return err
		}
		if err := CheckMode(f.Path, f.Mode); err != nil {
			return err
		}
		if seen[f.Path] {
			return fmt.Errorf("%s is written twice in one call", f.Path)
		}
		seen[f.Path] = true
	}
	return nil
}

// CheckRemove refuses paths that Remove must never be given: those of CheckPath and the root folder.
func CheckRemove(names ...string) error {
	for _, name := range names {
		if name == "/" {
			return fmt.Errorf("the root folder is not removed")
		}
	}
	return CheckPaths(names...)
}

// CheckBlob refuses blobs that no Host uploads.
func CheckBlob(b Blob) error {
	if sum, err := hex.DecodeString(b.SHA256); err != nil || len(sum) != sha256.Size || strings.ToLower(b.SHA256) != b.SHA256 {
		return fmt.Errorf("upload %s: %q is no SHA-256 in lower-case hex", b.Path, b.SHA256)
	}
	if b.Size < 0 || b.Open == nil {
		return fmt.Errorf("upload %s: there is nothing to open", b.Path)
	}
	return CheckFiles(File{Path: b.Path, Mode: b.Mode})
}

// FullError is a file that could not be written because its disk is full.
type FullError struct {
	Path string // the folder
	Err  error  // what the write said
}

func (e *FullError) Error() string {
	return fmt.Sprintf("the disk of %s is full (%v); hint: make room there and run the same command again", e.Path, e.Err)
}

func (e *FullError) Unwrap() error { return e.Err }

// PartPath is where a blob is until all of it is on the host: a hidden file beside its place. The name has a part of the
// sum, so that only the same content goes on with what an earlier upload left.
func PartPath(b Blob) string {
	return path.Join(path.Dir(b.Path), "."+path.Base(b.Path)+".myadm-"+b.SHA256[:8]+".part")
}

// TempPath is where a file is written before it takes its place: hidden beside it. The name is always the same, so that
// whoever writes the file next replaces what a killed run has left there, which may be a key.
func TempPath(file string) string {
	return path.Join(path.Dir(file), "."+path.Base(file)+".myadm-new")
}
