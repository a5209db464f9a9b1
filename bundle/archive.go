package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Archive verifies an image of this bundle, as far as it is not known to be good, and gives it as an OCI image layout in a
// tar of size bytes, with the image's name: what `ctr -n k8s.io images import -` reads. The tar is made while it is read;
// the same image gives the same bytes. ctx is used until its end; the caller closes it.
func (b *Bundle) Archive(ctx context.Context, a Artifact) (content io.ReadCloser, size int64, err error) {
	manifest, err := b.manifest(ctx, a)
	if err != nil {
		return nil, 0, b.describe(a, err)
	}
	for _, blob := range a.Blobs { // all before the first byte: a host is not sent half an image
		file, err := b.open(ctx, blob, func(int) {})
		if err != nil {
			return nil, 0, b.describe(a, err)
		}
		if err := file.Close(); err != nil {
			return nil, 0, b.describe(a, err)
		}
	}
	content, size, err = layoutOf(a.Image, manifest, func(blob Blob) (io.ReadCloser, error) {
		file, err := b.open(ctx, blob, func(int) {}) // not read for its checksum again, unless it changed
		if err != nil {
			return nil, b.describe(a, err)
		}
		return file, nil
	})
	if err != nil {
		return nil, 0, b.describe(a, err)
	}
	return content, size, nil
}

// WriteArchive writes what Archive gives, of an image that is in no bundle. name is its name:tag.
func WriteArchive(w io.Writer, name string, image v1.Image) error {
	from, err := contentsOf(image)
	if err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	content, _, err := layoutOf(name, from.manifest, from.open)
	if err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	_, err = io.Copy(w, content)
	if err := errors.Join(err, content.Close()); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	return nil
}

const layoutVersion = `{"imageLayoutVersion":"1.0.0"}`

// layoutOf is an image layout of the image with a manifest. open is called for each of its blobs when it is read.
func layoutOf(name string, manifest []byte, open func(Blob) (io.ReadCloser, error)) (io.ReadCloser, int64, error) {
	blobs, mediaType, err := readManifest(manifest)
	if err != nil {
		return nil, 0, err
	}
	heads, err := layoutHeads(name, blobs[0], mediaType)
	if err != nil {
		return nil, 0, err
	}
	out := &layoutTar{}
	for _, head := range heads {
		out.file(head.Name, head.Data)
	}
	for _, blob := range blobs {
		out.blob(blob, func() (io.ReadCloser, error) { return open(blob) })
	}
	content, size := out.end()
	return content, size, errors.Join(out.errs...)
}

// Head is one of the two small files of an image layout, which say what its blobs are.
type Head struct {
	Name string // relative to the layout: "oci-layout", "index.json"
	Data []byte
}

// Heads are what Archive's layout has besides the image's blobs, for those who have the blobs already, at BlobPath.
func (b *Bundle) Heads(ctx context.Context, a Artifact) ([]Head, error) {
	manifest, err := b.manifest(ctx, a)
	if err != nil {
		return nil, b.describe(a, err)
	}
	blobs, mediaType, err := readManifest(manifest)
	if err != nil {
		return nil, b.describe(a, err)
	}
	return layoutHeads(a.Image, blobs[0], mediaType)
}

// BlobPath is where a blob is in a bundle and in an image layout: relative, with slashes.
func BlobPath(sha256 string) string { return blobsFolder + "/" + sha256 }

func layoutHeads(name string, manifest Blob, mediaType types.MediaType) ([]Head, error) {
	// The first annotation is the name that containerd's import gives the image, the second the tag, for other tools.
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{
		MediaType: mediaType,
		Size:      manifest.Size,
		Digest:    v1.Hash{Algorithm: "sha256", Hex: manifest.SHA256},
		Annotations: map[string]string{
			"io.containerd.image.name":          name,
			"org.opencontainers.image.ref.name": name[strings.LastIndex(name, ":")+1:],
		},
	}}})
	if err != nil {
		return nil, err
	}
	return []Head{{"oci-layout", []byte(layoutVersion)}, {indexName, index}}, nil
}

// layoutTar is a tar as a sequence of readers, with a size that is known before any of them is read.
type layoutTar struct {
	parts []io.Reader
	later []*laterReader
	size  int64
	errs  []error
}

func (t *layoutTar) file(name string, data []byte) {
	t.header(name, int64(len(data)))
	t.add(int64(len(data)), bytes.NewReader(data))
}

func (t *layoutTar) blob(blob Blob, open func() (io.ReadCloser, error)) {
	t.header(blob.path(), blob.Size)
	later := &laterReader{open: open}
	t.later = append(t.later, later)
	t.add(blob.Size, later)
}

func (t *layoutTar) header(name string, size int64) {
	var data bytes.Buffer
	if err := tar.NewWriter(&data).WriteHeader(tarHeader(name, size)); err != nil {
		t.errs = append(t.errs, fmt.Errorf("write the header of %s: %w", name, err))
	}
	t.size += int64(data.Len())
	t.parts = append(t.parts, &data)
}

// tarBlock is a tar's unit, in bytes.
const tarBlock = 512

// add is a content and what fills its last block.
func (t *layoutTar) add(size int64, content io.Reader) {
	padding := -size & (tarBlock - 1)
	t.size += size + padding
	t.parts = append(t.parts, content, bytes.NewReader(make([]byte, padding)))
}

// end adds the two empty blocks at a tar's end.
func (t *layoutTar) end() (content io.ReadCloser, size int64) {
	t.add(2*tarBlock, bytes.NewReader(make([]byte, 2*tarBlock)))
	return &layoutReader{io.MultiReader(t.parts...), t.later}, t.size
}

// tarHeader is a file's without anything that differs from run to run.
func tarHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
}

type layoutReader struct {
	io.Reader
	later []*laterReader
}

func (r *layoutReader) Close() error {
	var errs []error
	for _, later := range r.later {
		errs = append(errs, later.Close())
	}
	return errors.Join(errs...)
}

// laterReader opens a blob when it is read, and closes it at its end, so that an image of many layers has one file open.
type laterReader struct {
	open func() (io.ReadCloser, error)
	file io.ReadCloser
	done bool
}

func (r *laterReader) Read(p []byte) (int, error) {
	if r.done {
		return 0, io.EOF
	}
	if r.file == nil {
		file, err := r.open()
		if err != nil {
			return 0, err
		}
		r.file = file
	}
	n, err := r.file.Read(p)
	if errors.Is(err, io.EOF) {
		if err := r.Close(); err != nil {
			return n, err
		}
	}
	return n, err
}

func (r *laterReader) Close() error {
	r.done = true
	if r.file == nil {
		return nil
	}
	file := r.file
	r.file = nil
	return file.Close()
}
