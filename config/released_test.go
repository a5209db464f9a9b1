package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whoever changes the types so that documents of a released version mean something else, or nothing, is told what to do.
// testdata/released has the schema of each version as it was released: never refreshed by -update, it only grows by hand,
// with what a release adds.
func TestReleasedDocumentsStayGood(t *testing.T) {
	_, name, _ := strings.Cut(APIVersion, "/")
	released := filepath.Join("testdata", "released", name+".schema.json")
	old, err := os.ReadFile(released)
	if err != nil {
		t.Fatalf("%v\nA new version begins with a copy of its schema: cp config/schema.json config/%s", err, released)
	}
	now, err := currentSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range broken(t, old, now) {
		t.Errorf("%s", what)
	}
	if t.Failed() {
		t.Errorf(`documents of the released version %s would break.
Make a new version instead: raise APIVersion, add a step from %[1]s to it to steps in config/migrate.go (with a document
of the old version in a test of it), and copy the new schema.json to config/testdata/released. Optional fields can be added to a version at any time.`, APIVersion)
	}
}

// Every version but the newest has a step that begins with it.
func TestReleasedVersionsHaveSteps(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "released", "*.schema.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no version was released: %v", err)
	}
	group, _, _ := strings.Cut(APIVersion, "/")
	for _, file := range files {
		version := group + "/" + strings.TrimSuffix(filepath.Base(file), ".schema.json")
		if version != APIVersion && !slices.ContainsFunc(steps, func(s step) bool { return s.from == version }) {
			t.Errorf("documents of %s cannot be migrated: steps in config/migrate.go has none from it", version)
		}
	}
}

// jsonSchema is what broken looks at.
type jsonSchema struct {
	Ref        string                 `json:"$ref"`
	Defs       map[string]*jsonSchema `json:"$defs"`
	Type       anyOf                  `json:"type"`
	Enum       []any                  `json:"enum"`
	Minimum    *int64                 `json:"minimum"`
	Maximum    *int64                 `json:"maximum"`
	Pattern    string                 `json:"pattern"`
	Default    any                    `json:"default"`
	Required   []string               `json:"required"`
	Properties map[string]*jsonSchema `json:"properties"`
	Items      *jsonSchema            `json:"items"`
	Additional json.RawMessage        `json:"additionalProperties"`
}

// anyOf is a type or a list of them.
type anyOf []string

func (a *anyOf) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = anyOf{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// broken lists what documents that fit the old schema may have and the new one refuses or takes for something else.
func broken(t *testing.T, old, now []byte) []string {
	t.Helper()
	var a, b jsonSchema
	for data, into := range map[*[]byte]*jsonSchema{&old: &a, &now: &b} {
		if err := json.Unmarshal(*data, into); err != nil {
			t.Fatal(err)
		}
	}
	c := comparison{old: a.Defs, now: b.Defs}
	c.compare("", &a, &b)
	return c.found
}

type comparison struct {
	old, now map[string]*jsonSchema
	found    []string
}

// upstreamsOwn are fields whose types are upstream's to keep compatible.
var upstreamsOwn = []string{"spec.kubelet", "spec.kubeProxy"}

func (c *comparison) compare(path string, old, now *jsonSchema) {
	if slices.Contains(upstreamsOwn, path) {
		return
	}
	say := func(format string, args ...any) { c.found = append(c.found, path+": "+fmt.Sprintf(format, args...)) }
	old, now = resolve(c.old, old), resolve(c.now, now)
	for _, t := range old.Type {
		if !slices.Contains(now.Type, t) {
			say("was a %s and is a %s now", strings.Join(old.Type, " or "), strings.Join(now.Type, " or "))
			return
		}
	}
	if now.Enum != nil {
		for _, word := range old.Enum {
			if !slices.Contains(now.Enum, word) {
				say("could be %q and cannot any more", word)
			}
		}
		if old.Enum == nil {
			say("could be anything and must be one of %v now", now.Enum)
		}
	}
	if now.Minimum != nil && (old.Minimum == nil || *old.Minimum < *now.Minimum) || now.Maximum != nil && (old.Maximum == nil || *old.Maximum > *now.Maximum) {
		say("has a narrower range than it had")
	}
	if now.Pattern != old.Pattern && now.Pattern != "" {
		say("has another pattern than it had")
	}
	if path != "spec.kubernetesVersion" && !cmp.Equal(old.Default, now.Default) {
		say("has the default %v and had %v: documents that leave it out would mean something else", now.Default, old.Default)
	}
	for _, name := range now.Required {
		if !slices.Contains(old.Required, name) {
			say("%s must be there now", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.Properties)) {
		if to, ok := now.Properties[name]; ok {
			c.compare(join(path, name), old.Properties[name], to)
		} else {
			c.found = append(c.found, join(path, name)+": is gone")
		}
	}
	if old.Items != nil && now.Items != nil {
		c.compare(path+"[]", old.Items, now.Items)
	}
	var was, is jsonSchema // false for structs, a schema for maps
	if json.Unmarshal(old.Additional, &was) == nil && json.Unmarshal(now.Additional, &is) == nil {
		c.compare(path+"[KEY]", &was, &is)
	}
}

// resolve follows a reference; a type beside it stays.
func resolve(defs map[string]*jsonSchema, s *jsonSchema) *jsonSchema {
	name, ok := strings.CutPrefix(s.Ref, "#/$defs/")
	if !ok || defs[name] == nil {
		return s
	}
	r := *defs[name]
	if s.Type != nil {
		r.Type = s.Type
	}
	return &r
}

func TestBrokenFindsWhatBreaksDocuments(t *testing.T) {
	const before = `{"type":"object","properties":{"spec":{"$ref":"#/$defs/Spec"}},"$defs":{"Spec":{"type":["object","null"],"properties":{` +
		`"plugin":{"type":["string","null"],"enum":["a","b",null],"default":"a"},"port":{"type":"integer","minimum":0,"maximum":9},` +
		`"free":{"type":"string"},"hosts":{"type":"array","items":{"type":"object","$ref":"#/$defs/Host"}},` +
		`"labels":{"type":"object","additionalProperties":{"type":["string","null"]}},"kubelet":{"type":"object"}},"additionalProperties":false},` +
		`"Host":{"type":"object","properties":{"name":{"type":"string","pattern":"^a"}},"required":["name"],"additionalProperties":false}}}`
	for _, tt := range []struct {
		name, from, to string
		want           []string
	}{
		{"nothing", "", "", nil},
		{"a field more", `"free":`, `"more":{"type":"string","default":"x"},"free":`, nil},
		{"a word more", `["a","b",null]`, `["a","b","c",null]`, nil},
		{"any word", `"enum":["a","b",null],`, ``, nil},
		{"wider", `"maximum":9`, `"maximum":10`, nil},
		{"more types", `"free":{"type":"string"}`, `"free":{"type":["string","integer"]}`, nil},
		{"no longer required", `,"required":["name"]`, ``, nil},
		{"another name of a definition", `Host"`, `Machine"`, nil},
		{"what is upstream's", `"kubelet":{"type":"object"}`, `"kubelet":{"type":"string"}`, nil},
		{"renamed", `"free":`, `"freed":`, []string{"spec.free: is gone"}},
		{"renamed in a list", `"name":`, `"id":`, []string{"spec.hosts[].name: is gone"}},
		{"retyped", `"free":{"type":"string"}`, `"free":{"type":"integer"}`, []string{"spec.free: was a string and is a integer now"}},
		{"no null", `["object","null"]`, `"object"`, []string{"spec: was a object or null and is a object now"}},
		{"retyped values", `{"type":["string","null"]}}`, `{"type":"null"}}`, []string{"spec.labels[KEY]: was a string or null and is a null now"}},
		{"a word less", `["a","b",null]`, `["a",null]`, []string{`spec.plugin: could be "b" and cannot any more`}},
		{"words", `"free":{"type":"string"}`, `"free":{"type":"string","enum":["x"]}`, []string{"spec.free: could be anything and must be one of [x] now"}},
		{"narrower", `"maximum":9`, `"maximum":8`, []string{"spec.port: has a narrower range than it had"}},
		{"another pattern", `"^a"`, `"^b"`, []string{"spec.hosts[].name: has another pattern than it had"}},
		{"another default", `"default":"a"`, `"default":"b"`, []string{"spec.plugin: has the default b and had a: documents that leave it out would mean something else"}},
		{"required", `"additionalProperties":false}}}`, `"required":["name","x"]}}}`, []string{"spec.hosts[]: x must be there now"}},
	} {
		if !strings.Contains(before, tt.from) {
			t.Fatalf("%s: the schema has no %s", tt.name, tt.from)
		}
		got := broken(t, []byte(before), []byte(strings.ReplaceAll(before, tt.from, tt.to)))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
