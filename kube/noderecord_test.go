package kube_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

const record = "myadm.dev/marks"

// given are marks that go when they are not given any more.
func given(labels map[string]string, taints ...corev1.Taint) kube.NodeMarks {
	return kube.NodeMarks{Labels: labels, Taints: taints, Given: &kube.GivenMarks{Labels: labels, Taints: taints}}
}

func workerNode(t *testing.T, s *kubetest.Server) *corev1.Node {
	t.Helper()
	n, err := kube.Get[corev1.Node](t.Context(), s.Client(t, kube.Options{}), kube.Ref{APIVersion: "v1", Kind: "Node", Name: "w-1"})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMarksThatAreNotGivenAnyMoreGo(t *testing.T) {
	taint := func(key, value string) corev1.Taint {
		return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffectNoSchedule}
	}
	before := given(map[string]string{"disk": "ssd", "zone": "a"}, taint("b", "1"), taint("a", ""))
	const remembered = `{"labels":{"disk":"ssd","zone":"a"},"taints":[{"key":"a","effect":"NoSchedule"},{"key":"b","value":"1","effect":"NoSchedule"}]}`
	for _, tt := range []struct {
		name   string
		others func(n *corev1.Node) // what they do between the two
		after  kube.NodeMarks
		plan   []string
		labels map[string]string
		taints []corev1.Taint
		record string
	}{
		{
			"the same in another order", nil, given(map[string]string{"zone": "a", "disk": "ssd"}, taint("a", ""), taint("b", "1")), nil,
			map[string]string{"disk": "ssd", "zone": "a", "theirs": "x"}, []corev1.Taint{taint("theirs", ""), taint("b", "1"), taint("a", "")}, remembered,
		},
		{
			"one of each", nil, given(map[string]string{"zone": "b"}, taint("a", "")),
			[]string{"change Node w-1: metadata.labels[disk], metadata.labels[zone], spec.taints[b:NoSchedule]"},
			map[string]string{"zone": "b", "theirs": "x"}, []corev1.Taint{taint("theirs", ""), taint("a", "")},
			`{"labels":{"zone":"b"},"taints":[{"key":"a","effect":"NoSchedule"}]}`,
		},
		{
			"all", nil, given(nil), []string{"change Node w-1: metadata.labels[disk], metadata.labels[zone], spec.taints[a:NoSchedule], spec.taints[b:NoSchedule]"},
			map[string]string{"theirs": "x"}, []corev1.Taint{taint("theirs", "")}, "",
		},
		{
			"another effect", nil, given(map[string]string{"disk": "ssd", "zone": "a"}, taint("b", "1"), corev1.Taint{Key: "a", Effect: corev1.TaintEffectNoExecute}),
			[]string{"change Node w-1: spec.taints[a:NoExecute], spec.taints[a:NoSchedule]"},
			map[string]string{"disk": "ssd", "zone": "a", "theirs": "x"},
			[]corev1.Taint{taint("theirs", ""), taint("b", "1"), {Key: "a", Effect: corev1.TaintEffectNoExecute}},
			`{"labels":{"disk":"ssd","zone":"a"},"taints":[{"key":"a","effect":"NoExecute"},{"key":"b","value":"1","effect":"NoSchedule"}]}`,
		},
		{
			"what others have given another value", func(n *corev1.Node) {
				n.Labels["disk"] = "nvme"
				n.Spec.Taints = []corev1.Taint{taint("b", "2")}
			}, given(nil),
			[]string{"change Node w-1: metadata.labels[zone]"}, map[string]string{"theirs": "x", "disk": "nvme"}, []corev1.Taint{taint("b", "2")}, "",
		},
		{
			"what others have taken away already", func(n *corev1.Node) {
				n.Labels, n.Spec.Taints = map[string]string{"theirs": "x"}, nil
			}, given(nil), []string{"change Node w-1: metadata.annotations[" + record + "]"}, map[string]string{"theirs": "x"}, nil, "",
		},
		{
			"what is not remembered", func(n *corev1.Node) { n.Annotations = nil }, given(nil), nil,
			map[string]string{"disk": "ssd", "zone": "a", "theirs": "x"}, []corev1.Taint{taint("theirs", ""), taint("b", "1"), taint("a", "")}, "",
		},
		{
			"what is remembered in a way that nobody can read", func(n *corev1.Node) { n.Annotations[record] = `{"labels":["disk"]` }, given(map[string]string{"zone": "a"}),
			[]string{"change Node w-1: metadata.annotations[" + record + "]"},
			map[string]string{"disk": "ssd", "zone": "a", "theirs": "x"}, []corev1.Taint{taint("theirs", ""), taint("b", "1"), taint("a", "")}, `{"labels":{"zone":"a"}}`,
		},
		{
			"marks that are not to be remembered", nil, kube.NodeMarks{Labels: map[string]string{"zone": "a"}}, nil,
			map[string]string{"disk": "ssd", "zone": "a", "theirs": "x"}, []corev1.Taint{taint("theirs", ""), taint("b", "1"), taint("a", "")}, remembered,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewServer(t, &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: "w-1", Labels: map[string]string{"theirs": "x", "zone": "a"}}, // the kubelet's own, and of no other value
				Spec:       corev1.NodeSpec{Taints: []corev1.Taint{taint("theirs", "")}},
			})
			c := s.Client(t, kube.Options{})
			if err := c.MarkNode(t.Context(), "w-1", before); err != nil {
				t.Fatal(err)
			}
			if got := workerNode(t, s).Annotations[record]; got != remembered {
				t.Fatalf("it remembers %s", got)
			}
			if tt.others != nil {
				n := workerNode(t, s)
				tt.others(n)
				s.Put(t, n)
			}
			diffs, err := kube.DiffNode(t.Context(), c, "w-1", tt.after)
			if d := cmp.Diff(tt.plan, lines(diffs)); d != "" || err != nil {
				t.Errorf("the plan, %v (-want +got):\n%s", err, d)
			}
			if err := c.MarkNode(t.Context(), "w-1", tt.after); err != nil {
				t.Fatal(err)
			}
			n := workerNode(t, s)
			if d := cmp.Diff(tt.labels, n.Labels); d != "" {
				t.Errorf("labels (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.taints, n.Spec.Taints); d != "" {
				t.Errorf("taints (-want +got):\n%s", d)
			}
			if got, there := n.Annotations[record]; got != tt.record || there != (tt.record != "") {
				t.Errorf("it remembers %q", got)
			}
			version := s.Version()
			if err := c.MarkNode(t.Context(), "w-1", tt.after); err != nil || s.Version() != version {
				t.Errorf("marked twice: %v", err)
			}
			if diffs, err := kube.DiffNode(t.Context(), c, "w-1", tt.after); err != nil || len(diffs) > 0 {
				t.Errorf("there is still %q, %v", lines(diffs), err)
			}
		})
	}
}

// Between our read and our write somebody makes the label his own.
func TestALabelThatChangesInBetweenStays(t *testing.T) {
	s := kubetest.NewServer(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: "w-1", Labels: map[string]string{"disk": "ssd"}, Annotations: map[string]string{record: `{"labels":{"disk":"ssd"}}`},
	}})
	var raced atomic.Bool
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && raced.CompareAndSwap(false, true) {
			s.Put(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
				Name: "w-1", Labels: map[string]string{"disk": "nvme"}, Annotations: map[string]string{record: `{"labels":{"disk":"ssd"}}`},
			}})
		}
		return false
	}
	if err := s.Client(t, kube.Options{}).MarkNode(t.Context(), "w-1", given(nil)); err != nil {
		t.Fatal(err)
	}
	n := workerNode(t, s)
	if n.Labels["disk"] != "nvme" || len(n.Annotations) > 0 || !raced.Load() {
		t.Errorf("raced %t; it has %v and %v", raced.Load(), n.Labels, n.Annotations)
	}
}
