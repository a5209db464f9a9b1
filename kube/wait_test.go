package kube_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

func configMap(namespace, name string, data ...string) *corev1.ConfigMap {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string]string{}}
	for i := 0; i < len(data); i += 2 {
		m.Data[data[i]] = data[i+1]
	}
	return m
}

func node(name string, ready corev1.ConditionStatus, message string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Message: message}}},
	}
}

// within ends a test that would hang, far beyond what a busy machine needs.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestWaitNodesReadyFollowsTheCluster(t *testing.T) {
	s := kubetest.NewServer(t, node("h1", corev1.ConditionTrue, ""))
	c := s.Client(t, kube.Options{})
	// Each step of the story is what the wait is told to wait for next.
	story := []func(){
		func() { s.Put(t, node("h2", corev1.ConditionFalse, "cni plugin not initialized")) },
		func() { s.DropWatches(); s.Put(t, node("h2", corev1.ConditionUnknown, "lost")) }, // an API server's restart
		func() { s.Remove(kube.Ref{APIVersion: "v1", Kind: "Node", Name: "h2"}) },
		func() { s.Put(t, node("h2", corev1.ConditionTrue, "")) },
	}
	var heard []string
	err := c.WaitNodesReady(within(t), []string{"h1", "h2"}, func(waiting []string) {
		heard = append(heard, strings.Join(waiting, "; "))
		if len(story) > 0 {
			story[0]()
			story = story[1:]
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"node h2 has not registered",
		"node h2 is not Ready: cni plugin not initialized",
		"node h2 is not Ready: lost",
		"node h2 has not registered",
		"",
	}
	if d := cmp.Diff(want, heard); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestWaitSurvivesAnAPIServerThatIsAway(t *testing.T) {
	s := kubetest.NewServer(t)
	var asked atomic.Int32
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		switch asked.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			kubetest.Fail(w, apierrors.NewServiceUnavailable("starting"))
			return true
		case 4: // the watch after the first list: its version is too old already
			s.Compact()
			s.Put(t, configMap("kube-public", "cluster-info", "jws-kubeconfig-abcdef", "x"))
			s.Compact()
		}
		return false
	}
	if err := s.Client(t, kube.Options{}).WaitConfigMap(within(t), "kube-public", "cluster-info", "jws-kubeconfig-abcdef"); err != nil {
		t.Fatal(err)
	}
	if asked.Load() < 5 {
		t.Errorf("only %d requests", asked.Load())
	}
}

func TestWaitTellsWhatWasMissing(t *testing.T) {
	s := kubetest.NewServer(t, node("h2", corev1.ConditionFalse, "cni plugin not initialized"))
	c := s.Client(t, kube.Options{})
	ctx, cancel := context.WithCancel(within(t))
	err := c.WaitNodesReady(ctx, []string{"h2", "h3"}, func([]string) { cancel() })
	var gaveUp *kube.WaitError
	if !errors.As(err, &gaveUp) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	want := []string{"node h2 is not Ready: cni plugin not initialized", "node h3 has not registered"}
	if d := cmp.Diff(want, gaveUp.Waiting); d != "" || !strings.Contains(err.Error(), want[0]) {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func TestWaitTellsWhatTheAPIServerSaid(t *testing.T) {
	s := kubetest.NewServer(t)
	ctx, cancel := context.WithCancel(within(t))
	var asked atomic.Int32
	s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1) == 2 {
			cancel()
		}
		kubetest.Fail(w, apierrors.NewServiceUnavailable("etcd has no leader"))
		return true
	}
	err := s.Client(t, kube.Options{}).WaitNodesReady(ctx, []string{"h1"}, nil)
	if err == nil || !strings.Contains(err.Error(), "etcd has no leader") {
		t.Errorf("got %v", err)
	}
}

func TestWaitEndsAtOnceWhenLoggedOut(t *testing.T) {
	s := kubetest.NewServer(t)
	s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		kubetest.Fail(w, apierrors.NewUnauthorized("certificate has expired"))
		return true
	}
	err := s.Client(t, kube.Options{}).WaitNodesReady(within(t), []string{"h1"}, nil)
	if !apierrors.IsUnauthorized(err) {
		t.Errorf("got %v", err)
	}
}

func TestWaitRollout(t *testing.T) {
	one := int32(2)
	deployment := func(generation, observed int64, updated, available int32) *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns", Generation: generation},
			Spec:       appsv1.DeploymentSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "dns"}}},
			Status:     appsv1.DeploymentStatus{ObservedGeneration: observed, UpdatedReplicas: updated, AvailableReplicas: available},
		}
	}
	surplus := func(d *appsv1.Deployment) *appsv1.Deployment {
		d.Status.Replicas = 3
		return d
	}
	daemonSet := func(observed int64, desired, available int32) *appsv1.DaemonSet {
		return &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-proxy", Generation: 1},
			Status: appsv1.DaemonSetStatus{ObservedGeneration: observed, DesiredNumberScheduled: desired,
				UpdatedNumberScheduled: desired, NumberAvailable: available},
		}
	}
	coredns := kube.Ref{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns"}
	proxy := kube.Ref{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "kube-system", Name: "kube-proxy"}

	for _, test := range []struct {
		name string
		ref  kube.Ref
		obj  any
		want string
	}{
		{"missing", coredns, nil, "Deployment kube-system/coredns is not there"},
		{"not seen", coredns, deployment(2, 1, 2, 2), "has not been seen by its controller"},
		{"old pods", coredns, deployment(2, 2, 1, 2), "has updatedReplicas 1 of 2"},
		{"pods that do not answer", coredns, deployment(2, 2, 2, 1), "has availableReplicas 1 of 2; pod coredns-x: ImagePullBackOff: no such image"},
		{"a daemon set not seen", proxy, daemonSet(0, 0, 0), "has not been seen by its controller"},
		{"a daemon set on its way", proxy, daemonSet(1, 3, 2), "has numberAvailable 2 of 3"},
		{"old pods that still answer", coredns, surplus(deployment(2, 2, 2, 2)), "has 1 replicas that are not updated"},
		{"pods on a node that is gone", coredns, deployment(2, 2, 2, 1), "pod coredns-y on h9: it has not ended; pod coredns-z on h9: it is not Ready"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := kubetest.NewServer(t, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns-y", Labels: map[string]string{"app": "dns"},
					DeletionTimestamp: &metav1.Time{Time: time.Unix(1790000000, 0)}},
				Spec: corev1.PodSpec{NodeName: "h9"},
			}, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns-z", Labels: map[string]string{"app": "dns"}},
				Spec:       corev1.PodSpec{NodeName: "h9"},
				Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}},
			}, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns-x", Labels: map[string]string{"app": "dns"}},
				Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{
					Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}}}}},
			})
			ctx, cancel := context.WithCancel(within(t))
			s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Query().Get("watch") != "" {
					cancel() // it has looked once, and would wait now
				}
				return false
			}
			switch obj := test.obj.(type) {
			case *appsv1.Deployment:
				s.Put(t, obj)
			case *appsv1.DaemonSet:
				s.Put(t, obj)
			}
			err := s.Client(t, kube.Options{}).WaitRollout(ctx, test.ref)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	s := kubetest.NewServer(t, deployment(2, 2, 2, 2), daemonSet(1, 3, 3))
	if err := s.Client(t, kube.Options{}).WaitRollout(within(t), coredns, proxy); err != nil {
		t.Error(err)
	}
	if err := s.Client(t, kube.Options{}).WaitRollout(within(t), kubeSystem); err == nil {
		t.Error("a namespace rolled out")
	}
}

func TestWaitHealthy(t *testing.T) {
	s := kubetest.NewServer(t)
	s.SetHealth("/readyz", "[-]etcd failed: reason withheld\n")
	ctx, cancel := context.WithCancel(within(t))
	var asked atomic.Int32
	s.Intercept = func(http.ResponseWriter, *http.Request) bool {
		if asked.Add(1) == 2 {
			cancel()
		}
		return false
	}
	probe := kube.Probe{URL: "https://" + s.Address() + "/readyz", TLS: s.TLS()}
	err := kube.WaitHealthy(ctx, probe)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "etcd") {
		t.Errorf("got %v", err)
	}
	if err := kube.Healthy(within(t), probe); err == nil || !strings.Contains(err.Error(), "etcd") {
		t.Errorf("asked once: %v", err)
	}
	s.SetHealth("/readyz", "")
	if err := kube.Healthy(within(t), probe); err != nil {
		t.Error(err)
	}
	if err := kube.WaitHealthy(within(t), probe); err != nil {
		t.Error(err)
	}
}

// Nobody listens yet: the wait goes on, and at its end says so.
func TestWaitHealthyBeforeAnybodyListens(t *testing.T) {
	s := kubetest.NewServer(t)
	ctx, cancel := context.WithCancel(within(t))
	dials := 0
	probe := kube.Probe{URL: "https://" + s.Address() + "/livez", TLS: s.TLS(), Dial: refuse(func() {
		if dials++; dials == 3 {
			cancel()
		}
	})}
	if err := kube.WaitHealthy(ctx, probe); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	if dials < 3 {
		t.Errorf("%d dials", dials)
	}
}
