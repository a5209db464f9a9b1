package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	kubeproxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// Limits on what one document may unfold to: aliases can make a small file endless.
const (
	maxNodes = 200_000
	maxDepth = 64
)

// upstream gives the types that check the fields which the Cluster keeps as they were written.
var upstream = map[string]reflect.Type{
	"spec.kubelet":   reflect.TypeFor[kubeletv1beta1.KubeletConfiguration](),
	"spec.kubeProxy": reflect.TypeFor[kubeproxyv1alpha1.KubeProxyConfiguration](),
}

// walker holds a YAML tree against Go types, and turns it into the plain values that JSON knows. It notes where each
// field stands and collects every error on the way.
type walker struct {
	file   string
	at     map[string]position
	errs   Errors
	budget int  // nodes that may still be visited
	over   bool // a limit was hit, and said to be
}

func (w *walker) errorf(n *yaml.Node, path, hint, format string, args ...any) {
	w.errs = append(w.errs, FieldError{
		File: w.file, Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// documentType checks the two fields that say what the rest is.
func (w *walker) documentType(root *yaml.Node) {
	for _, f := range []struct{ name, want string }{{"apiVersion", APIVersion}, {"kind", Kind}} {
		hint := "write " + f.name + ": " + f.want
		value := child(root, f.name)
		switch {
		case value == nil:
			w.errorf(root, f.name, hint, "is missing")
		case value.Value != f.want:
			w.errorf(value, f.name, hint, "%q is not what myadm reads", value.Value)
		}
	}
}

// value checks n against t and gives it as nil, bool, int64, uint64, float64, string, []any or map[string]any. It is nil for
// null and for what was in error.
func (w *walker) value(n *yaml.Node, t reflect.Type, path string, depth int) any {
	if w.budget--; w.budget < 0 || depth > maxDepth {
		w.overLimit(n, path)
		return nil
	}
	if path != "" {
		w.at[path] = position{line: n.Line, column: n.Column}
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.AliasNode {
		return w.value(n.Alias, t, path, depth+1)
	}
	if n.ShortTag() == "!!null" {
		return nil
	}
	if u, ok := upstream[path]; ok {
		t = u
	}
	if isLeaf(t) {
		return w.leaf(n, t, path, depth)
	}
	switch t.Kind() {
	case reflect.Struct:
		return w.structure(n, t, path, depth)
	case reflect.Map:
		return w.mapping(n, path, depth, func(key string) (reflect.Type, string) { return t.Elem(), fmt.Sprintf("%s[%s]", path, key) })
	case reflect.Slice:
		return w.list(n, t.Elem(), path, depth)
	case reflect.Interface:
		return w.anything(n, path, depth)
	default:
		return w.scalar(n, t, path)
	}
}

// overLimit says once that the document is too much; without the budget all that follows is skipped.
func (w *walker) overLimit(n *yaml.Node, path string) {
	if !w.over {
		w.errorf(n, path, "write it without anchors and aliases", "the document is nested too deep, or its aliases unfold to too much")
	}
	w.over, w.budget = true, 0
}

// structure is a mapping whose keys are t's JSON fields.
func (w *walker) structure(n *yaml.Node, t reflect.Type, path string, depth int) any {
	fields := map[string]reflect.Type{}
	jsonFields(t, fields)
	return w.mapping(n, path, depth, func(key string) (reflect.Type, string) { return fields[key], join(path, key) }, names(fields)...)
}

// mapping checks each value of n by the type that field gives for its key: nil for an unknown one.
func (w *walker) mapping(n *yaml.Node, path string, depth int, field func(key string) (reflect.Type, string), known ...string) any {
	if n.Kind != yaml.MappingNode {
		w.errorf(n, path, "", "expected fields, found %s", describe(n))
		return nil
	}
	out := make(map[string]any, len(n.Content)/2)
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.ShortTag() == "!!merge" {
			w.errorf(k, join(path, "<<"), "repeat the fields, or use an alias for the whole value", "merge keys are not taken")
			continue
		}
		if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
			w.errorf(k, path, "put it in quotes", "a field's name is %s and not text", describe(k))
			continue
		}
		t, child := field(k.Value)
		if line, again := first[k.Value]; again {
			w.errorf(k, child, "", "is here twice, first on line %d", line)
			continue
		}
		first[k.Value] = k.Line
		if t == nil {
			w.errorf(k, child, didYouMean(k.Value, known), "unknown field")
			continue
		}
		if x := w.value(v, t, child, depth+1); x != nil {
			out[k.Value] = x
		}
		if _, noted := w.at[child]; noted { // the line of a field is the line of its name
			w.at[child] = position{line: k.Line, column: k.Column}
		}
	}
	return out
}

func (w *walker) list(n *yaml.Node, t reflect.Type, path string, depth int) any {
	if n.Kind != yaml.SequenceNode {
		w.errorf(n, path, "put \"- \" before each item, or all of them in [ ]", "expected a list, found %s", describe(n))
		return nil
	}
	out := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		child := fmt.Sprintf("%s[%d]", path, i)
		before := len(w.errs)
		x := w.value(item, t, child, depth+1)
		if x == nil && len(w.errs) == before && !w.over {
			w.errorf(item, child, "remove the item or give it a value", "the item is empty")
		}
		out = append(out, x)
	}
	return out
}

// anything takes whatever JSON can say.
func (w *walker) anything(n *yaml.Node, path string, depth int) any {
	anyType := reflect.TypeFor[any]()
	switch n.Kind {
	case yaml.MappingNode:
		return w.mapping(n, path, depth, func(key string) (reflect.Type, string) { return anyType, join(path, key) })
	case yaml.SequenceNode:
		return w.list(n, anyType, path, depth)
	default:
		return w.plain(n, path)
	}
}

// jsonFields adds t's fields by their JSON names, those of embedded structs among them, as encoding/json does.
func jsonFields(t reflect.Type, into map[string]reflect.Type) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct: // of an unexported type, too
			jsonFields(f.Type, into)
		case name == "-" || !f.IsExported():
		case name == "":
			into[f.Name] = f.Type
		default:
			into[name] = f.Type
		}
	}
}

func names(fields map[string]reflect.Type) []string {
	out := make([]string, 0, len(fields))
	for name := range fields {
		out = append(out, name)
	}
	slices.Sort(out) // so that of two equally near names always the same is suggested
	return out
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}
