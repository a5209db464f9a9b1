package kube

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Difference is what Apply would do to one object. Its fields name those of the object and never say what is in them, so
// that the values of Secrets cannot reach a plan; Texts says it, and keeps those values to itself.
type Difference struct {
	Object Ref
	Create bool     // it is not there yet
	Paths  []string // the fields that would change, sorted: "data[config.conf]", "spec.template.spec.containers[coredns].image"

	// Removes are, of some Paths, what people call the thing that goes: "label disk". Only a Node's marks have such names.
	Removes map[string]string

	was, is map[string]any // the object, or what of it is compared; was is nil for one to Create
}

// String is a line of a plan: "create ConfigMap kube-system/coredns", "change ConfigMap kube-system/coredns: data.Corefile".
func (d Difference) String() string {
	if d.Create {
		return "create " + d.Object.String()
	}
	return "change " + d.Object.String() + ": " + strings.Join(d.Paths, ", ")
}

// New is the Difference of an object that is not there, or whose cluster is not.
func New(obj *unstructured.Unstructured) Difference {
	return Difference{Object: RefOf(obj), Create: true, is: desired(obj).Object}
}

// Between is the Difference of two states of an object.
func Between(was, is *unstructured.Unstructured) Difference {
	d := Difference{Object: RefOf(is), was: desired(was).Object, is: desired(is).Object}
	d.Paths = changed(d.was, d.is)
	return d
}

// Diff says what Apply would do, in the order of objs; objects that are as they should be are left out. The API server
// works it out by a dry run, so defaulting and admission make no noise, nor do fields of other managers. All errors are
// returned together, beside the differences that could be told.
func Diff(ctx context.Context, r Reader, objs []*unstructured.Unstructured) ([]Difference, error) {
	slots := make([]Difference, len(objs))
	err := each(len(objs), func(i int) (err error) {
		slots[i], err = diffOne(ctx, r, objs[i])
		return err
	})
	return slices.DeleteFunc(slots, func(d Difference) bool { return !d.Create && len(d.Paths) == 0 }), err
}

func diffOne(ctx context.Context, r Reader, obj *unstructured.Unstructured) (Difference, error) {
	if err := complete(obj); err != nil {
		return Difference{}, err
	}
	ref := RefOf(obj)
	seen := ""       // the live object's version in the round before
	var d Difference // as the round before has found it
	for {
		live, err := r.Get(ctx, ref)
		if NotFound(err) {
			return New(obj), nil
		}
		if err != nil {
			return Difference{}, err
		}
		// Between Get and the dry run somebody else may have changed the object. So a difference counts only when the
		// object is still the same afterwards.
		if live.GetResourceVersion() == seen {
			return d, nil
		}
		applied, err := r.DryRunApply(ctx, obj)
		if err != nil {
			return Difference{}, err
		}
		if d = Between(live, applied); len(d.Paths) == 0 {
			return Difference{}, nil
		}
		seen = live.GetResourceVersion()
	}
}

// changed lists the paths at which two objects differ, sorted.
func changed(was, is map[string]any) []string {
	var paths []string
	compare("", was, is, func(path string) { paths = append(paths, path) })
	slices.Sort(paths)
	return paths
}

func compare(path string, was, is any, report func(path string)) {
	switch was := was.(type) {
	case map[string]any:
		is, ok := is.(map[string]any)
		if !ok {
			break
		}
		for _, key := range slices.Sorted(maps.Keys(was)) {
			if value, ok := is[key]; ok {
				compare(path+field(path, key), was[key], value, report)
			} else {
				report(path + field(path, key))
			}
		}
		for key := range is {
			if _, ok := was[key]; !ok {
				report(path + field(path, key))
			}
		}
		return
	case []any:
		is, ok := is.([]any)
		if !ok || len(was) != len(is) {
			break
		}
		for i := range was {
			compare(path+"["+element(i, was[i], is[i])+"]", was[i], is[i], report)
		}
		return
	}
	if !reflect.DeepEqual(was, is) {
		report(path)
	}
}

// field is a path's next part. A key with a dot or slash, such as a label's, is put in brackets.
func field(path, key string) string {
	switch {
	case strings.ContainsAny(key, "./[]"):
		return "[" + key + "]"
	case path == "":
		return key
	}
	return "." + key
}

// element names a list's element by its name, if that has not changed, else by its index.
func element(i int, was, is any) string {
	a, _ := was.(map[string]any)
	b, _ := is.(map[string]any)
	if name, ok := a["name"].(string); ok && name != "" && name == b["name"] {
		return name
	}
	return strconv.Itoa(i)
}
