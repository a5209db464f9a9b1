package kube_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

const coredns = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      containers:
      - {name: coredns, image: "coredns:1.14.6", ports: [{containerPort: 53, name: dns, protocol: UDP}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data: {Corefile: ".:53 {}"}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden, namespace: kube-system}
data: {key: aHVzaC1odXNo}
`

func manifests(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	objs, err := kube.ParseManifests("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

func lines(diffs []kube.Difference) []string {
	var lines []string
	for _, d := range diffs {
		lines = append(lines, d.String())
	}
	return lines
}

func diff(t *testing.T, c kube.Reader, objs []*unstructured.Unstructured) []string {
	t.Helper()
	diffs, err := kube.Diff(t.Context(), c, objs)
	if err != nil {
		t.Fatal(err)
	}
	return lines(diffs)
}

// replicas plays the API server's defaulting of a Deployment.
func replicas(obj *unstructured.Unstructured) {
	if obj.GetKind() == "Deployment" {
		if _, set, _ := unstructured.NestedInt64(obj.Object, "spec", "replicas"); !set {
			_ = unstructured.SetNestedField(obj.Object, int64(1), "spec", "replicas")
		}
	}
}

func TestApplyConverges(t *testing.T) {
	s := kubetest.NewServer(t)
	s.Mutate = replicas
	c := s.Client(t, kube.Options{})
	objs := manifests(t, coredns)

	want := []string{"create Deployment kube-system/coredns", "create ConfigMap kube-system/coredns", "create Secret kube-system/hidden"}
	before := s.Version()
	if d := cmp.Diff(want, diff(t, c, objs)); d != "" {
		t.Errorf("diff of an empty cluster (-want +got):\n%s", d)
	}
	if s.Version() != before {
		t.Error("Diff changed the cluster")
	}
	if err := c.Apply(t.Context(), objs); err != nil {
		t.Fatal(err)
	}
	if got := diff(t, c, objs); got != nil {
		t.Errorf("after Apply there is still %q", got)
	}
	before = s.Version()
	if err := c.Apply(t.Context(), objs); err != nil {
		t.Fatal(err)
	}
	if s.Version() != before {
		t.Error("a second Apply changed the cluster")
	}
}

func TestDiffNamesFieldsAndNoValues(t *testing.T) {
	s := kubetest.NewServer(t)
	c := s.Client(t, kube.Options{})
	if err := c.Apply(t.Context(), manifests(t, coredns)); err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("1.14.6", "1.14.7", ".:53", ".:54", "aHVzaC1odXNo", "b3RoZXI=",
		"{k8s-app: kube-dns}}\nspec", "{k8s-app: kube-dns, kubernetes.io/name: CoreDNS}}\nspec").Replace(coredns)
	want := []string{
		"change Deployment kube-system/coredns: metadata.labels, spec.template.spec.containers[coredns].image",
		"change ConfigMap kube-system/coredns: data.Corefile",
		"change Secret kube-system/hidden: data.key",
	}
	want[0] = strings.Replace(want[0], "metadata.labels", "metadata.labels[kubernetes.io/name]", 1)
	before := s.Version()
	if d := cmp.Diff(want, diff(t, c, manifests(t, changed))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if s.Version() != before {
		t.Error("Diff changed the cluster")
	}
}

// What kubeadm made, by update, is taken over without noise: fields that only kubeadm set stay, ours become ours.
func TestApplyTakesOverFromKubeadm(t *testing.T) {
	s := kubetest.NewServer(t)
	c := s.Client(t, kube.Options{})
	theirs := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns", Annotations: map[string]string{"by": "kubeadm"}},
		Data:       map[string]string{"Corefile": ".:53 {}"},
	}
	if _, err := c.Typed.CoreV1().ConfigMaps("kube-system").Create(t.Context(), theirs, metav1.CreateOptions{FieldManager: "kubeadm"}); err != nil {
		t.Fatal(err)
	}
	ours := manifests(t, coredns)[1:2]
	if got := diff(t, c, ours); got != nil {
		t.Errorf("an object that is as it should be: %q", got)
	}
	ours = manifests(t, strings.ReplaceAll(coredns, ".:53", ".:54"))[1:2]
	if err := c.Apply(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	got := s.Object(configMapRef("kube-system", "coredns"))
	data, _, _ := unstructured.NestedString(got.Object, "data", "Corefile")
	if data != ".:54 {}" || got.GetAnnotations()["by"] != "kubeadm" {
		t.Errorf("got %v", got.Object)
	}
	if !slices.ContainsFunc(got.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == "myadm" && f.Operation == metav1.ManagedFieldsOperationApply
	}) {
		t.Error("myadm does not own what it applied")
	}
}

// Somebody who writes between our Get and the dry run must not show up as a difference of ours.
func TestDiffIgnoresAConcurrentChange(t *testing.T) {
	s := kubetest.NewServer(t)
	var raced atomic.Bool
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && raced.CompareAndSwap(false, true) {
			cm := s.Object(configMapRef("kube-system", "coredns"))
			cm.SetLabels(map[string]string{"theirs": "now"})
			s.Put(t, cm)
		}
		return false
	}
	c := s.Client(t, kube.Options{})
	objs := manifests(t, coredns)[1:2]
	s.Put(t, objs[0])
	if got := diff(t, c, objs); got != nil {
		t.Errorf("got %q", got)
	}
	if !raced.Load() {
		t.Error("the race did not happen")
	}
}

func TestApplyOrdersKinds(t *testing.T) {
	s := kubetest.NewServer(t)
	c := s.Client(t, kube.Options{})
	objs := manifests(t, `
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: w}}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: flanneld, namespace: flannel}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: flannel, namespace: flannel}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: flannel}}
`)
	if err := c.Apply(t.Context(), objs); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, r := range s.Requests() {
		path, _, _ := strings.Cut(strings.TrimPrefix(r, "PATCH "), "?")
		order = append(order, path)
	}
	want := []string{
		"/api/v1/namespaces/flannel",
		"/api/v1/namespaces/flannel/serviceaccounts/flannel",
		"/apis/apps/v1/namespaces/flannel/daemonsets/flanneld",
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/w",
	}
	if d := cmp.Diff(want, order); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A kind and its first object in one go: the definition is seconds old, or not even served yet.
func TestApplyCustomResource(t *testing.T) {
	s := kubetest.NewServer(t)
	var asked atomic.Int32
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/apis/example.org/v1" && asked.Add(1) <= 2 {
			http.NotFound(w, r)
			return true
		}
		return false
	}
	c := s.Client(t, kube.Options{})
	objs := manifests(t, `
{apiVersion: example.org/v1, kind: Octopus, metadata: {name: otto, namespace: default}, spec: {arms: 8}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: octopodes.example.org}
spec: {group: example.org, scope: Namespaced, names: {kind: Octopus, plural: octopodes}, versions: [{name: v1}]}
`)
	if got := diff(t, c, objs[:1]); len(got) != 1 || got[0] != "create Octopus default/otto" {
		t.Errorf("diff before the kind exists: %q", got)
	}
	if err := c.Apply(t.Context(), objs); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 3 {
		t.Errorf("asked %d times for the kinds", asked.Load())
	}
	if got := diff(t, c, objs); got != nil {
		t.Errorf("after Apply there is still %q", got)
	}
	if asked.Load() != 3 {
		t.Error("what was found is asked for again")
	}
}

// addressTaken is what kube-apiserver v1.37.2 said of kube-dns when a request that made it had just been cut.
const addressTaken = "failed to allocate IP 10.96.0.10: provided IP is already allocated"

func TestApplyRetries(t *testing.T) {
	objs := manifests(t, coredns)[1:2]
	resource := schema.GroupResource{Resource: "configmaps"}
	// As kube-apiserver v1.37.2 said it of kube-dns.
	noRange := field.Invalid(field.NewPath("spec", "clusterIPs"), []string{"10.96.0.10"},
		"failed to allocate IP 10.96.0.10: the provided network does not match the current range")
	taken := field.Invalid(field.NewPath("spec", "clusterIPs"), []string{"10.96.0.10"}, addressTaken)
	for name, err := range map[string]error{
		"service unavailable":  apierrors.NewServiceUnavailable("starting"),
		"etcd timeout":         apierrors.NewInternalError(errors.New("etcdserver: request timed out")),
		"no service IPs yet":   apierrors.NewInternalError(errors.New("failed to allocate a serviceIP")),
		"no service CIDR yet":  apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "kube-dns", field.ErrorList{noRange}),
		"address not back yet": apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "kube-dns", field.ErrorList{taken}),
		"RBAC not there yet":   apierrors.NewForbidden(resource, "coredns", errors.New("RBAC: clusterrole not found")),
		"namespace not there":  apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "kube-system"),
		"conflict":             apierrors.NewConflict(resource, "coredns", errors.New("modified")),
		"connection lost":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kubetest.NewServer(t)
			var asked atomic.Int32
			s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
				if asked.Add(1) > 2 {
					return false
				}
				if err == nil {
					panic(http.ErrAbortHandler)
				}
				kubetest.Fail(w, err)
				return true
			}
			if err := s.Client(t, kube.Options{}).Apply(t.Context(), objs); err != nil {
				t.Fatal(err)
			}
			if asked.Load() < 3 {
				t.Errorf("%d attempts", asked.Load())
			}
		})
	}
}

func TestApplyGivesUp(t *testing.T) {
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "ConfigMap"}, "coredns", nil)
	for _, test := range []struct {
		name     string
		answer   error
		patience time.Duration
		attempts int32
		want     string
	}{
		{"what is wrong itself, at once", invalid, time.Minute, 1, `apply ConfigMap kube-system/coredns: ConfigMap "coredns" is invalid`},
		{"an API server that does not come, with its last answer", apierrors.NewServiceUnavailable("starting"), time.Millisecond, 1, "starting"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := kubetest.NewServer(t)
			var asked atomic.Int32
			s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
				asked.Add(1)
				kubetest.Fail(w, test.answer)
				return true
			}
			err := s.Client(t, kube.Options{Patience: test.patience}).Apply(t.Context(), manifests(t, coredns)[1:2])
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			if got := asked.Load(); got != test.attempts {
				t.Errorf("%d attempts", got)
			}
		})
	}
}

func TestApplyEndsWithItsContext(t *testing.T) {
	s := kubetest.NewServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int32
	s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1) == 2 {
			cancel()
		}
		kubetest.Fail(w, apierrors.NewServiceUnavailable("etcd has no leader"))
		return true
	}
	err := s.Client(t, kube.Options{}).Apply(ctx, manifests(t, coredns)[1:2])
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "etcd has no leader") {
		t.Errorf("got %v", err)
	}
}

// One bad object keeps neither the others from being applied nor their errors from being told.
func TestApplyKeepsAllErrors(t *testing.T) {
	s := kubetest.NewServer(t)
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "bad") {
			return false
		}
		kubetest.Fail(w, apierrors.NewBadRequest("no"))
		return true
	}
	objs := manifests(t, `
{apiVersion: v1, kind: ConfigMap, metadata: {name: bad-1, namespace: default}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: good, namespace: default}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: bad-2, namespace: default}}
`)
	err := s.Client(t, kube.Options{}).Apply(t.Context(), objs)
	for _, want := range []string{"ConfigMap default/bad-1", "ConfigMap default/bad-2"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in %v", want, err)
		}
	}
	if s.Object(configMapRef("default", "good")) == nil {
		t.Error("the good one was not applied")
	}
}

// What concerns the connection is said once, and not for every object.
func TestApplyTellsALostConnectionOnce(t *testing.T) {
	s := kubetest.NewServer(t)
	c, err := kube.Connect(s.Kubeconfig(), refuse(func() {}), kube.Options{Patience: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"apply": c.Apply(t.Context(), manifests(t, coredns)[1:]),
		"diff":  second(kube.Diff(t.Context(), c, manifests(t, coredns))),
	} {
		if err == nil || strings.Count(err.Error(), "connection refused") != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ []kube.Difference, err error) error { return err }

func TestDelete(t *testing.T) {
	s := kubetest.NewServer(t)
	c := s.Client(t, kube.Options{})
	s.Put(t, manifests(t, coredns)[1])
	ref := configMapRef("kube-system", "coredns")
	for range 2 {
		if err := c.Delete(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Get(t.Context(), ref); !kube.NotFound(err) {
		t.Errorf("got %v", err)
	}
}

func configMapRef(namespace, name string) kube.Ref {
	return kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: namespace, Name: name}
}
