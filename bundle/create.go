package bundle

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Writer makes a bundle in a folder.
type Writer struct {
	dir   string
	index Index
}

// Create starts a bundle in dir, which must not hold one yet.
func Create(dir, kubernetesVersion string) (*Writer, error) {
	if _, err := os.Lstat(filepath.Join(dir, indexName)); err == nil {
		return nil, fmt.Errorf("create bundle: %s already holds one; hint: remove it or choose another folder", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return nil, fmt.Errorf("create bundle: %w", err)
	}
	return &Writer{dir, Index{APIVersion: APIVersion, KubernetesVersion: kubernetesVersion}}, nil
}

// Add stores an artifact with the content of r. It fills in Path, Size and SHA256.
func (w *Writer) Add(a Artifact, r io.Reader) error {
	a, err := w.store(a, r)
	if err != nil {
		return fmt.Errorf("add %s to bundle %s: %w", a.Name, w.dir, err)
	}
	w.index.Artifacts = append(w.index.Artifacts, a)
	return nil
}

func (w *Writer) store(a Artifact, r io.Reader) (Artifact, error) {
	blobs := filepath.Join(w.dir, "blobs", "sha256")
	file, err := os.CreateTemp(blobs, ".new-*")
	if err != nil {
		return a, err
	}
	defer os.Remove(file.Name()) // gone already, unless something failed
	hash := sha256.New()
	a.Size, err = io.Copy(io.MultiWriter(file, hash), r)
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return a, err
	}
	a.SHA256 = hex.EncodeToString(hash.Sum(nil))
	a.Path = "blobs/sha256/" + a.SHA256
	return a, os.Rename(file.Name(), filepath.Join(blobs, a.SHA256))
}

// Close checks and writes the index. A folder without one is not a bundle, so it comes last and in one piece.
func (w *Writer) Close() error {
	if err := w.index.validate(); err != nil {
		return fmt.Errorf("bundle %s: %w", w.dir, err)
	}
	data, err := json.MarshalIndent(w.index, "", "  ")
	if err != nil {
		return fmt.Errorf("bundle %s: %w", w.dir, err)
	}
	name := filepath.Join(w.dir, indexName)
	if err := os.WriteFile(name+".new", append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("bundle %s: %w", w.dir, err)
	}
	return os.Rename(name+".new", name)
}

// WriteTar writes the bundle as one tar file, verifying as it goes. The same bundle gives the same bytes.
func (b *Bundle) WriteTar(ctx context.Context, w io.Writer) error {
	out := tar.NewWriter(w)
	index, _, err := b.blobs.open(indexName)
	if err != nil {
		return fmt.Errorf("bundle %s: %w", b.path, err)
	}
	defer index.Close()
	if err := writeEntry(out, indexName, index); err != nil {
		return fmt.Errorf("bundle %s: %w", b.path, err)
	}
	for _, a := range unique(b.Index.Artifacts) {
		blob, err := b.Open(ctx, a)
		if err != nil {
			return err
		}
		if err := errors.Join(writeEntry(out, a.Path, blob), blob.Close()); err != nil {
			return b.describe(a, err)
		}
	}
	return out.Close()
}

func writeEntry(out *tar.Writer, name string, content io.ReadSeeker) error {
	size, err := content.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return err
}
