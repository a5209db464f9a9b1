// Package mirrortest makes small bundles to fill a mirror from in tests.
package mirrortest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
)

// Bundle makes a small bundle with everything that upstream releases for a host. What a program holds is its name,
// version and architecture; an image has one layer that all images share and one of its own.
func Bundle(t testing.TB, version, arch string) string {
	t.Helper()
	return makeBundle(t, "bundle", version, arch)
}

// Tar is the bundle that Bundle makes as a tar file.
func Tar(t testing.TB, version, arch string) string {
	t.Helper()
	return makeBundle(t, "bundle.tar", version, arch)
}

func makeBundle(t testing.TB, name, version, arch string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	w, err := bundle.Create(path, version)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct{ name, version string }{
		{"kubelet", version}, {"kubectl", version}, {"containerd", "v2.4.2"}, {"containerd-shim-runc-v2", "v2.4.2"}, {"ctr", "v2.4.2"},
		{"runc", "1.1.5+ds1"}, {"cni-bridge", "v1.9.1"}, {"cni-host-local", "v1.9.1"}, {"cni-loopback", "v1.9.1"},
		{"cni-portmap", "v1.9.1"}, {"cni-flannel", "v0.28.10"},
	} {
		a := bundle.Artifact{
			Name: p.name, Version: p.version, OS: "linux", Arch: arch,
			Roles: []bundle.Role{bundle.RoleNode}, Target: "/usr/local/bin/" + p.name, Mode: 0o755,
		}
		if err := w.AddBinary(a, strings.NewReader(Program(p.name, p.version, arch))); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []struct{ name, ref string }{
		{"pause", "registry.k8s.io/pause:3.10.2"}, {"kube-proxy", "registry.k8s.io/kube-proxy:" + version},
		{"coredns", "registry.k8s.io/coredns/coredns:v1.14.6"},
	} {
		a := bundle.Artifact{
			Name: i.name, Version: "v1", OS: "linux", Arch: arch, Roles: []bundle.Role{bundle.RoleNode}, Image: i.ref,
		}
		if err := w.AddImage(a, Image(t, i.ref+" "+arch, arch)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
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
