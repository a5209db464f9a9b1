// Package mirrortest makes small bundles to fill a mirror from in tests.
package mirrortest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
)

// Bundle makes a small bundle with everything that upstream releases for a host. What a program holds is its name,
// version and architecture; an image has one layer that all images share and one of its own.
func Bundle(t testing.TB, version, arch string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	w, err := bundle.Create(dir, version)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct{ name, version string }{
		{"kubelet", version}, {"kubectl", version}, {"containerd", "v2.4.2"}, {"containerd-shim-runc-v2", "v2.4.2"}, {"ctr", "v2.4.2"},
		{"runc", "1.1.5+ds1"}, {"cni-bridge", "v1.9.1"}, {"cni-host-local", "v1.9.1"}, {"cni-loopback", "v1.9.1"},
		{"cni-portmap", "v1.9.1"}, {"cni-flannel", "v0.28.10"},
	} {
		a := bundle.Artifact{
			Name: p.name, Version: p.version, Kind: bundle.KindBinary, OS: "linux", Arch: arch,
			Roles: []bundle.Role{bundle.RoleNode}, Target: "/usr/local/bin/" + p.name, Mode: 0o755,
		}
		if err := w.Add(a, strings.NewReader(Program(p.name, p.version, arch))); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []struct{ name, ref string }{
		{"pause", "registry.k8s.io/pause:3.10.2"}, {"kube-proxy", "registry.k8s.io/kube-proxy:" + version},
		{"coredns", "registry.k8s.io/coredns/coredns:v1.14.6"},
	} {
		im := Image(t, i.ref+" "+arch, arch)
		digest, err := im.Digest()
		if err != nil {
			t.Fatal(err)
		}
		a := bundle.Artifact{
			Name: i.name, Version: "v1", Kind: bundle.KindImage, OS: "linux", Arch: arch, Roles: []bundle.Role{bundle.RoleNode},
			Image: i.ref, Digest: digest.String(),
		}
		if err := w.Add(a, bytes.NewReader(ociArchive(t, im))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Tar is the bundle that Bundle makes as a tar file.
func Tar(t testing.TB, version, arch string) string {
	t.Helper()
	b, err := bundle.Open(Bundle(t, version, arch))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "bundle.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.WriteTar(t.Context(), file), file.Close()); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

// Program is what a program of Bundle holds.
func Program(name, version, arch string) string {
	return strings.Repeat(name+" "+version+" "+arch+"\n", 100)
}

// Image is the image of Bundle whose own layer has a text; Bundle's texts are "REF ARCH".
func Image(t testing.TB, text, arch string) v1.Image {
	t.Helper()
	im := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	im, err := mutate.AppendLayers(im, newLayer(t, "shared by all"), newLayer(t, text))
	if err != nil {
		t.Fatal(err)
	}
	config, err := im.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	if im, err = mutate.ConfigFile(im, config); err != nil {
		t.Fatal(err)
	}
	return im
}

// newLayer is a layer with one file, compressed.
func newLayer(t testing.TB, text string) v1.Layer {
	t.Helper()
	var data bytes.Buffer
	out := tar.NewWriter(&data)
	err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Size: int64(len(text)), Mode: 0o644})
	if err == nil {
		_, err = io.WriteString(out, text)
	}
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

func readLayer(layer v1.Layer) ([]byte, error) {
	r, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// ociArchive is an OCI image layout as a tar file.
func ociArchive(t testing.TB, im v1.Image) []byte {
	t.Helper()
	must := func(data []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	descriptor, err := partial.Descriptor(im)
	if err != nil {
		t.Fatal(err)
	}
	config, err := im.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	out := tar.NewWriter(&archive)
	add := func(name string, data []byte) {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		must(nil, func() error { _, err := out.Write(data); return err }())
	}
	add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	add("index.json", must(json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{*descriptor}})))
	add("blobs/sha256/"+descriptor.Digest.Hex, must(im.RawManifest()))
	add("blobs/sha256/"+config.Hex, must(im.RawConfigFile()))
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		add("blobs/sha256/"+digest.Hex, must(readLayer(layer)))
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}
