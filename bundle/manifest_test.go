package bundle_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
)

// descriptor is one of a manifest's, with a digest of one letter.
func descriptor(kind, letter string, size int) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":%d}`, kind, strings.Repeat(letter, 64), size)
}

func manifestOf(config string, layers ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}`,
		config, strings.Join(layers, ","))
}

const (
	ociConfig = "application/vnd.oci.image.config.v1+json"
	ociLayer  = "application/vnd.oci.image.layer.v1.tar+zstd"
)

func TestImageBlobs(t *testing.T) {
	config, low, high := descriptor(ociConfig, "c", 3), descriptor(ociLayer, "a", 1), descriptor(ociLayer, "b", 2)
	for name, c := range map[string]struct {
		manifest, want string // the first letters of the checksums after the manifest's own, in order
	}{
		"OCI":                 {manifestOf(config, low, high), "c a b"},
		"no layers":           {manifestOf(config), "c"},
		"a layer twice":       {manifestOf(config, low, high, low), "c a b"},
		"Docker's":            {strings.Replace(manifestOf(config, low), "oci.image.manifest.v1", "docker.distribution.manifest.v2", 1), "c a"},
		"without its type":    {strings.Replace(manifestOf(config, low), `"mediaType":"application/vnd.oci.image.manifest.v1+json",`, "", 1), "c a"},
		"with what we do not": {strings.Replace(manifestOf(config, low), `{`, `{"annotations":{"a":"b"},"future":[1],`, 1), "c a"},
	} {
		t.Run(name, func(t *testing.T) {
			blobs, err := bundle.ImageBlobs([]byte(c.manifest))
			if err != nil {
				t.Fatal(err)
			}
			if blobs[0].Size != int64(len(c.manifest)) {
				t.Errorf("the first blob has %d bytes, want the manifest's %d", blobs[0].Size, len(c.manifest))
			}
			var got []string
			for _, blob := range blobs[1:] {
				got = append(got, blob.SHA256[:1])
				if want := map[string]int64{"a": 1, "b": 2, "c": 3}[blob.SHA256[:1]]; blob.Size != want {
					t.Errorf("%s has %d bytes, want %d", blob.SHA256, blob.Size, want)
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("blobs %v, want %s", got, c.want)
			}
		})
	}
}

func TestImageBlobsRefuses(t *testing.T) {
	config, layer := descriptor(ociConfig, "c", 3), descriptor(ociLayer, "a", 1)
	good := manifestOf(config, layer)
	index, err := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: imageOf(t, "arm64", "x")}).RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]string{
		"no JSON":          {"Kubernetes", "manifest: invalid character"},
		"two":              {good + good, "manifest: invalid character"},
		"an index":         {string(index), "an index of several; hint:"},
		"an untyped index": {`{"schemaVersion":2,"manifests":[]}`, "an index of several"},
		"Docker's list":    {strings.Replace(good, string(types.OCIManifestSchema1), string(types.DockerManifestList), 1), "an index of several"},
		"schema 1":         {strings.Replace(good, `"schemaVersion":2`, `"schemaVersion":1`, 1), "schema 1"},
		"another thing":    {strings.Replace(good, string(types.OCIManifestSchema1), "application/json", 1), `"application/json" is not an image's`},
		"no configuration": {manifestOf("{}", layer), `configuration: digest`},
		"sha512":           {strings.Replace(good, "sha256:"+strings.Repeat("a", 64), "sha512:"+strings.Repeat("a", 128), 1), "layer 1: digest"},
		"upper case":       {strings.Replace(good, strings.Repeat("a", 64), strings.Repeat("A", 64), 1), "non-hex"},
		"short":            {strings.Replace(good, strings.Repeat("a", 64), "aa", 1), "hex digits"},
		"negative size":    {manifestOf(config, descriptor(ociLayer, "a", -1)), "layer 1: size -1"},
		"two sizes":        {manifestOf(config, layer, descriptor(ociLayer, "a", 2)), "layer 2 has 2 bytes, and elsewhere 1"},
		"a foreign layer":  {manifestOf(config, descriptor(string(types.DockerForeignLayer), "a", 1)), "is not in registries"},
		"large config":     {manifestOf(descriptor(ociConfig, "c", 4<<20+1), layer), "configuration: 4194305 bytes, more than"},
		"a large layer":    {manifestOf(config, descriptor(ociLayer, "a", 4<<30+1)), "layer 1: 4294967297 bytes, more than"},
		"many layers":      {manifestOf(config, slices.Repeat([]string{layer}, 129)...), "it has 129 layers, more than 128"},
		"huge":             {strings.Repeat(" ", 5<<20), "5242880 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bundle.ImageBlobs([]byte(c[0]))
			wantError(t, err, c[1])
		})
	}
}

// Whatever manifest is accepted makes an artifact that an index may have.
func FuzzImageBlobs(f *testing.F) {
	config, layer := descriptor(ociConfig, "c", 3), descriptor(ociLayer, "a", 1)
	f.Add([]byte(manifestOf(config, layer, layer)))
	f.Add([]byte(strings.Replace(manifestOf(config), "2", "1", 1)))
	f.Add([]byte(`{"schemaVersion":2,"manifests":null,"config":{"digest":"sha256:../..","size":9223372036854775807}}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		blobs, err := bundle.ImageBlobs(manifest)
		if err != nil {
			return
		}
		index := goodIndex()
		image := &index.Artifacts[2]
		image.Blobs, image.Digest = blobs, "sha256:"+blobs[0].SHA256
		index.Artifacts = index.Artifacts[2:3]
		parsed, err := bundle.ParseIndex(encode(t, index))
		if err != nil || !slices.Equal(parsed.Artifacts[0].Blobs, blobs) {
			t.Errorf("%+v from a manifest, and of the index %v", blobs, err)
		}
		if !json.Valid(manifest) {
			t.Error("accepted what is not JSON")
		}
	})
}
