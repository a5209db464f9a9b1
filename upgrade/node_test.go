package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/workflow"
)

// workload puts a pod of a ReplicaSet's onto a node. Evictions of it are answered by evict.
func (r *rig) workload(t *testing.T, node string, evict func(w http.ResponseWriter)) {
	t.Helper()
	yes := true
	r.api.Put(t, &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db-0", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "db", UID: "u", Controller: &yes},
		}},
		Spec:   corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	})
	r.api.Intercept = func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.HasSuffix(q.URL.Path, "/eviction") {
			return false
		}
		evict(w)
		return true
	}
}

func TestWorkersConverge(t *testing.T) {
	r := newRig(t, "w-1", "w-2")
	perform(t, Stage(r.Cluster, r.Workers()))
	p := Workers(r.Cluster, r.Workers(), rigOptions())
	want := []string{
		"update /opt/bin/kubelet: " + newVersion, "update /usr/local/bin/kubectl: " + newVersion, "update " + rigContainerd + ": " + newVersion,
		"run Node w-1: drain, start in the new version, uncordon",
	}
	got := r.check(t, p, "w-1")
	slices.Sort(got[:3])
	slices.Sort(want[:3])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	perform(t, p)
	for _, name := range []string{"w-1", "w-2"} {
		h := r.hosts[name]
		want := map[string]string{}
		for _, path := range []string{rigKubelet, "/usr/local/bin/kubectl", rigContainerd} {
			want[path] = newVersion // and the one before is gone: nothing can put it back any more
		}
		if diff := cmp.Diff(want, h.files()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if len(h.exchanges) != 1 || !slices.Equal(h.exchanges[0][:5], []string{"", "", "", "", "yes"}) {
			t.Errorf("%s: exchanges %q, want one, and the runtime started anew", name, h.exchanges)
		}
		if got := r.node(t, name); got != newVersion {
			t.Errorf("node %s is %s", name, got)
		}
		r.ends(t, p, name)
	}
	tidy := Tidy(r.Cluster, r.Nodes)
	perform(t, tidy)
	for path := range r.hosts["w-1"].files() {
		if strings.Contains(path, "myadm") {
			t.Errorf("%s is left", path)
		}
	}
	r.ends(t, tidy, "w-1")
}

// A kubelet that crashes in the new version is put back, and the worker serves again. The error says why, and what the
// kubelet said; the other workers are left alone.
func TestWorkerIsPutBack(t *testing.T) {
	t.Parallel() // it waits for a second look
	r := newRig(t, "w-1", "w-2")
	r.hosts["w-1"].crashes[kubelet] = newVersion
	before, other := r.hosts["w-1"].files(), r.hosts["w-2"].files()
	perform(t, Stage(r.Cluster, r.Workers()[:1]))
	staged := r.hosts["w-1"].files()
	fails(t, Workers(r.Cluster, r.Workers(), rigOptions()), "w-1: workers: kubelet "+newVersion+": it was started", "panic: kubelet", "what ran before is back and healthy")
	if diff := cmp.Diff(staged, r.hosts["w-1"].files()); diff != "" {
		t.Errorf("the files, with those that are staged (-before +after):\n%s", diff)
	}
	for path, v := range before {
		if got := r.hosts["w-1"].files()[path]; got != v {
			t.Errorf("%s is %q", path, got)
		}
	}
	if diff := cmp.Diff(other, r.hosts["w-2"].files()); diff != "" || len(r.hosts["w-2"].exchanges) > 0 {
		t.Errorf("the other worker: %q\n%s", r.hosts["w-2"].exchanges, diff)
	}
	if got := r.node(t, "w-1"); got != oldVersion {
		t.Errorf("node w-1 is %s", got)
	}
	// With the cause mended, the same command does it.
	r.hosts["w-1"].crashes[kubelet] = "none"
	perform(t, Stage(r.Cluster, r.Workers()), Workers(r.Cluster, r.Workers(), rigOptions()))
	if got := r.node(t, "w-1"); got != newVersion {
		t.Errorf("node w-1 is %s", got)
	}
}

// A host on which the replacement itself fails gets back what it had, and serves again.
func TestReplacementThatFailsIsPutBack(t *testing.T) {
	r := newRig(t, "w-1", "w-2")
	h := r.hosts["w-1"]
	h.breaks = 1
	perform(t, Stage(r.Cluster, r.Workers()))
	fails(t, Workers(r.Cluster, r.Workers(), rigOptions()), "w-1: workers: the replacement", "containerd.service failed", "what ran before is back and healthy")
	if len(h.exchanges) != 2 || h.version(kubelet) != oldVersion {
		t.Errorf("the kubelet is %s; exchanges %q", h.version(kubelet), h.exchanges)
	}
	if got := r.node(t, "w-1"); got != oldVersion {
		t.Errorf("node w-1 is %s", got)
	}
	if len(r.hosts["w-2"].exchanges) > 0 {
		t.Error("the next worker was begun")
	}
}

// Nothing stops for binaries that are not there.
func TestWorkerWithoutItsBinaries(t *testing.T) {
	r := newRig(t, "w-1")
	fails(t, Workers(r.Cluster, r.Workers(), rigOptions()), "w-1: workers: ", "has not been brought to the host", "hint: let the phase binaries run too")
	if len(r.hosts["w-1"].exchanges) > 0 {
		t.Error("something was stopped")
	}
}

// A node that was emptied in vain, since nothing could be stopped then, takes pods again.
func TestControlPlaneThatMustNotStop(t *testing.T) {
	r := newRig(t, "w-1") // and so no etcd, which has to be asked before anything stops
	h := r.hosts["cp-1"]
	perform(t, Stage(r.Cluster, r.Nodes))
	fails(t, ControlPlanes(r.Cluster, r.ControlPlanes(), rigOptions()), "cp-1: control-planes: ")
	if got := r.node(t, "cp-1"); len(h.exchanges) > 0 || got != oldVersion {
		t.Errorf("the node is %s; exchanges %q", got, h.exchanges)
	}
}

// A run that is stopped while an API server is out of the endpoint puts it back there before it ends.
func TestStoppedRunReturnsToTheEndpoint(t *testing.T) {
	r := newRig(t)
	r.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	h := r.hosts["cp-1"]
	perform(t, Stage(r.Cluster, r.Nodes))
	ctx, stop := context.WithCancel(t.Context())
	h.OnPrefix("systemd-run").Changes().Do(func(f *hosttest.Fake, _ host.Cmd) ([]byte, error) {
		f.Put(host.File{Path: manifests.HAProxyConfigPath, Mode: 0o600, Data: []byte("without cp-1")})
		stop()
		return nil, ctx.Err()
	})
	_, err := new(workflow.Runner).Run(ctx, ControlPlanes(r.Cluster, r.Nodes, rigOptions()))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	file, _ := h.Get(manifests.HAProxyConfigPath)
	if !strings.Contains(string(file.Data), r.Nodes[0].Spec.AdvertiseAddress) {
		t.Errorf("the load balancer has\n%s", file.Data)
	}
}

// Of several components that are ill at the same time, the one that the others need is to blame.
func TestFirstIll(t *testing.T) {
	ill := func(component string) error { return &illError{Component: component, Err: errors.New("ill")} }
	for _, tt := range []struct {
		errs []error
		want string
	}{
		{[]error{ill(kubelet), ill(manifests.APIServerName), ill(manifests.EtcdName)}, manifests.EtcdName},
		{[]error{nil, ill(manifests.SchedulerName), fmt.Errorf("wrapped: %w", ill(manifests.APIServerName))}, manifests.APIServerName},
		{[]error{ill(kubelet)}, kubelet},
		{[]error{errors.New("something else"), nil}, ""},
	} {
		got := ""
		if first := firstIll(tt.errs...); first != nil {
			got = first.Component
		}
		if got != tt.want {
			t.Errorf("of %v it is %q, want %q", tt.errs, got, tt.want)
		}
	}
}

// Nothing is replaced on a node that cannot be emptied, and pods may come to it again.
func TestWorkerThatCannotBeEmptied(t *testing.T) {
	t.Parallel() // it waits for pods
	r := newRig(t, "w-1", "w-2")
	r.workload(t, "w-1", func(w http.ResponseWriter) {
		kubetest.Fail(w, apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0))
	})
	opts := rigOptions()
	opts.Drain.Timeout = 100 * time.Millisecond
	perform(t, Stage(r.Cluster, r.Workers()))
	fails(t, Workers(r.Cluster, r.Workers(), opts), "default/db-0")
	if h := r.hosts["w-1"]; len(h.exchanges) > 0 || h.version(kubelet) != oldVersion {
		t.Errorf("exchanged %q", h.exchanges)
	}
	if got := r.node(t, "w-1"); got != oldVersion {
		t.Errorf("node w-1 is %s", got)
	}
}

// A node that its user has cordoned stays cordoned.
func TestWorkersKeepAUsersCordon(t *testing.T) {
	r := newRig(t, "w-1")
	put(t, r.api, nodeRef("w-1"), true, "spec", "unschedulable")
	p := Workers(r.Cluster, r.Workers(), rigOptions())
	perform(t, Stage(r.Cluster, r.Workers()), p)
	if got := r.node(t, "w-1"); got != newVersion+" cordoned" {
		t.Errorf("node w-1 is %s", got)
	}
	r.ends(t, p, "w-1")
}

// Of the only node nobody would take the pods. It is not drained, and what a lone etcd holds is copied before another
// version of it starts.
func TestLoneControlPlaneConverges(t *testing.T) {
	r := newRig(t)
	holder := "cp-1_a"
	r.api.Put(t, &coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: manifests.SchedulerName}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder},
	})
	r.workload(t, "cp-1", func(http.ResponseWriter) { t.Error("a pod is evicted") })
	old, next := imagesAt(t, oldVersion), imagesAt(t, newVersion)
	perform(t, Stage(r.Cluster, r.Nodes))
	p := ControlPlanes(r.Cluster, r.Nodes, rigOptions())
	want := []string{}
	for _, name := range staticpod.Names {
		if from, to := imageFor(name, old), imageFor(name, next); from != to {
			want = append(want, "update "+manifests.StaticPodPath(name)+": "+from+" to "+to)
		}
	}
	if got := r.check(t, p, "cp-1"); !slices.Equal(got[:len(want)], want) {
		t.Errorf("got %q, want first %q", got, want)
	}
	perform(t, p)
	h := r.hosts["cp-1"]
	for _, name := range staticpod.Names {
		f, _ := h.Get(manifests.StaticPodPath(name))
		if diff := cmp.Diff(string(manifestOf(name, imageFor(name, next), "--theirs")), string(f.Data)); diff != "" {
			t.Errorf("more than the image changed (-want +got):\n%s", diff)
		}
		if _, ok := h.Get(keptPod(name)); ok {
			t.Errorf("%s is healthy and could still be put back by a later run", name)
		}
	}
	if len(h.exchanges) != 1 || len(strings.Fields(h.exchanges[0][0])) != len(want) {
		t.Fatalf("exchanges %q", h.exchanges)
	}
	dir := r.Config.Spec.Etcd.DataDir
	if old.Etcd != next.Etcd && !slices.Equal(h.exchanges[0][1:4], []string{dir + "/member", dir + "/member.myadm-previous", ""}) {
		t.Errorf("etcd's data: %q", h.exchanges[0][1:4])
	}
	if got := r.node(t, "cp-1"); got != newVersion {
		t.Errorf("the node is %s", got)
	}
	if got := text(t, r.api, leaseRef(manifests.SchedulerName), "spec", "holderIdentity"); got != "" {
		t.Errorf("the scheduler's lease is still %s's", got)
	}
	r.ends(t, p, "cp-1")
	tidy := Tidy(r.Cluster, r.Nodes)
	perform(t, tidy)
	for _, path := range h.Paths("/") {
		if strings.Contains(path, "myadm-") || strings.HasPrefix(path, folder) {
			t.Errorf("%s is left", path)
		}
	}
	r.ends(t, tidy, "cp-1")
}

// An API server that is ill is put back with all that needs it. An etcd that is well stays: it would not read what the
// new one has written.
func TestControlPlaneIsPutBack(t *testing.T) {
	t.Parallel() // it waits for a second look
	r := newRig(t)
	h := r.hosts["cp-1"]
	h.crashes[manifests.APIServerName] = newVersion
	old, next := imagesAt(t, oldVersion), imagesAt(t, newVersion)
	if old.Etcd == next.Etcd {
		t.Fatal("etcd's version does not change, so the test proves nothing")
	}
	perform(t, Stage(r.Cluster, r.Nodes))
	fails(t, ControlPlanes(r.Cluster, r.Nodes, rigOptions()), "kube-apiserver "+newVersion, "panic: kube-apiserver", "what ran before is back and healthy")
	for _, name := range staticpod.Names {
		want := imageFor(name, old)
		if name == manifests.EtcdName {
			want = next.Etcd
		}
		if got := h.version(name); got != staticpod.ImageVersion(want) {
			t.Errorf("%s runs in %s, want %s", name, got, staticpod.ImageVersion(want))
		}
	}
	if len(h.exchanges) != 2 || slices.Contains(h.exchanges[1], manifests.StaticPodPath(manifests.EtcdName)) || h.exchanges[1][3] != "" {
		t.Errorf("exchanges %q", h.exchanges)
	}
	if got := r.node(t, "cp-1"); got != oldVersion {
		t.Errorf("the node is %s", got)
	}
}

// An etcd that does not come up is put back with its data, and all else with it.
func TestEtcdIsPutBack(t *testing.T) {
	t.Parallel() // it waits for a second look
	r := newRig(t)
	h := r.hosts["cp-1"]
	h.crashes[manifests.EtcdName] = staticpod.ImageVersion(imagesAt(t, newVersion).Etcd)
	perform(t, Stage(r.Cluster, r.Nodes))
	fails(t, ControlPlanes(r.Cluster, r.Nodes, rigOptions()), "etcd 3.", "panic: etcd", "what ran before is back and healthy")
	old := imagesAt(t, oldVersion)
	for _, name := range staticpod.Names {
		if got := h.version(name); got != staticpod.ImageVersion(imageFor(name, old)) {
			t.Errorf("%s runs in %s", name, got)
		}
	}
	dir := r.Config.Spec.Etcd.DataDir
	if len(h.exchanges) != 2 || !slices.Equal(h.exchanges[1][1:4], []string{dir + "/member", "", dir + "/member.myadm-previous"}) {
		t.Errorf("exchanges %q", h.exchanges)
	}
}

// Nothing is stopped while an image of what is to run is missing.
func TestControlPlaneWithoutAnImage(t *testing.T) {
	r := newRig(t)
	h := r.hosts["cp-1"]
	missing := imagesAt(t, newVersion).Scheduler
	h.images = slices.DeleteFunc(h.images, func(s string) bool { return s == missing })
	perform(t, Stage(r.Cluster, r.Nodes))
	h.ResetRecord()
	fails(t, ControlPlanes(r.Cluster, r.Nodes, rigOptions()), missing, "hint: --bundle")
	if w, x := h.Writes(), h.Runs(); len(w)+len(x) > 0 {
		t.Errorf("it wrote %q and ran %q", w, x)
	}
}

// A runtime that is no containerd of ours is not asked for images, and one that its user brought is not replaced.
func TestWorkersLeaveAForeignRuntimeAlone(t *testing.T) {
	r := newRig(t, "w-1")
	h := r.hosts["w-1"]
	h.Put(host.File{Path: manifests.ContainerdUnitPath, Mode: 0o644, Data: []byte("[Service]\nExecStart=/usr/local/bin/containerd\n")})
	perform(t, Stage(r.Cluster, r.Workers()), Workers(r.Cluster, r.Workers(), rigOptions()))
	if f, _ := h.Get(rigContainerd); string(f.Data) != oldVersion || h.exchanges[0][4] != "no" {
		t.Errorf("containerd is %s; exchanges %q", f.Data, h.exchanges)
	}
	if h.version(kubelet) != newVersion {
		t.Errorf("the kubelet is %s", h.version(kubelet))
	}
}
