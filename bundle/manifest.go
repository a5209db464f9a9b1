package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// What a manifest may have and claim.
const (
	maxManifest = 4 << 20 // bytes, of a configuration too: what registries take (OCI distribution specification, "Pushing Manifests")
	maxLayer    = 4 << 30 // bytes
	maxLayers   = 128     // as many as overlayfs can stack
)

// ImageBlobs are the blobs of the image with a manifest, as an artifact has them: the manifest itself, the configuration,
// then the layers from the lowest to the highest, a blob that the manifest names more than once only at its first place.
// The manifest is OCI's or Docker's schema 2, of one platform: an index is an error, as are layers that a registry does
// not have, or that are larger or more than any image's. It may come from anywhere.
func ImageBlobs(manifest []byte) ([]Blob, error) {
	blobs, _, err := readManifest(manifest)
	return blobs, err
}

func readManifest(data []byte) ([]Blob, types.MediaType, error) {
	if len(data) > maxManifest {
		return nil, "", fmt.Errorf("manifest of %d bytes, more than the %d that one may have", len(data), maxManifest)
	}
	var manifest struct {
		v1.Manifest
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		return nil, "", fmt.Errorf("manifest: %w", err)
	}
	if manifest.Manifests != nil || manifest.MediaType.IsIndex() {
		return nil, "", errors.New("manifest: it is an index of several; hint: choose one of its platforms")
	}
	mediaType := manifest.MediaType
	if mediaType == "" {
		mediaType = types.OCIManifestSchema1 // which need not say so
	}
	if manifest.SchemaVersion != 2 || !mediaType.IsImage() {
		return nil, "", fmt.Errorf("manifest: schema %d of type %q is not an image's; hint: OCI's and Docker's schema 2 are",
			manifest.SchemaVersion, mediaType)
	}
	if len(manifest.Layers) > maxLayers {
		return nil, "", fmt.Errorf("manifest: it has %d layers, more than %d", len(manifest.Layers), maxLayers)
	}
	sum, size := sumOf(data)
	blobs := []Blob{{SHA256: sum, Size: size}}
	for i, d := range append([]v1.Descriptor{manifest.Config}, manifest.Layers...) {
		what, most := "configuration", int64(maxManifest)
		if i > 0 {
			what, most = fmt.Sprintf("layer %d", i), maxLayer
		}
		if err := checkDescriptor(d); err != nil {
			return nil, "", fmt.Errorf("manifest: %s: %w", what, err)
		}
		if d.Size > most {
			return nil, "", fmt.Errorf("manifest: %s: %d bytes, more than the %d that it may have", what, d.Size, most)
		}
		blob := Blob{SHA256: d.Digest.Hex, Size: d.Size}
		same := slices.IndexFunc(blobs, func(b Blob) bool { return b.SHA256 == blob.SHA256 })
		if same >= 0 && blobs[same] != blob {
			return nil, "", fmt.Errorf("manifest: %s has %d bytes, and elsewhere %d", what, blob.Size, blobs[same].Size)
		}
		if same < 0 {
			blobs = append(blobs, blob)
		}
	}
	if len(blobs) < 2 {
		return nil, "", errors.New("manifest: it names itself")
	}
	return blobs, mediaType, nil
}

func checkDescriptor(d v1.Descriptor) error {
	switch {
	case d.Digest.Algorithm != "sha256" || !sumPattern.MatchString(d.Digest.Hex):
		return fmt.Errorf("digest %q is not sha256:HEX", d.Digest.String())
	case d.Size < 0:
		return fmt.Errorf("size %d is negative", d.Size)
	case d.MediaType != "" && !d.MediaType.IsDistributable():
		return fmt.Errorf("type %s is not in registries", d.MediaType)
	}
	return nil
}

// manifest reads an image's manifest, and checks that it names the artifact's blobs and no others: else a host would get
// an image that is not whole, or bytes that nobody asked for.
func (b *Bundle) manifest(ctx context.Context, a Artifact) ([]byte, error) {
	if a.Kind != KindImage || len(a.Blobs) == 0 {
		return nil, errors.New("it is no image")
	}
	file, err := b.open(ctx, a.Blobs[0], func(int) {})
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", a.Blobs[0].path(), err)
	}
	blobs, err := ImageBlobs(data)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(blobs, a.Blobs) {
		return nil, fmt.Errorf("its manifest names other blobs than index.json%s", damagedHint)
	}
	return data, nil
}
