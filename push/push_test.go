package push

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/fetch"
	"github.com/myadm/myadm/release"
)

// What a cluster of imageRepository asks for is where the images of a bundle are put, whichever the version.
func TestImagesAreWhereClustersLook(t *testing.T) {
	for _, minor := range config.Supported() {
		c := &config.Cluster{}
		c.Spec.KubernetesVersion, c.Spec.ImageRepository = minor+".1", "r.example/some/where"
		c.Spec.Networking.Plugin, c.Spec.LoadBalancer.Type = config.PluginFlannel, config.LoadBalancerKeepalived
		config.SetDefaults(c)
		refs, err := config.ImagesOf(c)
		if err != nil {
			t.Fatal(err)
		}
		items, err := release.Items(minor+".1", "amd64")
		if err != nil {
			t.Fatal(err)
		}
		var put []string
		for _, item := range items {
			if item.Kind == bundle.KindImage {
				put = append(put, config.InRepository("r.example/some/where", item.Image))
			}
		}
		want := refs.All()
		slices.Sort(put)
		slices.Sort(want)
		if diff := cmp.Diff(want, put); diff != "" {
			t.Errorf("%s (-asked for +put):\n%s", minor, diff)
		}
	}
}

// With one architecture a tag is the image's manifest, with the digest that it has in the bundle. A second push writes
// nothing.
func TestPushOneArchitecture(t *testing.T) {
	s := newServer(t, httptest.NewTLSServer)
	b := newBundle(t, "arm64")
	to := target(t, s.host()+"/mirrors/k8s")
	var events []Event
	o := Options{CAFile: s.ca(t), Progress: func(e Event) { events = append(events, e) }}
	want := map[string]bool{"kube-apiserver:v1.37.2": true, "coredns:v1.14.6": true, "haproxy:2.6": true}
	if diff := cmp.Diff(want, mustPush(t.Context(), t, b, to, o)); diff != "" {
		t.Errorf("pushed (-want +got):\n%s", diff)
	}
	for _, of := range []struct{ name, ref string }{{"kube-apiserver", "kube-apiserver:v1.37.2"}, {"coredns", "coredns:v1.14.6"}, {"haproxy", "haproxy:2.6"}} {
		a, err := b.Image(of.name, "arm64")
		if err != nil {
			t.Fatal(err)
		}
		got := s.descriptor(t, to.Repository()+"/"+of.ref)
		if got.Digest.String() != a.Digest {
			t.Errorf("%s has digest %s, want %s", of.ref, got.Digest, a.Digest)
		}
		im, err := got.Image()
		if err == nil {
			err = validate.Image(im, validate.Fast)
		}
		if err != nil {
			t.Errorf("%s: %v", of.ref, err)
		}
	}
	ended := 0
	for _, e := range events {
		if e.Done > e.Total || e.Result != nil && (e.Done != e.Total || !e.Result.Pushed || e.Result.Bytes == 0) {
			t.Errorf("event %+v", e)
		}
		if e.Result != nil {
			ended++
		}
	}
	if ended != 3 {
		t.Errorf("%d images ended", ended)
	}
	s.writes()
	for image := range want {
		want[image] = false
	}
	if diff := cmp.Diff(want, mustPush(t.Context(), t, b, to, o)); diff != "" {
		t.Errorf("pushed again (-want +got):\n%s", diff)
	}
	if wrote := s.writes(); len(wrote) > 0 {
		t.Errorf("wrote again: %v", wrote)
	}
}

// With several architectures a tag is an index of them. A bundle of one of them then finds its image there, and a tag that
// stands for something else is replaced.
func TestPushSeveralArchitectures(t *testing.T) {
	s := newServer(t, httptest.NewTLSServer)
	to, o := target(t, s.host()+"/k8s"), Options{CAFile: s.ca(t)}
	one, both := newBundle(t, "amd64"), newBundle(t, "amd64", "arm64")
	mustPush(t.Context(), t, one, to, o)
	if pushed := mustPush(t.Context(), t, both, to, o); !pushed["coredns:v1.14.6"] {
		t.Errorf("over the images of one architecture: %v", pushed)
	}
	d := s.descriptor(t, to.Repository()+"/coredns:v1.14.6")
	index, err := d.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index, validate.Fast); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	got, want := map[string]string{}, map[string]string{}
	for _, m := range manifest.Manifests {
		got[m.Platform.String()] = m.Digest.String()
	}
	for _, arch := range []string{"amd64", "arm64"} {
		a, err := both.Image("coredns", arch)
		if err != nil {
			t.Fatal(err)
		}
		want["linux/"+arch] = a.Digest
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
	for name, b := range map[string]*bundle.Bundle{"both": both, "one": one} {
		s.writes()
		results, err := To(t.Context(), b, to, o)
		if err != nil || slices.ContainsFunc(results, func(r Result) bool { return r.Pushed }) || len(s.writes()) > 0 {
			t.Errorf("%s again: %+v, %v", name, results, err)
		}
		if results[0].Digest != d.Digest.String() {
			t.Errorf("%s again: digest %s, want %s", name, results[0].Digest, d.Digest)
		}
	}
}

// A push that was cut sends the next time what is not there, and no blob twice.
func TestInterruptedPush(t *testing.T) {
	s := newServer(t, httptest.NewTLSServer)
	to, o := target(t, s.host()+"/k8s"), Options{CAFile: s.ca(t)}
	b := newBundle(t, "amd64", "arm64")
	ctx, cut := context.WithCancel(t.Context())
	var again atomic.Bool // not s.before = nil: requests of the push that was cut may still be at the server when it has returned
	s.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if !again.Load() && r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			cut() // the first image's blobs are there
			return true
		}
		return false
	}
	results, err := To(ctx, b, to, o)
	if err == nil || !strings.Contains(err.Error(), "context canceled") || len(results) > 0 {
		t.Fatalf("the push that was cut: %v, %v", results, err)
	}
	again.Store(true)
	first := blobs(s.writes())
	if len(first) == 0 {
		t.Fatal("nothing was there when the push was cut")
	}
	mustPush(t.Context(), t, b, to, o)
	for blob := range blobs(s.writes()) {
		if first[blob] {
			t.Errorf("%s was sent again", blob)
		}
	}
}

// blobs are what was written whole, REPOSITORY DIGEST.
func blobs(writes []string) map[string]bool {
	all := map[string]bool{}
	for _, w := range writes {
		method, rest, _ := strings.Cut(w, " ")
		at, digest, _ := strings.Cut(rest, " ")
		if repository, _, isBlob := strings.Cut(at, "/blobs/"); isBlob && method == http.MethodPut {
			all[repository+" "+digest] = true
		}
	}
	return all
}

// A blob of the bundle that is damaged never gets a tag.
func TestDamagedBundle(t *testing.T) {
	s := newServer(t, httptest.NewTLSServer)
	b := newBundle(t, "amd64")
	a, err := b.Image("coredns", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	layer := a.Blobs[len(a.Blobs)-1]
	if err := os.WriteFile(filepath.Join(b.Path(), "blobs/sha256", layer.SHA256), make([]byte, layer.Size), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = To(t.Context(), b, target(t, s.host()), Options{CAFile: s.ca(t)})
	if err == nil || !strings.Contains(err.Error(), "/coredns:v1.14.6: bundle ") || !strings.Contains(err.Error(), "the bundle is damaged") {
		t.Errorf("%v", err)
	}
	for _, w := range s.writes() {
		if strings.Contains(w, "coredns/manifests") {
			t.Errorf("%s", w)
		}
	}
}

func TestWhoMayPush(t *testing.T) {
	s := newServer(t, httptest.NewTLSServer)
	s.login = "me:right"
	to, b := target(t, s.host()+"/k8s"), newBundle(t, "amd64")
	for password, wants := range map[string]string{
		"right": "",
		"wrong": "; hint: " + s.host() + " wants other credentials; `docker login " + s.host() + "` writes them where myadm looks",
	} {
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, fmt.Appendf(nil, `{"auths": {%q: {"username": "me", "password": %q}}}`, s.host(), password), 0o600); err != nil {
			t.Fatal(err)
		}
		keychain, err := fetch.KeychainFile(file)
		if err != nil {
			t.Fatal(err)
		}
		results, err := To(t.Context(), b, to, Options{CAFile: s.ca(t), Keychain: keychain})
		switch {
		case wants == "":
			if err != nil || len(results) != 3 {
				t.Errorf("with the right password: %v, %v", results, err)
			}
		case err == nil || !strings.Contains(err.Error(), "401 Unauthorized") || !strings.Contains(err.Error(), wants) || strings.Contains(err.Error(), password):
			t.Errorf("with a wrong password: %v", err)
		}
	}
}

func TestHowTheRegistryIsReached(t *testing.T) {
	secure, plain := newServer(t, httptest.NewTLSServer), newServer(t, httptest.NewServer)
	circles := newServer(t, httptest.NewTLSServer)
	var asked atomic.Int32
	circles.before = func(w http.ResponseWriter, r *http.Request) bool {
		asked.Add(1)
		if r.URL.Path == "/v2/" {
			return false
		}
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		return true
	}
	away := newServer(t, httptest.NewTLSServer)
	away.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		http.Redirect(w, r, plain.URL+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	}
	b := newBundle(t, "amd64")
	for _, tt := range []struct {
		name, to, ca string
		want         string // in the error; empty: none
	}{
		{"by TLS", secure.host(), secure.ca(t), ""},
		{"with https://", "https://" + secure.host() + "/k8s", secure.ca(t), ""},
		{"without TLS, when asked to", "http://" + plain.host() + "/k8s", "", ""},
		{"without TLS", plain.host() + "/k8s", "", "hint: a registry without TLS is written http://" + plain.host() + "/k8s"},
		{"an authority that is not known", secure.host(), "", "hint: --ca-file names a file with the certificate authority of " + secure.host()},
		{"circles", circles.host(), circles.ca(t), "more than 10 redirects; hint: the registry sends in circles"},
		{"sent on to a server without TLS", away.host(), away.ca(t), "plain http is not spoken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := To(t.Context(), b, target(t, tt.to), Options{CAFile: tt.ca})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case asked.Load() > 200: // of three images that were begun, each a few times
				t.Errorf("it was followed %d times", asked.Load())
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// Uploads that shared a connection would wait for each other at a registry that takes one at a time.
func TestUploadsShareNoConnection(t *testing.T) {
	s := newServer(t, func(h http.Handler) *httptest.Server {
		server := httptest.NewUnstartedServer(h)
		server.EnableHTTP2 = true
		server.StartTLS()
		return server
	})
	var shared atomic.Int32
	s.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.ProtoMajor > 1 {
			shared.Add(1)
		}
		return false
	}
	mustPush(t.Context(), t, newBundle(t, "amd64"), target(t, s.host()), Options{CAFile: s.ca(t)})
	if n := shared.Load(); n > 0 {
		t.Errorf("%d requests by HTTP/2", n)
	}
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"r.example":                "r.example",
		"r.example:5000/a/b":       "r.example:5000/a/b",
		"https://r.example/a":      "r.example/a",
		"http://10.0.0.1:5000/a":   "10.0.0.1:5000/a",
		"localhost/a":              "localhost/a",
		"ftp://r.example/a":        "",
		"r.example/":               "",
		"r.example/A":              "",
		"r.example/a:v1":           "",
		"":                         "",
		"http://":                  "",
		"registry/k8s":             "",
		"me:secret@r.example/a":    "",
		"r.example/a@sha256:00":    "",
		"http://http://r.example/": "",
	} {
		got, err := ParseTarget(text)
		if (want == "") != (err != nil) || got.Repository() != want || got.plain != (want != "" && strings.HasPrefix(text, "http://")) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "; hint: ")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestImages(t *testing.T) {
	got := Images(newBundle(t, "arm64", "amd64"), target(t, "r.example/k8s"))
	want := []string{"r.example/k8s/coredns:v1.14.6", "r.example/k8s/haproxy:2.6", "r.example/k8s/kube-apiserver:v1.37.2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
