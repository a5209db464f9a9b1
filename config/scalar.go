package config

import (
	"encoding/json"
	"math"
	"reflect"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// isLeaf reports whether t reads its own JSON, as durations and quantities do: its insides are not fields.
func isLeaf(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
}

// leaf lets t itself judge the value.
func (w *walker) leaf(n *yaml.Node, t reflect.Type, path string, depth int) any {
	before := len(w.errs)
	x := w.anything(n, path, depth)
	if len(w.errs) > before {
		return nil
	}
	data, err := json.Marshal(x)
	if err == nil {
		err = json.Unmarshal(data, reflect.New(t).Interface())
	}
	switch {
	case err == nil:
		return x
	case t == reflect.TypeFor[metav1.Duration]():
		w.errorf(n, path, "write hours, minutes or seconds, such as 8760h or 1m30s", "not a duration")
	default:
		w.errorf(n, path, "", "not a %s: %v", t.Name(), err)
	}
	return nil
}

// scalar checks a text, number or boolean against t.
func (w *walker) scalar(n *yaml.Node, t reflect.Type, path string) any {
	before := len(w.errs)
	x := w.plain(n, path)
	if len(w.errs) > before {
		return nil
	}
	zero := reflect.Zero(t)
	switch v := x.(type) {
	case string:
		if t.Kind() == reflect.String {
			return v
		}
	case bool:
		if t.Kind() == reflect.Bool {
			return v
		}
	case int64:
		switch {
		case zero.CanFloat():
			return v
		case zero.CanInt() && !zero.OverflowInt(v), zero.CanUint() && v >= 0 && !zero.OverflowUint(uint64(v)):
			return v
		case zero.CanInt() || zero.CanUint():
			w.errorf(n, path, "", "the number is out of range")
			return nil
		}
	case float64:
		if zero.CanFloat() {
			return v
		}
	}
	want, hint := "a number", ""
	switch {
	case t.Kind() == reflect.String:
		want, hint = "text", "put it in quotes"
	case t.Kind() == reflect.Bool:
		want, hint = "true or false", "write one of these words, without quotes"
	case zero.CanInt() || zero.CanUint():
		want = "a whole number"
	}
	if n.Kind != yaml.ScalarNode {
		hint = ""
	}
	w.errorf(n, path, hint, "expected %s, found %s", want, describe(n))
	return nil
}

// plain gives a scalar as YAML 1.2 reads it: string, bool, int64 or float64. Dates stay text, as JSON has none.
func (w *walker) plain(n *yaml.Node, path string) any {
	if n.Kind != yaml.ScalarNode {
		return n // never of a scalar's type, so the caller says what it expected
	}
	var err error
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return n.Value
	case "!!bool":
		var b bool
		if err = n.Decode(&b); err == nil {
			return b
		}
	case "!!int":
		var i int64
		if err = n.Decode(&i); err == nil {
			return i
		}
	case "!!float":
		var f float64
		if err = n.Decode(&f); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
	default:
		w.errorf(n, path, "remove the tag", "the YAML tag %s is not taken", n.Tag)
		return nil
	}
	w.errorf(n, path, "", "the number is out of range")
	return nil
}

// describe says what a node is, for messages. It never shows the value: that may be somebody's secret.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.AliasNode:
		return describe(n.Alias)
	case yaml.MappingNode:
		return "fields"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	default:
		return "text"
	}
}
