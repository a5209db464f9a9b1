package mirror_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/myadm/myadm/e2e/lab/mirror"
	"github.com/myadm/myadm/e2e/lab/mirror/mirrortest"
)

const pauseImage = "registry.k8s.io/pause:3.10.2"

// reference is that of an upstream image in a mirror.
func reference(t *testing.T, m *mirror.Mirror, image string) name.Reference {
	t.Helper()
	_, address, _ := strings.Cut(m.URL, "://")
	ref, err := name.ParseReference(address + "/" + image)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// Images are what was in the bundle, for each platform, below an index as upstream has it.
func TestImages(t *testing.T) {
	for _, prefix := range []string{"", "mirrors/upstream"} {
		m := start(t, mirror.Options{Prefix: prefix, Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "amd64"), mirrortest.Bundle(t, "v1.37.2", "arm64")}})
		ref := reference(t, m, pauseImage)
		top, err := remote.Get(ref, remote.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if top.MediaType != types.OCIImageIndex {
			t.Errorf("the tag is a %s", top.MediaType)
		}
		for _, arch := range []string{"amd64", "arm64"} {
			im, err := remote.Image(ref, remote.WithContext(t.Context()), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(im); err != nil {
				t.Errorf("%s: %v", arch, err)
			}
			want, err := mirrortest.Image(t, pauseImage+" "+arch, arch).Digest()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := im.Digest(); err != nil || got != want {
				t.Errorf("%s has digest %s, %v; want %s, which the bundle has", arch, got, err, want)
			}
		}
	}
}

func TestImagesOfTwoVersions(t *testing.T) {
	m := start(t, mirror.Options{Bundles: []string{mirrortest.Bundle(t, "v1.37.2", "amd64"), mirrortest.Bundle(t, "v1.36.3", "amd64")}})
	for _, image := range []string{"registry.k8s.io/kube-proxy:v1.37.2", "registry.k8s.io/kube-proxy:v1.36.3", "registry.k8s.io/coredns/coredns:v1.14.6"} {
		im, err := remote.Image(reference(t, m, image))
		if err != nil {
			t.Errorf("%s: %v", image, err)
		} else if err := validate.Image(im); err != nil {
			t.Errorf("%s: %v", image, err)
		}
	}
	for _, image := range []string{"registry.k8s.io/kube-proxy:v1.35.0", "registry.k8s.io/etcd:3.7.0-0"} {
		if _, err := remote.Image(reference(t, m, image)); err == nil || !strings.Contains(err.Error(), "404") && !strings.Contains(err.Error(), "UNKNOWN") {
			t.Errorf("%s: %v", image, err)
		}
	}
}

// A blob is to be had in the repositories that have it, with the open ranges that go on with a download.
func TestBlobs(t *testing.T) {
	m := start(t, mirror.Options{})
	im := mirrortest.Image(t, pauseImage+" amd64", "amd64")
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[1].Digest()
	if err != nil {
		t.Fatal(err)
	}
	data, err := readLayer(layers[1])
	if err != nil {
		t.Fatal(err)
	}
	whole := string(data)
	blob := m.URL + "/v2/registry.k8s.io/pause/blobs/" + digest.String()
	if response, got, err := do(t, http.DefaultClient, blob, "Range", "bytes=5-"); err != nil || response.StatusCode != 206 || got != whole[5:] {
		t.Errorf("from byte 5: %v, %q, %v", response, got, err)
	}
	if response, _, err := do(t, http.DefaultClient, strings.Replace(blob, "pause", "kube-proxy", 1)); err != nil || response.StatusCode != 404 {
		t.Errorf("in another repository: %v, %v", response, err)
	}
	response, err := http.Head(blob)
	if err != nil || response.StatusCode != 200 || response.ContentLength != int64(len(whole)) {
		t.Errorf("HEAD: %v, %v", response, err)
	}
	response.Body.Close()
}

// The registry takes pushes, too, behind its password.
func TestPush(t *testing.T) {
	m := start(t, mirror.Options{Username: "lab", Password: "open sesame"})
	auth := remote.WithAuth(&authn.Basic{Username: "lab", Password: "open sesame"})
	im := mirrortest.Image(t, "a user's own", "amd64")
	ref := reference(t, m, "private/app:v1")
	if err := remote.Write(ref, im); err == nil {
		t.Error("pushed without a password")
	}
	if err := remote.Write(ref, im, auth); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(ref, auth)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
	if _, err := remote.Image(reference(t, m, pauseImage), auth); err != nil {
		t.Errorf("what was filled in: %v", err)
	}
}

func TestImageOfAnotherDigest(t *testing.T) {
	m := start(t, mirror.Options{})
	ref := reference(t, m, pauseImage)
	want := mirrortest.Image(t, pauseImage+" amd64", "amd64")
	digest, err := want.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Fail(mirror.Fault{Path: "/v2/**/pause/manifests/*", Kind: mirror.OtherDigest}); err != nil {
		t.Fatal(err)
	}
	// By tag there is a whole image, of another digest.
	im, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := im.Digest(); err != nil || got == digest {
		t.Errorf("by tag: digest %s, %v", got, err)
	}
	if err := validate.Image(im); err != nil {
		t.Errorf("the other image: %v", err)
	}
	// By digest there is something else.
	if _, err := remote.Image(ref.Context().Digest(digest.String())); err == nil || !strings.Contains(err.Error(), "does not match") {
		t.Errorf("by digest: %v", err)
	}
	m.Heal()
	if im, err = remote.Image(ref); err != nil {
		t.Fatal(err)
	}
	if got, err := im.Digest(); err != nil || got != digest {
		t.Errorf("healed: digest %s, %v", got, err)
	}
}
