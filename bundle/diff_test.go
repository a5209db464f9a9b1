package bundle_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myadm/myadm/bundle"
)

// version makes a bundle of a kubelet, of a kubectl that never changes, and of an image on the common base.
func version(t *testing.T, kubernetes, kubelet, layer string) *bundle.Bundle {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle")
	w, err := bundle.Create(path, kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	binary := artifacts()[0]
	binary.Version = kubernetes
	tool := artifacts()[1]
	image := artifacts()[2]
	image.Name, image.Version, image.Image = "kube-proxy", kubernetes, "registry.k8s.io/kube-proxy:"+kubernetes
	err = errors.Join(
		w.AddBinary(binary, strings.NewReader(kubelet)),
		w.AddBinary(tool, strings.NewReader("ctr")),
		w.AddImage(image, imageOf(t, "amd64", "the base", layer)),
		w.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

func describe(s bundle.Share) string {
	var all []string
	for _, a := range s.Artifacts {
		all = append(all, a.Name+" "+a.Version)
	}
	return strings.Join(all, ", ")
}

// Two versions share the tool and the base layer: they are no difference.
func TestDiff(t *testing.T) {
	older, newer := version(t, "v1.36.3", "an old kubelet", "old"), version(t, "v1.37.2", "kubelet", "newest")
	d := bundle.Diff(older, newer)
	if got := describe(d.OnlyA); got != "kubelet v1.36.3, kube-proxy v1.36.3" {
		t.Errorf("only the older has %s", got)
	}
	if got := describe(d.OnlyB); got != "kubelet v1.37.2, kube-proxy v1.37.2" {
		t.Errorf("only the newer has %s", got)
	}
	proxy, err := newer.Image("kube-proxy", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.OnlyB.Blobs) != 4 { // kubelet; manifest, configuration and one layer
		t.Errorf("new blobs are %+v", d.OnlyB.Blobs)
	}
	want := int64(len("kubelet")) + proxy.Size() - int64(len("the base"))
	if got := d.OnlyB.Bytes(); got != want {
		t.Errorf("%d new bytes, want %d", got, want)
	}
	if swapped := bundle.Diff(newer, older); describe(swapped.OnlyA) != describe(d.OnlyB) || swapped.OnlyB.Bytes() != d.OnlyA.Bytes() {
		t.Errorf("the other way round it is %+v", swapped)
	}
}

// The same content under another version is another artifact, and no byte.
func TestDiffOfAVersionAlone(t *testing.T) {
	d := bundle.Diff(version(t, "v1.37.1", "kubelet", "same"), version(t, "v1.37.2", "kubelet", "same"))
	if got := describe(d.OnlyB); got != "kubelet v1.37.2, kube-proxy v1.37.2" || d.OnlyB.Bytes() != 0 || d.OnlyA.Blobs != nil {
		t.Errorf("only the newer has %s, %d bytes", got, d.OnlyB.Bytes())
	}
}
