package push

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
)

// server is a registry that remembers what it was asked.
type server struct {
	*httptest.Server
	registry http.Handler
	mu       sync.Mutex
	wrote    []string                                                     // METHOD PATH of requests that change something
	login    string                                                       // user:password that it wants; empty: none
	before   func(w http.ResponseWriter, r *http.Request) (answered bool) // set before the first request, and not again
}

func newServer(t testing.TB, start func(http.Handler) *httptest.Server) *server {
	t.Helper()
	s := &server{registry: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s.Server = start(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.Close)
	return s
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if s.login != "" && user+":"+password != s.login {
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if s.before != nil && s.before(w, r) {
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.mu.Lock()
		s.wrote = append(s.wrote, r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("digest"))
		s.mu.Unlock()
	}
	s.registry.ServeHTTP(w, r)
}

// writes are the requests since the last call.
func (s *server) writes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrote := s.wrote
	s.wrote = nil
	return wrote
}

func (s *server) host() string { return s.Listener.Addr().String() }

// ca is a file with the authority of the server.
func (s *server) ca(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.crt")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// descriptor is what a tag of the registry stands for.
func (s *server) descriptor(t testing.TB, ref string) *remote.Descriptor {
	t.Helper()
	at, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	d, err := remote.Get(at, remote.WithTransport(registryTransport{s.Client().Transport, s.host(), s.TLS == nil}))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func target(t testing.TB, text string) Target {
	t.Helper()
	to, err := ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// imageFor has a layer that all images share, and one of its own.
func imageFor(t testing.TB, arch, content string, docker bool) v1.Image {
	t.Helper()
	manifest, configuration, layer := types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer
	if docker {
		manifest, configuration, layer = types.DockerManifestSchema2, types.DockerConfigJSON, types.DockerLayer
	}
	im := mutate.ConfigMediaType(mutate.MediaType(empty.Image, manifest), configuration)
	im, err := mutate.AppendLayers(im, static.NewLayer([]byte("the base of "+arch), layer), static.NewLayer([]byte(content+" for "+arch), layer))
	if err != nil {
		t.Fatal(err)
	}
	file, err := im.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", arch
	if im, err = mutate.ConfigFile(im, file); err != nil {
		t.Fatal(err)
	}
	return im
}

// newBundle has three images for each architecture, and one for tests.
func newBundle(t testing.TB, archs ...string) *bundle.Bundle {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle")
	w, err := bundle.Create(path, "v1.37.2")
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range archs {
		for _, of := range []struct {
			name, image string
			role        bundle.Role
		}{
			{"kube-apiserver", "registry.k8s.io/kube-apiserver:v1.37.2", bundle.RoleControlPlane},
			{"coredns", "registry.k8s.io/coredns/coredns:v1.14.6", bundle.RoleNode},
			{"haproxy", "docker.io/library/haproxy:2.6", bundle.RoleLoadBalancer},
			{"e2e", "docker.io/myadm/e2e:v1", bundle.RoleTest},
		} {
			a := bundle.Artifact{Name: of.name, Version: "v1", OS: "linux", Arch: arch, Roles: []bundle.Role{of.role}, Image: of.image}
			err = errors.Join(err, w.AddImage(a, imageFor(t, arch, of.name, of.name == "haproxy")))
		}
		kubelet := bundle.Artifact{Name: "kubelet", Version: "v1.37.2", OS: "linux", Arch: arch, Roles: []bundle.Role{bundle.RoleNode}, Target: "/usr/local/bin/kubelet", Mode: 0o755}
		err = errors.Join(err, w.AddBinary(kubelet, strings.NewReader("kubelet for "+arch)))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// mustPush pushes and gives for each image whether it was sent.
func mustPush(ctx context.Context, t testing.TB, b *bundle.Bundle, to Target, o Options) map[string]bool {
	t.Helper()
	results, err := To(ctx, b, to, o)
	if err != nil {
		t.Fatal(err)
	}
	pushed := map[string]bool{}
	for _, r := range results {
		pushed[strings.TrimPrefix(r.Image, to.Repository()+"/")] = r.Pushed
	}
	return pushed
}
