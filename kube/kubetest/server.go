// Package kubetest is an API server for tests: a real HTTPS server (HTTP/2) with objects in memory. It speaks enough of
// the Kubernetes API for package kube and its callers: get, list, watch, create, update, delete, merge patch and, with
// apimachinery's own field manager, server-side apply with managed fields and dry runs. It knows the kinds of client-go's
// scheme, and custom ones once their CustomResourceDefinition is stored. There is no admission, defaulting, RBAC or
// controller: tests bring what they need of them by Mutate and Intercept.
package kubetest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/myadm/myadm/kube"
)

// Server is an API server in memory. Its methods may be called at any time, from any goroutine.
type Server struct {
	// Mutate, when set before the first request, plays defaulting and admission: it is called with every object on its
	// way into the store, dry run or not.
	Mutate func(obj *unstructured.Unstructured)

	// Intercept, when set before the first request, sees every request first, and answers it if it returns true.
	Intercept func(w http.ResponseWriter, r *http.Request) bool

	http *httptest.Server

	mu       sync.Mutex
	version  int // of the last change; resourceVersions are its decimal
	objects  map[key]*unstructured.Unstructured
	events   []event
	oldest   int // resourceVersions below are compacted
	changed  chan struct{}
	dropped  chan struct{} // closed: watches end
	custom   map[schema.GroupVersionKind]metav1.APIResource
	requests []string
	health   map[string]string
}

type key struct {
	resource schema.GroupResource
	name     types.NamespacedName
}

type event struct {
	watch.Event
	key     key
	version int
}

// NewServer starts a server that holds the namespaces of a new cluster and objs. It stops with the test.
func NewServer(t testing.TB, objs ...runtime.Object) *Server {
	t.Helper()
	s := &Server{
		version: 1,
		objects: map[key]*unstructured.Unstructured{},
		changed: make(chan struct{}),
		dropped: make(chan struct{}),
		custom:  map[schema.GroupVersionKind]metav1.APIResource{},
		health:  map[string]string{},
	}
	for _, name := range []string{"default", "kube-node-lease", "kube-public", "kube-system"} {
		s.Put(t, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
		}})
	}
	for _, obj := range objs {
		s.Put(t, obj)
	}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.EnableHTTP2 = true
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that tests cut
	s.http.StartTLS()
	t.Cleanup(func() {
		s.DropWatches()
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// Address is the server's host:port.
func (s *Server) Address() string { return strings.TrimPrefix(s.http.URL, "https://") }

// Listen has the server be at one more address, which it returns, with certificates of the caller's choice: as one of the API
// servers of a cluster, with the cluster's PKI. certificate is asked for each connection.
func (s *Server) Listen(t testing.TB, certificate func() (*tls.Certificate, error)) (address string) {
	t.Helper()
	more := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	more.EnableHTTP2 = true
	// A server takes its first certificate where a client names no host, as of an IP address, so that it is to have no other.
	more.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		own, err := certificate()
		if err != nil {
			return nil, err
		}
		return &tls.Config{Certificates: []tls.Certificate{*own}, NextProtos: []string{"h2", "http/1.1"}}, nil
	}}
	more.Config.ErrorLog = log.New(io.Discard, "", 0)
	more.StartTLS()
	t.Cleanup(func() {
		s.DropWatches()
		more.CloseClientConnections()
		more.Close()
	})
	return more.Listener.Addr().String()
}

// CA is the PEM certificate that the server is to be verified with.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// TLS trusts the server.
func (s *Server) TLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.http.Certificate())
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// Kubeconfig is one with which the server can be reached.
func (s *Server) Kubeconfig() []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: test, user: {token: test}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, s.http.URL, base64(s.CA()))
}

// Client is connected to the server, directly.
func (s *Server) Client(t testing.TB, opts kube.Options) *kube.Client {
	t.Helper()
	c, err := kube.Connect(s.Kubeconfig(), nil, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Put stores an object as a controller or another user would, as it is, status included, and tells the watches.
func (s *Server) Put(t testing.TB, obj runtime.Object) {
	t.Helper()
	u, err := toUnstructured(obj)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := keyOf(u)
	if old, ok := s.objects[k]; ok {
		u.SetUID(old.GetUID())
		if u.GetManagedFields() == nil {
			u.SetManagedFields(old.GetManagedFields())
		}
	}
	s.store(k, u)
}

// Remove deletes an object. One that is not there is fine.
func (s *Server) Remove(ref kube.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(ref.APIVersion)
	u.SetKind(ref.Kind)
	u.SetNamespace(ref.Namespace)
	u.SetName(ref.Name)
	s.remove(keyOf(u))
}

// Object returns a copy of what is stored; nil if it is not there.
func (s *Server) Object(ref kube.Ref) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, obj := range s.objects {
		if obj.GetName() == ref.Name && obj.GetNamespace() == ref.Namespace && obj.GetKind() == ref.Kind &&
			obj.GetAPIVersion() == ref.APIVersion {
			return obj.DeepCopy()
		}
	}
	return nil
}

// Version changes with every change of any object.
func (s *Server) Version() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// Requests lists the requests so far: "GET /api/v1/nodes?watch=true".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// SetHealth makes a health endpoint fail with a body; an empty body makes it well again.
func (s *Server) SetHealth(path, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health[path] = body
}

// DropWatches ends all watches that are open, as an API server's restart does.
func (s *Server) DropWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.dropped)
	s.dropped = make(chan struct{})
}

// Compact forgets all events: a watch from an older resourceVersion is answered with 410 Gone.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.oldest = nil, s.version
}

// store puts obj in place. s.mu is held, and the caller gives obj away.
func (s *Server) store(k key, obj *unstructured.Unstructured) {
	_, exists := s.objects[k]
	s.version++
	obj.SetResourceVersion(strconv.Itoa(s.version))
	if obj.GetUID() == "" {
		obj.SetUID(types.UID("uid-" + strconv.Itoa(s.version)))
	}
	s.objects[k] = obj
	kind := watch.Added
	if exists {
		kind = watch.Modified
	}
	s.tell(event{watch.Event{Type: kind, Object: obj}, k, s.version})
	s.define(obj)
}

func (s *Server) remove(k key) {
	obj, ok := s.objects[k]
	if !ok {
		return
	}
	delete(s.objects, k)
	s.version++
	obj = obj.DeepCopy()
	obj.SetResourceVersion(strconv.Itoa(s.version))
	s.tell(event{watch.Event{Type: watch.Deleted, Object: obj}, k, s.version})
}

func (s *Server) tell(e event) {
	s.events = append(s.events, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

// define makes the kinds of a CustomResourceDefinition known.
func (s *Server) define(crd *unstructured.Unstructured) {
	if crd.GetKind() != "CustomResourceDefinition" {
		return
	}
	text := func(fields ...string) string {
		v, _, _ := unstructured.NestedString(crd.Object, append([]string{"spec"}, fields...)...)
		return v
	}
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		version, _ := v.(map[string]any)["name"].(string)
		gvk := schema.GroupVersionKind{Group: text("group"), Version: version, Kind: text("names", "kind")}
		s.custom[gvk] = metav1.APIResource{
			Name: text("names", "plural"), Kind: gvk.Kind, Namespaced: text("scope") == "Namespaced",
			Verbs: metav1.Verbs{"get", "list", "watch", "create", "update", "patch", "delete"},
		}
	}
}

// selected returns the objects of a resource, by namespace and name. s.mu is held.
func (s *Server) selected(match func(key, *unstructured.Unstructured) bool) []*unstructured.Unstructured {
	keys := slices.SortedFunc(maps.Keys(s.objects), func(a, b key) int { return strings.Compare(a.name.String(), b.name.String()) })
	var objs []*unstructured.Unstructured
	for _, k := range keys {
		if match(k, s.objects[k]) {
			objs = append(objs, s.objects[k])
		}
	}
	return objs
}
