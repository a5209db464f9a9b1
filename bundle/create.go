package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Writer makes a bundle. What it is given is kept beside the bundle's place, under another name, until Close: there is
// never half a bundle under the bundle's own. It is for one goroutine.
type Writer struct {
	path   string
	dir    string // holds the bundle as a folder while it grows; empty: there is nothing to do any more
	index  Index
	stored map[string]Blob // by the content's checksum
}

// Create starts a bundle at path: one tar file where path ends in ".tar", else a folder. There must be nothing yet, apart
// from an empty folder. The folders above are made. Close or Discard ends it.
func Create(path, kubernetesVersion string) (*Writer, error) {
	place, err := filepath.Abs(path) // also of "." there is a folder above then
	if err != nil {
		return nil, fmt.Errorf("create bundle: %w", err)
	}
	w := &Writer{path: place, index: Index{APIVersion: APIVersion, KubernetesVersion: kubernetesVersion}, stored: map[string]Blob{}}
	if err := w.start(); err != nil {
		return nil, fmt.Errorf("create bundle: %w", err)
	}
	return w, nil
}

func (w *Writer) start() error {
	entries, err := os.ReadDir(w.path)
	if err == nil && w.isTar() || len(entries) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is there already; hint: remove it or choose another place", w.path)
	}
	if err := os.MkdirAll(filepath.Dir(w.path), 0o755); err != nil {
		return err
	}
	// The name begins with the bundle's, so that whoever clears what a killed run left in a folder sees whose it is.
	w.dir, err = os.MkdirTemp(filepath.Dir(w.path), filepath.Base(w.path)+".new-*")
	if err != nil {
		return err
	}
	err = errors.Join(os.Chmod(w.dir, 0o755), os.MkdirAll(filepath.Join(w.dir, blobsFolder), 0o755))
	if err != nil {
		return errors.Join(err, w.Discard())
	}
	return nil
}

func (w *Writer) isTar() bool { return strings.HasSuffix(w.path, ".tar") }

// AddBinary stores a binary with the content of r, compressed unless that saves less than 5 %. It fills in Kind and Blobs.
func (w *Writer) AddBinary(a Artifact, r io.Reader) error {
	return w.add(a, func(a *Artifact) error {
		blob, err := w.pack(r, nil)
		a.Kind, a.Blobs = KindBinary, []Blob{blob}
		return err
	})
}

// Copy stores an artifact of another bundle. Every blob is verified. A binary that is compressed there is stored as it is,
// another as AddBinary does.
func (w *Writer) Copy(ctx context.Context, from *Bundle, a Artifact) error {
	return w.add(a, func(a *Artifact) error {
		if a.Kind == KindImage {
			if _, err := from.manifest(ctx, *a); err != nil {
				return from.describe(*a, err)
			}
		}
		blobs := slices.Clone(a.Blobs) // of the other bundle's index
		a.Blobs = blobs
		for i := range blobs {
			var err error
			if blobs[i], err = w.copyBlob(ctx, from, a.Kind, blobs[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyBlob returns how the blob is stored here.
func (w *Writer) copyBlob(ctx context.Context, from *Bundle, kind Kind, blob Blob) (Blob, error) {
	if known, ok := w.stored[blob.SHA256]; ok && known.Size == blob.Size {
		return known, nil
	}
	file, blob, err := from.openStored(ctx, blob, func(int) {})
	if err != nil {
		return Blob{}, fmt.Errorf("bundle %s: %w", from.path, err)
	}
	if kind == KindBinary && blob.Zstd == (Packed{}) {
		blob, err = w.pack(file, &blob)
	} else {
		err = w.store(file, blob)
	}
	return blob, errors.Join(err, file.Close())
}

// add puts an artifact into the index once store has stored its blobs and named them in it.
func (w *Writer) add(a Artifact, store func(a *Artifact) error) error {
	err := errClosed
	if w.dir != "" {
		err = store(&a)
	}
	if err != nil {
		return fmt.Errorf("add %s to bundle %s: %w", a.Name, w.path, err)
	}
	w.index.Artifacts = append(w.index.Artifacts, a)
	return nil
}

var errClosed = errors.New("it is closed already")

// storeAll stores those blobs that are not there yet.
func (w *Writer) storeAll(blobs []Blob, open func(Blob) (io.ReadCloser, error)) error {
	for _, blob := range blobs {
		if w.stored[blob.SHA256] == blob {
			continue
		}
		content, err := open(blob)
		if err != nil {
			return err
		}
		if err := errors.Join(w.store(content, blob), content.Close()); err != nil {
			return err
		}
	}
	return nil
}

// store stores a file as it is, and nothing if it is not the blob's.
func (w *Writer) store(r io.Reader, blob Blob) error {
	file, err := w.temporary()
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already, unless something failed
	content := newSummed(file)
	_, err = io.Copy(content, r)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	wanted := blob.Stored()
	if err := content.blob().checkWanted(&wanted); err != nil {
		return err
	}
	return w.keep(blob, file.Name())
}

// temporary is a file for what is not known yet to be a blob.
func (w *Writer) temporary() (*os.File, error) {
	file, err := os.CreateTemp(w.dir, "blob-*")
	if err != nil {
		return nil, err
	}
	if err := file.Chmod(0o644); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// keep makes a file that of a blob.
func (w *Writer) keep(blob Blob, file string) error {
	w.stored[blob.SHA256] = blob
	return os.Rename(file, w.file(blob))
}

func (b Blob) checkWanted(wanted *Blob) error {
	if wanted != nil && b.Content() != wanted.Content() {
		return fmt.Errorf("a blob of %d bytes has sha256 %s instead of %d and %s; hint: get it anew",
			b.Size, b.SHA256, wanted.Size, wanted.SHA256)
	}
	return nil
}

// file is where a blob is until Close.
func (w *Writer) file(blob Blob) string { return filepath.Join(w.dir, filepath.FromSlash(blob.path())) }

// sumOf is the checksum of data, in hex, and its size.
func sumOf(data []byte) (sum string, size int64) {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:]), int64(len(data))
}

// Close checks the index and puts the bundle into its place in one piece. If it cannot, nothing stays.
func (w *Writer) Close() error {
	if err := w.finish(); err != nil {
		return errors.Join(fmt.Errorf("bundle %s: %w", w.path, err), w.Discard())
	}
	return w.Discard()
}

// Discard drops a bundle that was not closed, and does nothing after Close.
func (w *Writer) Discard() error {
	dir := w.dir
	if w.dir = ""; dir == "" {
		return nil
	}
	return os.RemoveAll(dir)
}

func (w *Writer) finish() error {
	if w.dir == "" {
		return errClosed
	}
	if err := w.index.validate(); err != nil {
		return err
	}
	index, err := json.MarshalIndent(w.index, "", "  ")
	if err != nil {
		return err
	}
	index = append(index, '\n')
	if w.isTar() {
		return w.finishTar(index)
	}
	if err := w.removeUnused(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.dir, indexName), index, 0o644); err != nil {
		return err
	}
	// Go renames no folder to the name of another, not even of an empty one. If it is empty no longer, it stays.
	if err := os.Remove(w.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Rename(w.dir, w.path)
}

// removeUnused deletes what was stored of an image that then failed.
func (w *Writer) removeUnused() error {
	used := map[string]bool{}
	for _, file := range Stored(w.index.Artifacts) {
		used[file.SHA256] = true
	}
	for _, blob := range w.stored {
		if file := blob.Stored(); !used[file.SHA256] {
			if err := os.Remove(w.file(file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// finishTar writes the tar. Each blob goes when it is in there, so that the disk need not hold two of everything. The same
// artifacts give the same bytes.
func (w *Writer) finishTar(index []byte) error {
	file, err := os.Create(filepath.Join(w.dir, "bundle.tar"))
	if err != nil {
		return err
	}
	out := tar.NewWriter(file)
	err = writeEntry(out, indexName, int64(len(index)), bytes.NewReader(index))
	for _, blob := range Stored(w.index.Artifacts) {
		if err == nil {
			err = w.move(out, blob)
		}
	}
	if err := errors.Join(err, out.Close(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), w.path)
}

func (w *Writer) move(out *tar.Writer, blob Blob) error {
	content, err := os.Open(w.file(blob))
	if err != nil {
		return err
	}
	if err := errors.Join(writeEntry(out, blob.path(), blob.Size, content), content.Close()); err != nil {
		return err
	}
	return os.Remove(content.Name())
}

func writeEntry(out *tar.Writer, name string, size int64, content io.Reader) error {
	if err := out.WriteHeader(tarHeader(name, size)); err != nil {
		return err
	}
	_, err := io.Copy(out, content)
	return err
}
