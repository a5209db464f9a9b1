package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// NodeMarks are labels and taints that a node should have, and others that it should not. What is named in neither is
// nobody's business here and stays.
type NodeMarks struct {
	Labels       map[string]string
	Taints       []corev1.Taint // one of the same key and effect is replaced
	RemoveLabels []string
	RemoveTaints []corev1.Taint // matched by key and effect

	// Given are those of Labels and Taints that go when a later call does not give them. The Node remembers them. Without it
	// nothing is remembered, and what was remembered stays.
	Given *GivenMarks

	record string // Given, as the Node keeps it
}

// DiffNode says what MarkNode would change: no more than one Difference. A node that is not there is one to Create, since
// its marks are still to be made; registering it is its kubelet's part.
func DiffNode(ctx context.Context, r Reader, name string, marks NodeMarks) ([]Difference, error) {
	ref := nodeRef(name)
	node, err := Get[corev1.Node](ctx, r, ref)
	if NotFound(err) {
		return []Difference{{Object: ref, Create: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	if marks, err = marks.settled(node); err != nil {
		return nil, err
	}
	if _, paths := marks.patch(node); len(paths) > 0 {
		return []Difference{{Object: ref, Paths: paths, Removes: marks.removes(), was: marksOn(node), is: marksOn(marks.on(node))}}, nil
	}
	return nil, nil
}

// removes are what goes from a node, by their paths.
func (m NodeMarks) removes() map[string]string {
	names := map[string]string{}
	for _, key := range m.RemoveLabels {
		names[labelPath(key)] = "label " + key
	}
	for _, t := range m.RemoveTaints {
		names[taintPath(t)] = "taint " + t.Key + ":" + string(t.Effect)
	}
	return names
}

// on is the node as the marks make it.
func (m NodeMarks) on(node *corev1.Node) *corev1.Node {
	node = node.DeepCopy()
	if node.Labels == nil {
		node.Labels = map[string]string{}
	}
	if m.Given != nil {
		if node.Annotations == nil {
			node.Annotations = map[string]string{}
		}
		node.Annotations[recordAnnotation] = m.record
	}
	maps.Copy(node.Labels, m.Labels)
	for _, key := range m.RemoveLabels {
		delete(node.Labels, key)
	}
	node.Spec.Taints, _ = m.taints(node.Spec.Taints)
	return node
}

// marksOn are the parts of a node that marks are about.
func marksOn(node *corev1.Node) map[string]any {
	meta := map[string]any{"labels": node.Labels}
	if record := node.Annotations[recordAnnotation]; record != "" {
		meta["annotations"] = map[string]any{recordAnnotation: record}
	}
	return map[string]any{"metadata": meta, "spec": map[string]any{"taints": node.Spec.Taints}}
}

// MarkNode makes the marks, and writes nothing if they are there. node.spec.taints is an atomic list for server-side apply,
// which would take it away from the controllers that add theirs; so this is a patch that holds only for the version that
// it was made from, and is made anew when somebody else was faster. A node that is not there yet is waited for a little.
func (c *Client) MarkNode(ctx context.Context, name string, marks NodeMarks) error {
	return c.retry(ctx, func() error {
		node, err := Get[corev1.Node](ctx, c, nodeRef(name))
		if err != nil {
			return err
		}
		marks, err := marks.settled(node)
		if err != nil {
			return err
		}
		patch, paths := marks.patch(node)
		if len(paths) == 0 {
			return nil
		}
		data, err := json.Marshal(patch)
		if err != nil {
			return fmt.Errorf("mark node %s: %w", name, err)
		}
		options := metav1.PatchOptions{FieldManager: FieldManager}
		if _, err := c.Typed.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, data, options); err != nil {
			return fmt.Errorf("mark node %s: %w", name, err)
		}
		return nil
	})
}

// DeleteNode removes a node's object. One that is not there is fine.
func (c *Client) DeleteNode(ctx context.Context, name string) error {
	return c.Delete(ctx, nodeRef(name))
}

func nodeRef(name string) Ref { return Ref{APIVersion: "v1", Kind: "Node", Name: name} }

func labelPath(key string) string { return "metadata.labels[" + key + "]" }

func taintPath(t corev1.Taint) string { return "spec.taints[" + t.Key + ":" + string(t.Effect) + "]" }

// patch is the JSON merge patch that makes the marks, and the paths that it changes, sorted. Of the record it says nothing
// where other paths tell why that changes.
func (m NodeMarks) patch(node *corev1.Node) (patch map[string]any, paths []string) {
	labels := map[string]any{}
	for key, value := range m.Labels {
		if have, ok := node.Labels[key]; !ok || have != value {
			labels[key] = value
		}
	}
	meta := map[string]any{}
	for _, key := range m.RemoveLabels {
		if _, ok := node.Labels[key]; ok {
			labels[key] = nil
			meta["resourceVersion"] = node.ResourceVersion // with another value it might not have to go
		}
	}
	patch = map[string]any{"metadata": meta}
	if len(labels) > 0 {
		meta["labels"] = labels
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			paths = append(paths, labelPath(key))
		}
	}
	if taints, changed := m.taints(node.Spec.Taints); len(changed) > 0 {
		patch["spec"] = map[string]any{"taints": taints}
		meta["resourceVersion"] = node.ResourceVersion // the list is written whole, so it has to be the one that was read
		paths = append(paths, changed...)
	}
	if have, there := node.Annotations[recordAnnotation]; m.Given != nil && (have != m.record || there && m.record == "") {
		record := map[string]any{recordAnnotation: m.record}
		if m.record == "" {
			record[recordAnnotation] = nil
		}
		meta["annotations"] = record
		if len(paths) == 0 {
			paths = []string{"metadata.annotations[" + recordAnnotation + "]"}
		}
	}
	return patch, paths
}

// taints is the whole list as it should be, and the paths that differ.
func (m NodeMarks) taints(have []corev1.Taint) (all []corev1.Taint, paths []string) {
	for _, t := range have {
		if slices.ContainsFunc(m.RemoveTaints, func(r corev1.Taint) bool { return r.MatchTaint(&t) }) {
			paths = append(paths, taintPath(t))
			continue
		}
		all = append(all, t)
	}
	for _, want := range m.Taints {
		i := slices.IndexFunc(all, func(t corev1.Taint) bool { return t.MatchTaint(&want) })
		switch {
		case i < 0:
			all = append(all, want)
		case all[i].Value != want.Value:
			all[i].Value = want.Value
		default:
			continue
		}
		paths = append(paths, taintPath(want))
	}
	slices.Sort(paths)
	return all, paths
}
