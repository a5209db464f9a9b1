package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Whoever may write to Nodes may write anything into the record: then no more goes than a node has and it names.
func FuzzNodeRecord(f *testing.F) {
	f.Add(`{"labels":{"disk":"ssd"},"taints":[{"key":"a","effect":"NoSchedule"}]}`)
	f.Add(`{"labels":["disk"]`)
	f.Add(`{"labels":{"disk":"hdd","kept":"x","":""},"taints":[{},{}]}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"disk": "ssd", "kept": "x"}, Annotations: map[string]string{recordAnnotation: text}},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}},
		}
		labels := map[string]string{"kept": "x"}
		marks, err := NodeMarks{Labels: labels, Given: &GivenMarks{Labels: labels}}.settled(node)
		if err != nil {
			t.Fatal(err)
		}
		after := marks.on(node)
		if after.Labels["kept"] != "x" || len(marks.RemoveLabels) > 1 || len(marks.RemoveLabels) == 1 && recorded(node).Labels["disk"] != "ssd" {
			t.Errorf("labels %q go", marks.RemoveLabels)
		}
		if len(after.Spec.Taints) == 0 && len(recorded(node).Taints) == 0 {
			t.Error("a taint goes that is not in it")
		}
		if after.Annotations[recordAnnotation] != `{"labels":{"kept":"x"}}` {
			t.Errorf("it becomes %q", after.Annotations[recordAnnotation])
		}
	})
}
