package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// currentSchema is that of the types as they are. It takes a second: upstream's comments are many.
var currentSchema = sync.OnceValues(schemaOf)

func TestSchemaIsUpToDate(t *testing.T) {
	want, err := currentSchema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), Schema); diff != "" {
		t.Errorf("schema.json is not what the types are now; run go generate ./config (-want +got):\n%s", diff)
	}
}

func TestSchemaDescribesEveryField(t *testing.T) {
	var schema struct {
		Defs map[string]struct {
			Properties map[string]struct{ Description string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(Schema), &schema); err != nil {
		t.Fatal(err)
	}
	own, err := packageComments(reflect.TypeFor[Cluster]().PkgPath())
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	for name, def := range schema.Defs {
		_, ours := own[name] // upstream leaves some of its fields without
		for field, s := range def.Properties {
			if fields++; s.Description == "" && ours {
				t.Errorf("%s.%s has no comment", name, field)
			}
		}
	}
	if fields < 200 { // the kubelet alone has more than half of them
		t.Errorf("there are only %d fields", fields)
	}
}

// compileSchema gives what judges documents of YAML by the embedded schema.
func compileSchema(t testing.TB) func(document []byte) error {
	t.Helper()
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("cluster.schema.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("cluster.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(document []byte) error {
		var tree any
		if err := yaml.Unmarshal(document, &tree); err != nil {
			return err
		}
		plain, err := json.Marshal(tree)
		if err != nil {
			return err
		}
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(plain)))
		if err != nil {
			return err
		}
		return compiled.Validate(instance)
	}
}

// accepts is what myadm itself says of a document.
func accepts(document []byte) error {
	c, err := Parse("c.yaml", document)
	if err != nil {
		return err
	}
	return ValidateJoin(c)
}

// comment is a line that is one.
var comment = regexp.MustCompile(`(?m)^ *#.*\n`)

// change is one thing done to a complete document: path names the node that it is done to.
type change struct {
	path, what string
	document   []byte
}

// changes gives the document once for each thing that can be done to each node of it.
func changes(t *testing.T, document string, do map[string]func(parent, node *yaml.Node) bool) []change {
	t.Helper()
	var root yaml.Node
	var out []change
	parse := func() {
		root = yaml.Node{}
		if err := yaml.Unmarshal([]byte(document), &root); err != nil {
			t.Fatal(err)
		}
	}
	parse()
	var paths [][]int
	var walk func(n *yaml.Node, at []int)
	walk = func(n *yaml.Node, at []int) {
		paths = append(paths, at)
		for i, child := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 {
				continue
			}
			walk(child, append(slices.Clone(at), i))
		}
	}
	walk(root.Content[0], nil)
	for _, what := range slices.Sorted(maps.Keys(do)) {
		for _, at := range paths {
			parse()
			parent, node, name := &root, root.Content[0], ""
			for _, i := range at {
				parent, node = node, node.Content[i]
				if parent.Kind == yaml.MappingNode {
					name = join(name, parent.Content[i-1].Value)
				} else {
					name = fmt.Sprintf("%s[%d]", name, i)
				}
			}
			if !do[what](parent, node) {
				continue
			}
			changed, err := yaml.Marshal(&root)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, change{name, what, changed})
		}
	}
	return out
}

func setScalar(n *yaml.Node, tag, value string) bool {
	*n = yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
	return true
}

func addField(n *yaml.Node, name string) bool {
	if n.Kind != yaml.MappingNode {
		return false
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, &yaml.Node{Kind: yaml.ScalarNode, Value: "x"})
	return true
}

// The loader is the judge: what it takes the schema takes, and a field that it does not know or a value of a wrong type,
// a word that is none of a field's or a number out of its range is refused by both.
func TestSchemaAndLoaderAgree(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	valid := compileSchema(t)
	both := map[string]func(parent, node *yaml.Node) bool{
		"text":             func(_, n *yaml.Node) bool { return setScalar(n, "!!str", "certainly wrong") },
		"a number":         func(_, n *yaml.Node) bool { return setScalar(n, "!!int", "-7") },
		"a large number":   func(_, n *yaml.Node) bool { return setScalar(n, "!!int", "70000") },
		"a fraction":       func(_, n *yaml.Node) bool { return setScalar(n, "!!float", "0.5") },
		"true":             func(_, n *yaml.Node) bool { return setScalar(n, "!!bool", "true") },
		"nothing":          func(_, n *yaml.Node) bool { return setScalar(n, "!!null", "null") },
		"empty text":       func(_, n *yaml.Node) bool { return setScalar(n, "!!str", "") },
		"a list":           func(_, n *yaml.Node) bool { *n = yaml.Node{Kind: yaml.SequenceNode}; return true },
		"fields":           func(_, n *yaml.Node) bool { *n = yaml.Node{Kind: yaml.MappingNode}; return true },
		"an unknown field": func(_, n *yaml.Node) bool { return addField(n, "certainlyUnknown") },
		"removed": func(parent, n *yaml.Node) bool {
			i := slices.Index(parent.Content, n)
			if parent.Kind != yaml.MappingNode {
				return false
			}
			parent.Content = slices.Delete(parent.Content, i-1, i+1)
			return true
		},
	}
	counts := map[string]int{}
	for name, document := range completeDocuments(t) {
		if err := valid([]byte(document)); err != nil {
			t.Errorf("%s etcd: the complete document is refused: %v", name, err)
		}
		for _, c := range changes(t, comment.ReplaceAllString(document, ""), both) {
			if name == "external" && !strings.HasPrefix(c.path, "spec.etcd") {
				continue // as in the other document
			}
			loader, schema := accepts(c.document), valid(c.document)
			if loader == nil && schema != nil {
				t.Errorf("%s etcd: %s is %s: the loader takes it, and the schema says %v", name, c.path, c.what, schema)
			}
			inPod := strings.Contains(c.path, ".patch") // Kubernetes' own type, of which the schema says nothing
			if loader != nil && schema == nil && isSimple(loader) && !inPod {
				t.Errorf("%s etcd: %s is %s: the schema takes it, and the loader says %v", name, c.path, c.what, loader)
			}
			if schema != nil {
				counts["refused"]++
			} else {
				counts["taken"]++
			}
		}
	}
	if counts["refused"] < 600 || counts["taken"] < 200 {
		t.Errorf("too few documents were tried: %v", counts)
	}
}

// fewWords is the end of a message about a word that is none of a few.
var fewWords = regexp.MustCompile(`(?m)(did you mean .*|; hint: use [\w-]+(, [\w-]+)* or [\w-]+)$`)

// isSimple reports errors that a schema can see.
func isSimple(err error) bool {
	return fewWords.MatchString(err.Error()) || slices.ContainsFunc([]string{": unknown field", ": expected ", ": not a duration", ": the item is empty"},
		func(sign string) bool { return strings.Contains(err.Error(), sign) })
}

func TestSchemaRefusesWords(t *testing.T) {
	valid := compileSchema(t)
	for _, spec := range []string{
		"hosts: [{roles: [boss]}]", "hosts: [{taints: [{key: a, effect: NoSchedul}]}]", "artifacts: {delivery: post}", "runtime: {type: docker}",
		"certificates: {keyAlgorithm: RSA}", "networking: {plugin: calico}", "loadBalancer: {type: f5}",
		"apiServer: {extraVolumes: [{name: a, hostPath: /a, mountPath: /b, pathType: file}]}",
		"apiServerPort: 65536", "hosts: [{ssh: {port: -1}}]", "loadBalancer: {port: 70000}", "loadBalancer: {type: keepalived, virtualIP: 192.0.2.9, routerID: 256}", "dns: {replicas: -1}",
		"apiServer: {extraArgs: [{value: x}]}", "hosts: [{taints: [{effect: NoExecute}]}]", "registries: [{mirrors: [https://m]}]",
		"scheduler: {extraVolumes: [{name: a, hostPath: /a}]}", "scheduler: {extraEnvs: [{value: a}]}", "etcd: {external: {endpoints: [https://a:1]}}",
	} {
		document := []byte(head + "spec: {" + spec + "}\n")
		if err := accepts(document); err == nil {
			t.Errorf("the loader takes %s", spec)
		}
		if err := valid(document); err == nil {
			t.Errorf("the schema takes %s", spec)
		}
	}
	for _, document := range []string{"kind: Cluster\n", "apiVersion: myadm.dev/v1alpha1\n", "apiVersion: myadm.dev/v2\nkind: Cluster\n", "apiVersion: myadm.dev/v1alpha1\nkind: Machine\n", "[]"} {
		if valid([]byte(document)) == nil {
			t.Errorf("the schema takes %q", document)
		}
	}
}

func FuzzSchemaTakesWhatTheLoaderTakes(f *testing.F) {
	f.Setenv("HOME", f.TempDir())
	valid := compileSchema(f)
	for _, document := range completeDocuments(f) {
		f.Add([]byte(document))
	}
	f.Add([]byte(DefaultDocument))
	f.Add([]byte(fullSpec))
	f.Fuzz(func(t *testing.T, document []byte) {
		if accepts(document) == nil {
			if err := valid(document); err != nil {
				t.Errorf("the loader takes it, and the schema says %v", err)
			}
		}
	})
}
