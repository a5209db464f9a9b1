package kube_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

// refuse is a dialer whose host has nobody listening.
func refuse(called func()) kube.DialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		called()
		return nil, errors.New("connection refused")
	}
}

var controlPlane = corev1.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}

func TestMarkNode(t *testing.T) {
	theirs := corev1.Taint{Key: "node.kubernetes.io/not-ready", Effect: corev1.TaintEffectNoExecute}
	stale := corev1.Taint{Key: "gpu", Value: "old", Effect: corev1.TaintEffectNoSchedule}
	away := corev1.Taint{Key: "away", Value: "any", Effect: corev1.TaintEffectNoSchedule}
	s := kubetest.NewServer(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "cp-1", Labels: map[string]string{"kubernetes.io/os": "linux", "zone": "a", "old": "x"}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{theirs, stale, away}},
	})
	c := s.Client(t, kube.Options{})
	marks := kube.NodeMarks{
		Labels:       map[string]string{"node-role.kubernetes.io/control-plane": "", "zone": "b"},
		Taints:       []corev1.Taint{controlPlane, {Key: "gpu", Value: "new", Effect: corev1.TaintEffectNoSchedule}},
		RemoveLabels: []string{"old", "never-there"},
		RemoveTaints: []corev1.Taint{{Key: "away", Effect: corev1.TaintEffectNoSchedule}},
	}
	diffs, err := kube.DiffNode(t.Context(), c, "cp-1", marks)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"change Node cp-1: metadata.labels[node-role.kubernetes.io/control-plane], metadata.labels[old], metadata.labels[zone], " +
		"spec.taints[away:NoSchedule], spec.taints[gpu:NoSchedule], spec.taints[node-role.kubernetes.io/control-plane:NoSchedule]"}
	if d := cmp.Diff(want, lines(diffs)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	if err := c.MarkNode(t.Context(), "cp-1", marks); err != nil {
		t.Fatal(err)
	}
	node, err := kube.Get[corev1.Node](t.Context(), c, kube.Ref{APIVersion: "v1", Kind: "Node", Name: "cp-1"})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"kubernetes.io/os": "linux", "zone": "b", "node-role.kubernetes.io/control-plane": ""}
	if d := cmp.Diff(labels, node.Labels); d != "" {
		t.Errorf("labels (-want +got):\n%s", d)
	}
	stale.Value = "new"
	if d := cmp.Diff([]corev1.Taint{theirs, stale, controlPlane}, node.Spec.Taints); d != "" {
		t.Errorf("taints (-want +got):\n%s", d)
	}

	before := s.Version()
	if err := c.MarkNode(t.Context(), "cp-1", marks); err != nil || s.Version() != before {
		t.Errorf("marked twice: %v", err)
	}
	if diffs, err := kube.DiffNode(t.Context(), c, "cp-1", marks); err != nil || len(diffs) > 0 {
		t.Errorf("after MarkNode there is still %q, %v", lines(diffs), err)
	}
}

// A taint that a controller adds between our read and our write survives.
func TestMarkNodeKeepsATaintThatComesInBetween(t *testing.T) {
	s := kubetest.NewServer(t, node("cp-1", corev1.ConditionTrue, ""))
	theirs := corev1.Taint{Key: "node.cloudprovider.kubernetes.io/uninitialized", Effect: corev1.TaintEffectNoSchedule}
	var raced atomic.Bool
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && raced.CompareAndSwap(false, true) {
			n := node("cp-1", corev1.ConditionTrue, "")
			n.Spec.Taints = []corev1.Taint{theirs}
			s.Put(t, n)
		}
		return false
	}
	c := s.Client(t, kube.Options{})
	if err := c.MarkNode(t.Context(), "cp-1", kube.NodeMarks{Taints: []corev1.Taint{controlPlane}}); err != nil {
		t.Fatal(err)
	}
	got, err := kube.Get[corev1.Node](t.Context(), c, kube.Ref{APIVersion: "v1", Kind: "Node", Name: "cp-1"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]corev1.Taint{theirs, controlPlane}, got.Spec.Taints); d != "" || !raced.Load() {
		t.Errorf("raced %t (-want +got):\n%s", raced.Load(), d)
	}
}

func TestNodeThatIsNotThere(t *testing.T) {
	s := kubetest.NewServer(t)
	c := s.Client(t, kube.Options{Patience: 1})
	diffs, err := kube.DiffNode(t.Context(), c, "w-1", kube.NodeMarks{})
	if d := cmp.Diff([]string{"create Node w-1"}, lines(diffs)); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if err := c.MarkNode(t.Context(), "w-1", kube.NodeMarks{}); !kube.NotFound(err) {
		t.Errorf("got %v", err)
	}
	if err := c.DeleteNode(t.Context(), "w-1"); err != nil {
		t.Error(err)
	}
}
