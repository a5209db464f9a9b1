package kube

import (
	"bytes"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// ParseManifests reads a stream of YAML documents (or one of JSON) into objects. Lists are expanded and empty documents
// left out. It reports every bad document at once, each by the name of the file and its number, counted from 1.
// Every object returned has apiVersion, kind and metadata.name.
func ParseManifests(name string, data []byte) ([]*unstructured.Unstructured, error) {
	var objs []*unstructured.Unstructured
	var errs []error
	for i, doc := range documents(data) {
		found, err := parseDocument(doc)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: document %d: %w", name, i+1, err))
		}
		objs = append(objs, found...)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return objs, nil
}

// documents cuts a stream at its markers. A line that starts with --- or ... can be nothing else in YAML: scalars must
// not hold one (YAML 1.2, rule c-forbidden).
func documents(data []byte) [][]byte {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	docs := [][]byte{nil}
	for line := range bytes.Lines(data) {
		start, end := marker(line, "---"), marker(line, "...")
		last := len(docs) - 1
		switch {
		case end:
			docs = append(docs, nil)
		case start && len(bytes.TrimSpace(docs[last])) > 0:
			docs = append(docs, line[len("---"):])
		case start:
			docs[last] = line[len("---"):]
		default:
			docs[last] = append(docs[last], line...)
		}
	}
	return docs
}

func marker(line []byte, text string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(text))
	return ok && (len(rest) == 0 || bytes.ContainsAny(rest[:1], " \t\r\n"))
}

func parseDocument(doc []byte) ([]*unstructured.Unstructured, error) {
	doc, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, err
	}
	if string(doc) == "null" {
		return nil, nil // nothing, or only comments
	}
	obj := &unstructured.Unstructured{}
	if err := obj.UnmarshalJSON(doc); err != nil {
		if runtime.IsMissingKind(err) {
			return nil, errors.New("kind is missing")
		}
		return nil, err
	}
	if !obj.IsList() {
		return []*unstructured.Unstructured{obj}, complete(obj)
	}
	list, err := obj.ToList()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", obj.GetKind(), err)
	}
	var objs []*unstructured.Unstructured
	for i := range list.Items {
		item := &list.Items[i]
		if item.IsList() {
			return nil, fmt.Errorf("%s: item %d is a list itself", obj.GetKind(), i+1)
		}
		if err := complete(item); err != nil {
			return nil, fmt.Errorf("%s: item %d: %w", obj.GetKind(), i+1, err)
		}
		objs = append(objs, item)
	}
	return objs, nil
}

// complete checks that obj can be named, and so applied.
func complete(obj *unstructured.Unstructured) error {
	switch {
	case obj.GetKind() == "":
		return errors.New("kind is missing")
	case obj.GetAPIVersion() == "":
		return fmt.Errorf("%s: apiVersion is missing", obj.GetKind())
	case obj.GetName() == "" && obj.GetGenerateName() != "":
		return fmt.Errorf("%s: metadata.generateName makes another object every time; hint: give it a name", obj.GetKind())
	case obj.GetName() == "":
		return fmt.Errorf("%s: metadata.name is missing", obj.GetKind())
	}
	return nil
}

// Objects turns Go values of Kubernetes' own types into what Apply and Diff take. apiVersion and kind come from the type.
// Fields that Go writes although nobody set them (a null creationTimestamp, an empty status) are left out.
func Objects(typed ...runtime.Object) ([]*unstructured.Unstructured, error) {
	objs := make([]*unstructured.Unstructured, len(typed))
	for i, t := range typed {
		kinds, _, err := scheme.Scheme.ObjectKinds(t)
		if err != nil {
			return nil, err
		}
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kinds[0].Kind, err)
		}
		obj := &unstructured.Unstructured{Object: fields}
		obj.SetGroupVersionKind(kinds[0])
		if err := complete(obj); err != nil {
			return nil, err
		}
		objs[i] = desired(obj)
	}
	return objs, nil
}
