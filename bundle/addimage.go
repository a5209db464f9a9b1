package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// AddImage stores an image, with its manifest, configuration and layers as they are. It fills in Kind and Blobs, and
// Digest unless that is given: then the image must have it. The image must be for the artifact's os and arch.
func (w *Writer) AddImage(a Artifact, image v1.Image) error {
	return w.add(a, func(a *Artifact) error {
		from, err := contentsOf(image)
		if err != nil {
			return err
		}
		return w.storeImage(a, from)
	})
}

// AddArchive is AddImage for the one image of an OCI image layout in a plain tar file, as Archive makes it. Its name there
// does not count.
func (w *Writer) AddArchive(a Artifact, path string) error {
	return w.add(a, func(a *Artifact) error {
		layout, _, err := openTar(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		err = w.storeLayout(a, layout)
		if err := errors.Join(err, layout.Close()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
}

func (w *Writer) storeLayout(a *Artifact, layout *tarFile) error {
	data, err := readSmall(layout, indexName)
	if err != nil {
		return err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("%s: %w", indexName, err)
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("%s names %d images instead of one", indexName, len(index.Manifests))
	}
	if err := checkDescriptor(index.Manifests[0]); err != nil {
		return fmt.Errorf("%s: %w", indexName, err)
	}
	manifest, err := readSmall(layout, Blob{SHA256: index.Manifests[0].Digest.Hex}.path())
	if err != nil {
		return err
	}
	blobs, err := ImageBlobs(manifest)
	if err != nil {
		return err
	}
	if named := index.Manifests[0].Digest.Hex; blobs[0].SHA256 != named {
		return fmt.Errorf("the manifest has sha256 %s instead of %s; hint: get it anew", blobs[0].SHA256, named)
	}
	config, err := readSmall(layout, blobs[1].path())
	if err != nil {
		return err
	}
	return w.storeImage(a, contents{manifest, config, func(layer Blob) (io.ReadCloser, error) {
		file, _, err := layout.open(layer.path())
		return file, err
	}})
}

// readSmall reads a file of JSON.
func readSmall(layout *tarFile, name string) ([]byte, error) {
	file, size, err := layout.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size.bytes > maxManifest {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that it may have", name, size.bytes, maxManifest)
	}
	return io.ReadAll(file)
}

func (w *Writer) storeImage(a *Artifact, from contents) error {
	blobs, err := ImageBlobs(from.manifest)
	if err != nil {
		return err
	}
	digest := "sha256:" + blobs[0].SHA256
	if a.Digest != "" && a.Digest != digest {
		return fmt.Errorf("the image has digest %s instead of %s", digest, a.Digest)
	}
	var platform v1.Platform
	if err := json.Unmarshal(from.config, &platform); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if platform.OS != a.OS || platform.Architecture != a.Arch {
		return fmt.Errorf("the image is for %s/%s instead of %s/%s", platform.OS, platform.Architecture, a.OS, a.Arch)
	}
	a.Kind, a.Blobs, a.Digest = KindImage, blobs, digest
	return w.storeAll(blobs, from.open)
}

// contents are an image's, wherever its layers are.
type contents struct {
	manifest, config []byte
	layer            func(Blob) (io.ReadCloser, error)
}

func contentsOf(image v1.Image) (contents, error) {
	manifest, err := image.RawManifest()
	if err != nil {
		return contents{}, err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return contents{}, err
	}
	return contents{manifest, config, func(layer Blob) (io.ReadCloser, error) {
		l, err := image.LayerByDigest(v1.Hash{Algorithm: "sha256", Hex: layer.SHA256})
		if err != nil {
			return nil, err
		}
		return l.Compressed()
	}}, nil
}

// open opens any of the image's blobs.
func (c contents) open(blob Blob) (io.ReadCloser, error) {
	for _, data := range [][]byte{c.manifest, c.config} {
		if sum, _ := sumOf(data); sum == blob.SHA256 {
			return io.NopCloser(bytes.NewReader(data)), nil
		}
	}
	return c.layer(blob)
}
