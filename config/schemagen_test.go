package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
)

// object is a JSON object whose fields have an order.
type object []member

type member struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// schemaOf makes the schema of the document.
func schemaOf() ([]byte, error) {
	g := &generator{comments: comments{}, defs: map[reflect.Type]string{}}
	// With one host, there are defaults of hosts; one alone changes none of the others.
	c := &Cluster{Spec: Spec{Hosts: []Host{{}}}}
	SetDefaults(c)
	root, err := g.structure(reflect.TypeFor[Cluster](), reflect.ValueOf(*c))
	if err != nil {
		return nil, err
	}
	schema := slices.Concat(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", "https://" + APIVersion + "/cluster.schema.json"},
		{"title", "myadm Cluster (" + APIVersion + ")"},
	}, root, object{{"$defs", g.order}})
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(schema); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// generator turns Go types into schemas. Structs become definitions, which take null as well: a field without a value
// counts as not given.
type generator struct {
	comments comments
	defs     map[reflect.Type]string // their names
	order    object                  // the definitions, in the order of their first use
}

// structure is the schema of a struct's fields. sample has the defaults.
func (g *generator) structure(t reflect.Type, sample reflect.Value) (object, error) {
	text, err := g.comments.of(t, "")
	if err != nil {
		return nil, err
	}
	var properties object
	var required []string
	for f := range fieldsOf(t) {
		name := jsonName(f)
		r := rules[t.Name()+"."+name]
		if r.required {
			required = append(required, name)
		}
		of, value := f.Type, reflect.Value{}
		if u, ok := upstream["spec."+name]; ok && t == reflect.TypeFor[Spec]() {
			of = u
		} else if sample.IsValid() {
			value = sample.FieldByIndex(f.Index)
		}
		s, err := g.field(of, value, r)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name(), name, err)
		}
		declared := t
		for _, i := range f.Index[:len(f.Index)-1] { // through what is embedded
			declared = declared.Field(i).Type
		}
		text, err := g.comments.of(declared, f.Name)
		if err == nil && text == "" && of.Kind() == reflect.Struct {
			text, err = g.comments.of(of, "")
		}
		if err != nil {
			return nil, err
		}
		if text != "" {
			s = slices.Concat(object{{"description", text}}, s)
		}
		properties = append(properties, member{name, s})
	}
	out := object{}
	if text != "" {
		out = append(out, member{"description", text})
	}
	out = append(out, member{"type", "object"}, member{"properties", properties}, member{"additionalProperties", false})
	if len(required) > 0 {
		out = append(out, member{"required", required})
	}
	return out, nil
}

// field is the schema of a field's value, with its rule and its default.
func (g *generator) field(t reflect.Type, sample reflect.Value, r rule) (object, error) {
	s, err := g.schema(t, sample, !r.required)
	if err != nil {
		return nil, err
	}
	switch {
	case len(r.words) > 0 && t.Kind() == reflect.Slice:
		items, err := g.field(t.Elem(), reflect.Value{}, rule{required: true, words: r.words})
		if err != nil {
			return nil, err
		}
		s = object{s[0], {"items", items}}
	case len(r.words) > 0:
		enum := []any{}
		for _, w := range r.words {
			enum = append(enum, w)
		}
		if r.empty {
			enum = append(enum, "")
		}
		if !r.required {
			enum = append(enum, nil)
		}
		s = append(s, member{"enum", enum})
	}
	if r.min != nil {
		s = append(s, member{"minimum", *r.min}, member{"maximum", *r.max})
	}
	if sample.IsValid() && !sample.IsZero() && !hasFields(t) {
		s = append(s, member{"default", sample.Interface()})
	}
	return s, nil
}

// hasFields reports structs and lists of them, whose defaults are in their fields.
func hasFields(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !isLeaf(t) || t.Kind() == reflect.Slice && hasFields(t.Elem())
}

// schema is the schema of any value of a type; optional ones may be null.
func (g *generator) schema(t reflect.Type, sample reflect.Value, optional bool) (object, error) {
	if t.Kind() == reflect.Pointer {
		if sample.IsValid() {
			sample = sample.Elem() // not valid for nil
		}
		return g.schema(t.Elem(), sample, optional)
	}
	types := func(names ...string) member {
		if optional {
			names = append(names, "null")
		}
		if len(names) == 1 {
			return member{"type", names[0]}
		}
		return member{"type", names}
	}
	if leaf, ok := leaves[t]; ok {
		return slices.Concat(object{types(slices.Clone(leaf[0].value.([]string))...)}, leaf[1:]), nil
	}
	if isLeaf(t) {
		return nil, fmt.Errorf("the type %s reads its own JSON; what it takes belongs into leaves", t)
	}
	switch zero := reflect.Zero(t); {
	case t.Kind() == reflect.String:
		return object{types("string")}, nil
	case t.Kind() == reflect.Bool:
		return object{types("boolean")}, nil
	case zero.CanInt():
		return object{types("integer")}, nil
	case zero.CanUint():
		return object{types("integer"), {"minimum", 0}}, nil
	case zero.CanFloat():
		return object{types("number")}, nil
	case t.Kind() == reflect.Slice:
		if sample.IsValid() && sample.Len() > 0 {
			sample = sample.Index(0)
		} else {
			sample = reflect.Value{}
		}
		items, err := g.schema(t.Elem(), sample, false)
		return object{types("array"), {"items", items}}, err
	case t.Kind() == reflect.Map:
		values, err := g.schema(t.Elem(), reflect.Value{}, true)
		return object{types("object"), {"additionalProperties", values}}, err
	case t.Kind() == reflect.Interface:
		return object{}, nil // anything
	case t.Kind() == reflect.Struct:
		name, err := g.define(t, sample)
		ref := object{{"$ref", "#/$defs/" + name}}
		if !optional {
			ref = append(ref, types("object"))
		}
		return ref, err
	}
	return nil, fmt.Errorf("no schema is known for the type %s", t)
}

// define makes the definition of a struct, once, and gives its name.
func (g *generator) define(t reflect.Type, sample reflect.Value) (string, error) {
	if name, ok := g.defs[t]; ok {
		return name, nil
	}
	name := t.Name()
	if slices.Contains(slices.Collect(maps.Values(g.defs)), name) {
		name = path.Base(t.PkgPath()) + name
	}
	g.defs[t] = name
	at := len(g.order)
	g.order = append(g.order, member{name: name}) // holds the place while what is in it is defined
	s, err := g.structure(t, sample)
	for i := range s {
		if s[i].name == "type" {
			s[i].value = []string{"object", "null"} // who refers to it says when it must not be null
		}
	}
	g.order[at].value = s
	return name, err
}

// jsonName is a field's name in the document.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return f.Name
	}
	return name
}

// fieldsOf gives the fields that jsonFields does, in the order of the type, with indices from the outermost struct.
func fieldsOf(t reflect.Type) func(yield func(reflect.StructField) bool) {
	known := map[string]reflect.Type{}
	jsonFields(t, known)
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if _, ok := known[jsonName(f)]; !ok || !f.IsExported() || f.Anonymous && f.Type.Kind() == reflect.Struct && strings.HasPrefix(f.Tag.Get("json"), ",") {
				continue
			}
			if !yield(f) {
				return
			}
		}
	}
}
