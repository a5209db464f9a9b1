package kube

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// recordAnnotation is where a Node keeps which of its marks are to be taken away when they are not given any more.
// managedFields cannot tell: a label that the kubelet has registered with is the kubelet's, whoever told it to, and the list
// of taints is one field. Its value is a GivenMarks in JSON.
const recordAnnotation = "myadm.dev/marks"

// GivenMarks are labels and taints that a node has because a document gives them. They go when the next MarkNode does not
// give them, as long as they have the values that are written here: with another one they are somebody else's.
type GivenMarks struct {
	Labels map[string]string `json:"labels,omitempty"`
	Taints []corev1.Taint    `json:"taints,omitempty"` // of which only key, value and effect count
}

// text is the annotation's value, the same for the same marks in any order; empty when there are none.
func (g GivenMarks) text() (string, error) {
	if len(g.Labels)+len(g.Taints) == 0 {
		return "", nil
	}
	taints := make([]corev1.Taint, len(g.Taints))
	for i, t := range g.Taints {
		taints[i] = corev1.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect}
	}
	slices.SortFunc(taints, func(a, b corev1.Taint) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Effect, b.Effect)) })
	data, err := json.Marshal(GivenMarks{Labels: g.Labels, Taints: taints})
	return string(data), err
}

// recorded are the marks that a node has been given. One that says nothing, or what nobody can read, has been given none.
func recorded(node *corev1.Node) GivenMarks {
	var given GivenMarks
	if json.Unmarshal([]byte(node.Annotations[recordAnnotation]), &given) != nil {
		return GivenMarks{}
	}
	return given
}

// settled are the marks with what the node is to keep of them, and with what is to go because the node has been given it and
// is not any more.
func (m NodeMarks) settled(node *corev1.Node) (NodeMarks, error) {
	if m.Given == nil {
		return m, nil
	}
	var err error
	if m.record, err = m.Given.text(); err != nil {
		return m, fmt.Errorf("the marks of node %s: %w", node.Name, err)
	}
	was := recorded(node)
	m.RemoveLabels, m.RemoveTaints = slices.Clone(m.RemoveLabels), slices.Clone(m.RemoveTaints)
	for key, value := range was.Labels {
		have, there := node.Labels[key]
		if _, still := m.Labels[key]; there && have == value && !still {
			m.RemoveLabels = append(m.RemoveLabels, key)
		}
	}
	for _, t := range was.Taints {
		same := func(o corev1.Taint) bool { return o.MatchTaint(&t) }
		i := slices.IndexFunc(node.Spec.Taints, same)
		if i >= 0 && node.Spec.Taints[i].Value == t.Value && !slices.ContainsFunc(m.Taints, same) {
			m.RemoveTaints = append(m.RemoveTaints, t)
		}
	}
	return m, nil
}
