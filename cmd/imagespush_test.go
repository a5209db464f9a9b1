package cmd

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// What images list names for a document with an imageRepository is, after a push, in the registry under these names, with
// the digests that the bundle has.
func TestImagesPush(t *testing.T) {
	s := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer s.Close()
	repository := s.Listener.Addr().String() + "/k8s"
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	makeImageBundle(t, at("bundle"))
	document := "apiVersion: myadm.dev/v1alpha1\nkind: Cluster\nspec:\n  imageRepository: " + repository + "\n  hosts: [{address: 192.0.2.1, roles: [control-plane]}]\n"
	if err := errors.Join(
		os.WriteFile(at("ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600),
		os.WriteFile(at("cluster.yaml"), []byte(document), 0o600),
		os.WriteFile(at("login.json"), []byte("{}"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	myadm := func(result any, args ...string) string {
		t.Helper()
		var out, told bytes.Buffer
		if code := Main(t.Context(), append([]string{"images"}, args...), Streams{In: strings.NewReader(""), Out: &out, Err: &told}); code != 0 {
			t.Fatalf("%v ends with %d: %s", args, code, told.String())
		}
		if result != nil {
			if err := json.Unmarshal(out.Bytes(), result); err != nil {
				t.Fatalf("%v: %v: %s", args, err, out.String())
			}
		}
		return out.String() + told.String()
	}
	push := []string{"push", "--bundle", at("bundle"), "--ca-file", at("ca.pem"), "--registry-config", at("login.json"), repository}
	var pushed struct {
		ImageRepository   string
		Pushed, WereThere int
		Bytes             int64
	}
	myadm(&pushed, append(push, "-o", "json")...)
	if pushed.ImageRepository != repository || pushed.Pushed != 10 || pushed.WereThere != 0 || pushed.Bytes != 0 { // they have no layers
		t.Errorf("%+v", pushed)
	}
	if text := myadm(nil, push...); !strings.Contains(text, "10 images of Kubernetes v1.37.2 in "+repository+": 0 pushed (0 B), 10 were there.") ||
		!strings.Contains(text, "coredns:v1.14.6 push               ok") {
		t.Errorf("pushed again:\n%s", text)
	}
	var listed struct{ Images []listedImage }
	myadm(&listed, "list", "-f", at("cluster.yaml"), "--bundle", at("bundle"), "-o", "json")
	if len(listed.Images) != 8 {
		t.Fatalf("%d images, want 8", len(listed.Images))
	}
	for _, im := range listed.Images {
		ref, err := name.ParseReference(im.Image)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote.Head(ref, remote.WithTransport(s.Client().Transport))
		if err != nil {
			t.Fatal(err)
		}
		if im.Digests["amd64"] != got.Digest.String() || im.Name+":"+im.Version != strings.TrimPrefix(im.Image, repository+"/") {
			t.Errorf("%+v has digest %s in the registry", im, got.Digest)
		}
	}
}

// makeImageBundle makes a bundle of all images of a version, which are empty but for the name in them.
func makeImageBundle(t *testing.T, path string) {
	t.Helper()
	items, err := release.Items("v1.37.2", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	w, err := bundle.Create(path, "v1.37.2")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if item.Kind != bundle.KindImage {
			continue
		}
		file, err := empty.Image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		file = file.DeepCopy()
		file.OS, file.Architecture, file.Author = "linux", "amd64", item.Name
		image, err := mutate.ConfigFile(empty.Image, file)
		if err == nil {
			err = w.AddImage(item.Artifact(), image)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
