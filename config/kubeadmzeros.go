package config

import (
	"encoding/json"
	"reflect"
)

// withoutZeros is a copy of the plain values of a struct without those that the struct does not tell from absent ones: the
// zero values of fields that are not pointers, lists or maps. Whoever marshals such a struct, as kubeadm does, writes them all.
func withoutZeros(tree map[string]any, t reflect.Type) map[string]any {
	fields := map[string]reflect.Type{}
	jsonFields(t, fields)
	out := map[string]any{}
	for name, v := range tree {
		ft := fields[name]
		below, isMap := v.(map[string]any)
		inner := ft
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if isMap && inner.Kind() == reflect.Struct && !isLeaf(inner) {
			below = withoutZeros(below, inner)
			if len(below) > 0 || ft != inner { // {} behind a pointer is something
				out[name] = below
			}
			continue
		}
		if !isZero(v, ft) {
			out[name] = v
		}
	}
	return out
}

// isZero reports a value that leaves a field of type t as it was.
func isZero(v any, t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return false
	}
	data, err := json.Marshal(v)
	into := reflect.New(t)
	if err != nil || json.Unmarshal(data, into.Interface()) != nil {
		return false
	}
	if z, ok := into.Interface().(interface{ IsZero() bool }); ok { // quantities keep how they were written
		return z.IsZero()
	}
	return into.Elem().IsZero()
}
