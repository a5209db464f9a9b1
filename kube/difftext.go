package kube

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// Texts are the object as it is and as Apply would make it, in YAML; was is nil for one that is not there. Only what is
// compared is in them: not its status, nor what the API server alone writes. In place of every value of a Secret stands
// whether it changes.
func (d Difference) Texts() (was, is []byte, err error) {
	before, after := d.was, d.is
	if d.Object.Kind == "Secret" {
		before, after = hideSecrets(before, after)
	}
	if was, err = textOf(before); err == nil {
		is, err = textOf(after)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", d.Object, err)
	}
	return was, is, nil
}

func textOf(object map[string]any) ([]byte, error) {
	if object == nil {
		return nil, nil
	}
	return yaml.Marshal(object)
}

// What stands in a Secret's text in place of a value.
const (
	keptSecret    = "(secret: not shown)"
	changedSecret = "(secret: changed, not shown)"
)

// hideSecrets are the two states of a Secret without its values. Annotations may repeat them, as those of kubectl apply do.
func hideSecrets(was, is map[string]any) (before, after map[string]any) {
	before, after = runtime.DeepCopyJSON(was), runtime.DeepCopyJSON(is)
	for _, at := range [][]string{{"data"}, {"stringData"}, {"metadata", "annotations"}} {
		had, _, _ := unstructured.NestedMap(was, at...)
		hideValues(before, nil, at)
		hideValues(after, had, at)
	}
	return before, after
}

// hideValues puts marks in place of the values at a place of an object; those that old has not are marked as changed.
func hideValues(object, old map[string]any, at []string) {
	values, there, err := unstructured.NestedMap(object, at...)
	if err != nil {
		unstructured.RemoveNestedField(object, at...) // no map: the API would not take it
	}
	if err != nil || !there {
		return
	}
	for key, value := range values {
		mark := keptSecret
		if before, there := old[key]; old != nil && (!there || !reflect.DeepEqual(before, value)) {
			mark = changedSecret
		}
		values[key] = mark
	}
	_ = unstructured.SetNestedMap(object, values, at...) // it is a map, and so is what it is in
}
