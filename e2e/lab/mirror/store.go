package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// store is a folder of blobs, each named by its SHA-256 in hex, as blobs/sha256/HEX. Blobs are never changed in place, so
// one may be a hard link to a bundle's. Beside them are notes on what was packed, and the blobs that users push.
type store struct{ dir string }

func openStore(dir string) (store, error) {
	for _, sub := range []string{"blobs/sha256", "packed", "pushed"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return store{}, fmt.Errorf("mirror's store: %w", err)
		}
	}
	return store{dir}, nil
}

func (s store) path(sum string) string { return filepath.Join(s.dir, "blobs", "sha256", sum) }

func (s store) pushed() string { return filepath.Join(s.dir, "pushed") }

func (s store) has(sum string) bool {
	info, err := os.Stat(s.path(sum))
	return err == nil && info.Mode().IsRegular()
}

// link takes a file in as the blob sum, without reading it where the file system allows it.
func (s store) link(file, sum string) error {
	err := os.Link(file, s.path(sum))
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	source, err := os.Open(file) // on another file system
	if err != nil {
		return err
	}
	defer source.Close()
	return s.putAs(sum, source)
}

// put stores what r gives and returns its SHA-256.
func (s store) put(r io.Reader) (sum string, err error) {
	file, err := os.CreateTemp(s.dir, ".new-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name()) // gone already, unless something failed
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, hash), r)
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return "", err
	}
	sum = hex.EncodeToString(hash.Sum(nil))
	return sum, os.Rename(file.Name(), s.path(sum))
}

// putAs is put for a blob whose SHA-256 is known. One that is there already is not read again.
func (s store) putAs(sum string, r io.Reader) error {
	if s.has(sum) {
		return nil
	}
	got, err := s.put(r)
	if err == nil && got != sum {
		err = fmt.Errorf("blob has sha256 %s instead of %s", got, sum)
	}
	return err
}
