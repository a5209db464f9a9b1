package upgrade

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/workflow"
)

// enough is a patience that no sound roll-out uses up.
const enough = time.Minute

var (
	dnsRef   = kube.Ref{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns"}
	proxyRef = kube.Ref{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "kube-system", Name: "kube-proxy"}
)

const (
	updateDNS   = "update Deployment kube-system/coredns: image registry.k8s.io/coredns/coredns:v1.14.6 instead of registry.k8s.io/coredns/coredns:v1.14.2"
	updateProxy = "update DaemonSet kube-system/kube-proxy: image registry.k8s.io/kube-proxy:v1.37.2 instead of registry.k8s.io/kube-proxy:v1.36.3"
)

// rolledOut plays controllers that have started all pods of a workload.
func rolledOut(obj *unstructured.Unstructured) { rollOut(obj, 3) }

// rollOut plays controllers that have started some of three pods.
func rollOut(obj *unstructured.Unstructured, updated int64) {
	switch obj.GetKind() {
	case "Deployment":
		obj.Object["status"] = map[string]any{"replicas": int64(3), "updatedReplicas": updated, "availableReplicas": int64(3)}
	case "DaemonSet":
		obj.Object["status"] = map[string]any{"desiredNumberScheduled": int64(3), "updatedNumberScheduled": updated, "numberAvailable": int64(3)}
	}
}

// Both get their images, once, and all that the user has changed of them stays.
func TestAddons(t *testing.T) {
	c, s := upgradable(t, rolledOut)
	put(t, s, dnsRef, float64(3), "spec", "replicas") // as JSON has it
	put(t, s, dnsRef, []any{map[string]any{"key": "mine", "operator": "Exists"}}, "spec", "template", "spec", "tolerations")
	containers, _, _ := unstructured.NestedSlice(s.Object(dnsRef).Object, "spec", "template", "spec", "containers")
	containers[0].(map[string]any)["env"] = []any{map[string]any{"name": "OWN", "value": "1"}}
	sidecar := map[string]any{"name": "mine", "image": "registry.k8s.io/coredns/coredns:v1.14.2"}
	put(t, s, dnsRef, []any{sidecar, containers[0]}, "spec", "template", "spec", "containers")
	corefile := "# mine\n.:53 {\n  rewrite name a b\n  kubernetes cluster.local\n}\n"
	put(t, s, corefileRef, corefile, "data", "Corefile")
	was := map[kube.Ref]*unstructured.Unstructured{dnsRef: s.Object(dnsRef), proxyRef: s.Object(proxyRef)}

	p := Addons(c, enough)
	if diff := cmp.Diff([]string{updateDNS, updateProxy}, pending(t, s, p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	before := s.Version()
	perform(t, p)
	if s.Version() != before+2 {
		t.Errorf("%d writes, want two", s.Version()-before)
	}
	for ref, w := range was {
		container, from, to := "coredns", "v1.14.2", "v1.14.6"
		if ref == proxyRef {
			container, from, to = "kube-proxy", "v1.36.3", "v1.37.2"
		}
		image := strings.Replace(workload{container: container, found: w}.has(), from, to, 1)
		if err := setImage(w, container, image); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w.Object["spec"], s.Object(ref).Object["spec"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ref, diff)
		}
	}
	if got := text(t, s, corefileRef, "data", "Corefile"); got != corefile {
		t.Errorf("the Corefile is now:\n%s", got)
	}
	settles(t, s, p)
	if kept, err := addonsKept(t.Context(), c); err != nil || len(kept) > 0 {
		t.Errorf("kept: %v, %v", kept, err)
	}
}

// What the user has replaced, removed or brought further stays as it is, and the plan can say so.
func TestAddonsOfTheUsers(t *testing.T) {
	for _, tt := range []struct {
		name      string
		dns       string // the image that CoreDNS has; empty: it is not there
		container string // its name
		repo      string // the cluster's; empty: the default one
		want      string // what is done to CoreDNS
		kept      string // what is said of it
	}{
		{"removed", "", "coredns", "", "", ""},
		{"as it is to be", "registry.k8s.io/coredns/coredns:v1.14.6", "coredns", "", "", ""},
		{"newer", "registry.k8s.io/coredns/coredns:v1.14.7", "coredns", "", "", "which is newer than"},
		{"newer by more than a digit", "registry.k8s.io/coredns/coredns:v1.100.0", "coredns", "", "", "which is newer than"},
		{"a repository of their own", "registry.example:5000/coredns:v1.14.2", "coredns", "", "", "an image of your own"},
		{"a name of their own", "registry.k8s.io/mine/coredns:v1.14.2", "coredns", "", "", "an image of your own"},
		{"a digest", "registry.k8s.io/coredns/coredns:v1.14.2@sha256:00", "coredns", "", "", "an image of your own"},
		{"a tag that is no version", "registry.k8s.io/coredns/coredns:mine", "coredns", "", "", "an image of your own"},
		{"no tag", "registry.example:5000/coredns", "coredns", "registry.example:5000", "", "an image of your own"},
		{"another program", "unbound:1", "unbound", "", "", "it has no container coredns"},
		{"the cluster's own repository", "registry.example:5000/coredns:v1.14.2", "coredns", "registry.example:5000", "registry.example:5000/coredns:v1.14.6", ""},
		{"the default one before the cluster had its own", "registry.k8s.io/coredns/coredns:v1.14.2", "coredns", "registry.example:5000", "registry.example:5000/coredns:v1.14.6", ""},
		{"a default one of old", "k8s.gcr.io/coredns:1.14.2", "coredns", "", "registry.k8s.io/coredns/coredns:v1.14.6", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := upgradable(t, rolledOut)
			if tt.repo != "" {
				c.Config.Spec.ImageRepository = tt.repo
			}
			s.Remove(proxyRef)
			if tt.dns == "" {
				s.Remove(dnsRef)
			} else {
				put(t, s, dnsRef, []any{map[string]any{"name": tt.container, "image": tt.dns}}, "spec", "template", "spec", "containers")
			}
			p := Addons(c, enough)
			var want []string
			if tt.want != "" {
				want = []string{"update Deployment kube-system/coredns: image " + tt.want + " instead of " + tt.dns}
			}
			if diff := cmp.Diff(want, pending(t, s, p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			kept, err := addonsKept(t.Context(), c)
			if err != nil || (len(kept) > 0) != (tt.kept != "") || len(kept) > 0 && !strings.Contains(kept[0], "Deployment kube-system/coredns ") || !strings.Contains(strings.Join(kept, ""), tt.kept) {
				t.Errorf("kept: %v, %v, want %q", kept, err, tt.kept)
			}
			perform(t, p)
			settles(t, s, p)
		})
	}
}

// A Corefile that the new CoreDNS would not take is rewritten before CoreDNS reads it, and the old one kept beside it.
func TestAddonsMigrateTheCorefile(t *testing.T) {
	c, s := upgradable(t, rolledOut)
	old := s.Object(dnsRef)
	if err := setImage(old, "coredns", "registry.k8s.io/coredns:1.3.1"); err != nil {
		t.Fatal(err)
	}
	s.Put(t, old)
	put(t, s, corefileRef, oldCorefile, "data", "Corefile")
	put(t, s, corefileRef, "kept", "data", "mine")
	p := Addons(c, enough)
	want := []string{
		"update ConfigMap kube-system/coredns: Corefile for CoreDNS 1.14.6, the one before under Corefile-backup",
		strings.Replace(updateDNS, "coredns/coredns:v1.14.2", "coredns:1.3.1", 1), updateProxy,
	}
	if diff := cmp.Diff(want, pending(t, s, p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	before := len(s.Requests())
	perform(t, p)
	var writes []string
	for _, r := range s.Requests()[before:] {
		if path, ok := strings.CutPrefix(r, "PUT "); ok {
			writes = append(writes, path[strings.Index(path, "kube-system/")+12:strings.Index(path, "?")])
		}
	}
	if diff := cmp.Diff([]string{"configmaps/coredns", "deployments/coredns", "daemonsets/kube-proxy"}, writes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	now := text(t, s, corefileRef, "data", "Corefile")
	if !strings.Contains(now, "forward . /etc/resolv.conf") || !strings.Contains(now, "rewrite name a b.example") || strings.Contains(now, "proxy") {
		t.Errorf("the Corefile is now:\n%s", now)
	}
	if text(t, s, corefileRef, "data", "Corefile-backup") != oldCorefile || text(t, s, corefileRef, "data", "mine") != "kept" {
		t.Error("the old Corefile is not kept")
	}
	settles(t, s, p)

	// One that cannot be rewritten stops all, before anything has changed.
	s.Put(t, old)
	put(t, s, corefileRef, "a.example b.example {\n  proxy . 1.1.1.1\n  proxy x 2.2.2.2\n}\n", "data", "Corefile")
	version := s.Version()
	_, err := new(workflow.Runner).Run(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), "ConfigMap kube-system/coredns: ") || !strings.Contains(err.Error(), "proxy") || s.Version() != version {
		t.Errorf("got %v, and version %d, want %d", err, s.Version(), version)
	}
}

// The user scales CoreDNS at the moment in which it gets its image: both come through. A newer kube-proxy at that moment
// stays.
func TestAddonsWhileOthersWrite(t *testing.T) {
	c, s := upgradable(t, rolledOut)
	const newer = "registry.k8s.io/kube-proxy:v1.37.9"
	var once, twice atomic.Bool
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/deployments/coredns") && !once.Swap(true) {
			put(t, s, dnsRef, int64(7), "spec", "replicas")
			put(t, s, dnsRef, map[string]any{"replicas": int64(7), "updatedReplicas": int64(7), "availableReplicas": int64(7)}, "status")
		}
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/daemonsets/kube-proxy") && !twice.Swap(true) {
			proxy := s.Object(proxyRef)
			if err := setImage(proxy, "kube-proxy", newer); err != nil {
				t.Error(err)
			}
			s.Put(t, proxy)
		}
		return false
	}
	s.Mutate = func(obj *unstructured.Unstructured) {
		if obj.GetKind() == "DaemonSet" {
			rolledOut(obj)
		}
	}
	perform(t, Addons(c, enough))
	dns, err := kube.Get[appsv1.Deployment](t.Context(), s.Client(t, kube.Options{}), dnsRef)
	if err != nil {
		t.Fatal(err)
	}
	if image := dns.Spec.Template.Spec.Containers[0].Image; *dns.Spec.Replicas != 7 || !strings.HasSuffix(image, ":v1.14.6") {
		t.Errorf("it has %d replicas of %s", *dns.Spec.Replicas, image)
	}
	if image := (workload{container: "kube-proxy", found: s.Object(proxyRef)}).has(); image != newer {
		t.Errorf("kube-proxy has %s", image)
	}
}

// It is done when all pods run so. One that was killed meanwhile is waited for by the next run, which writes nothing.
func TestAddonsWaitForTheirPods(t *testing.T) {
	c, s := upgradable(t, func(obj *unstructured.Unstructured) { rollOut(obj, 1) })
	put(t, s, dnsRef, int64(3), "spec", "replicas")
	s.Put(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-proxy-x", Labels: map[string]string{"k8s-app": "kube-proxy"}},
		Spec:       corev1.PodSpec{NodeName: "w-9"},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}},
	})
	_, err := new(workflow.Runner).Run(t.Context(), Addons(c, time.Second))
	for _, want := range []string{"after 1s", "DaemonSet kube-system/kube-proxy has updatedNumberScheduled 1 of 3", "pod kube-proxy-x on w-9: it is not Ready", "hint: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	p := Addons(c, enough)
	want := []string{
		"run Deployment kube-system/coredns: roll out: it has updatedReplicas 1 of 3",
		"run DaemonSet kube-system/kube-proxy: roll out: it has updatedNumberScheduled 1 of 3",
	}
	if diff := cmp.Diff(want, pending(t, s, p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	finish := func() {
		for _, ref := range []kube.Ref{dnsRef, proxyRef} {
			o := s.Object(ref)
			rolledOut(o)
			s.Put(t, o)
		}
	}
	var watching atomic.Int32
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") != "" && watching.Add(1) == 2 {
			finish() // now that both are waited for
		}
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		return false
	}
	perform(t, p)
	settles(t, s, p)
}

// A node that is away keeps no upgrade from going on: its pod of kube-proxy is not waited for, and pods of CoreDNS are.
func TestAddonsDoNotWaitForNodesThatAreAway(t *testing.T) {
	c, s := upgradable(t, func(obj *unstructured.Unstructured) {
		rolledOut(obj)
		if obj.GetKind() == "DaemonSet" {
			rollOut(obj, 1)
		}
	})
	s.Put(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "w-9"},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}},
	})
	p := Addons(c, enough)
	perform(t, p)
	settles(t, s, p)
	o := s.Object(dnsRef)
	rollOut(o, 1)
	s.Put(t, o)
	if diff := cmp.Diff([]string{"run Deployment kube-system/coredns: roll out: it has updatedReplicas 1 of 2"}, pending(t, s, p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// addonsKept says which addons Addons leaves as they are although the version asks for something else, a sentence each.
func addonsKept(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	client, err := c.Kube(ctx)
	if err != nil {
		return nil, err
	}
	all, err := workloads(ctx, client, c)
	var sentences []string
	for _, w := range all {
		if _, kept := w.next(); kept != "" {
			sentences = append(sentences, w.ref.String()+" "+kept)
		}
	}
	return sentences, err
}
