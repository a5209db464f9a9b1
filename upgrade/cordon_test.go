package upgrade_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/upgrade"
)

// cordonNode is w-1 with an annotation of somebody else's.
func cordonNode(unschedulable bool, annotations ...string) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "w-1", Annotations: map[string]string{"theirs": "x"}},
		Spec:       corev1.NodeSpec{PodCIDR: "10.244.1.0/24", Unschedulable: unschedulable},
	}
	for _, a := range annotations {
		node.Annotations[a] = "upgrade"
	}
	return node
}

const cordonMark = "myadm.dev/cordoned"

func TestCordonAndUncordon(t *testing.T) {
	tests := []struct {
		name               string
		node               *corev1.Node
		cordoned, released *corev1.Node // after Cordon, and after Uncordon then
		byUs               bool
	}{
		{"a node in service", cordonNode(false), cordonNode(true, cordonMark), cordonNode(false), true},
		{"one that its user has cordoned", cordonNode(true), cordonNode(true), cordonNode(true), false},
		{"one that an upgrade has cordoned before", cordonNode(true, cordonMark), cordonNode(true, cordonMark), cordonNode(false), true},
		{"one that its user has let back since", cordonNode(false, cordonMark), cordonNode(true, cordonMark), cordonNode(false), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewServer(t, tt.node)
			c := s.Client(t, kube.Options{})
			check := func(what string, want *corev1.Node) {
				t.Helper()
				got := storedNode(t, c)
				if d := cmp.Diff(want.Annotations, got.Annotations); d != "" {
					t.Errorf("annotations after %s (-want +got):\n%s", what, d)
				}
				if d := cmp.Diff(want.Spec, got.Spec); d != "" {
					t.Errorf("spec after %s (-want +got):\n%s", what, d)
				}
			}
			for range 2 { // the second time there is nothing to do
				if err := upgrade.Cordon(t.Context(), c, "w-1"); err != nil {
					t.Fatal(err)
				}
				check("cordon", tt.cordoned)
			}
			if got := upgrade.Cordoned(storedNode(t, c)); got != tt.byUs {
				t.Errorf("Cordoned is %v", got)
			}
			for range 2 {
				if err := upgrade.Uncordon(t.Context(), c, "w-1"); err != nil {
					t.Fatal(err)
				}
				check("uncordon", tt.released)
			}
			if upgrade.Cordoned(storedNode(t, c)) {
				t.Error("still Cordoned after uncordon")
			}
		})
	}
}

// A user's cordon between our read and our write stays the user's.
func TestCordonDoesNotClaimAUsers(t *testing.T) {
	s := kubetest.NewServer(t, cordonNode(false))
	writes := 0
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			if writes++; writes == 1 {
				s.Put(t, cordonNode(true))
			}
		}
		return false
	}
	c := s.Client(t, kube.Options{})
	if err := upgrade.Cordon(soon(t), c, "w-1"); err != nil {
		t.Fatal(err)
	}
	if err := upgrade.Uncordon(soon(t), c, "w-1"); err != nil {
		t.Fatal(err)
	}
	if node := storedNode(t, c); !node.Spec.Unschedulable || writes != 1 {
		t.Errorf("after %d writes the user's cordon is lost: %+v, %v", writes, node.Spec, node.Annotations)
	}
}

func storedNode(t *testing.T, c *kube.Client) *corev1.Node {
	t.Helper()
	node, err := kube.Get[corev1.Node](t.Context(), c, kube.Ref{APIVersion: "v1", Kind: "Node", Name: "w-1"})
	if err != nil {
		t.Fatal(err)
	}
	return node
}
