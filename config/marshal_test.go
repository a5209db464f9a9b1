package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// example is a commented line of the default document that is YAML: prose has exactly one space after its #.
var example = regexp.MustCompile(`(?m)^( *)#((?:  )*[^ ].*)$`)

// uncommented turns the examples of the default document into fields.
func uncommented(text string) string { return example.ReplaceAllString(text, "$1$2") }

func TestDefaultDocumentIsTheDefaults(t *testing.T) {
	c := mustParse(t, DefaultDocument)
	if err := Validate(c); err != nil {
		t.Errorf("Validate: %v", err)
	}
	SetDefaults(c)
	want := &Cluster{}
	SetDefaults(want)
	if diff := cmp.Diff(want, c, sameCluster); diff != "" {
		t.Errorf("the document differs from the defaults (-want +got):\n%s", diff)
	}
	if !strings.Contains(DefaultDocument, "keyAlgorithm: "+KeyECDSAP256) {
		t.Error("the document leaves defaults out")
	}
}

func TestDefaultDocumentExamplesAreValid(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for name, document := range completeDocuments(t) {
		if err := Validate(mustParse(t, document)); err != nil {
			t.Errorf("%s etcd: %v", name, err)
		}
	}
}

// completeDocuments are the default document with all its examples as fields. etcd is myadm's or the user's own: the
// document shows both, and a cluster has one, so there are two documents.
func completeDocuments(t testing.TB) map[string]string {
	t.Helper()
	before, rest, _ := strings.Cut(DefaultDocument, "    extraArgs:\n    #- name: quota-backend-bytes")
	stacked, rest, _ := strings.Cut(rest, "    #external:")
	external, after, ok := strings.Cut(rest, "  apiServer:\n")
	if !ok {
		t.Fatal("the document does not show etcd as it did")
	}
	documents := map[string]string{}
	for name, etcd := range map[string]string{
		"stacked":  "    extraArgs:\n    #- name: quota-backend-bytes" + stacked,
		"external": "    #external:" + external,
	} {
		documents[name] = uncommented(before + etcd + "\n  apiServer:\n" + after)
	}
	return documents
}

func TestDefaultDocumentHasEveryField(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	c := mustParse(t, uncommented(DefaultDocument))
	index := regexp.MustCompile(`\[\d+\]`)
	has := map[string]bool{}
	for path := range c.source.at {
		has[index.ReplaceAllString(path, "[]")] = true
	}
	for _, path := range fieldPaths(reflect.TypeFor[Cluster](), "") {
		// The two others share the API server's type, and the document says so.
		if strings.HasPrefix(path, "spec.controllerManager.") || strings.HasPrefix(path, "spec.scheduler.") {
			continue
		}
		if !has[path] {
			t.Errorf("%s is not in the default document", path)
		}
	}
}

// fieldPaths lists the fields of this package's types; upstream's types are documented upstream.
func fieldPaths(t reflect.Type, path string) []string {
	var out []string
	fields := map[string]reflect.Type{}
	jsonFields(t, fields)
	for _, name := range names(fields) {
		child, ft := join(path, name), fields[name]
		out = append(out, child)
		switch ft.Kind() {
		case reflect.Slice:
			child, ft = child+"[]", ft.Elem()
		case reflect.Pointer:
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct && ft.PkgPath() == t.PkgPath() {
			out = append(out, fieldPaths(ft, child)...)
		}
	}
	return out
}

func TestMarshalReadsBack(t *testing.T) {
	c := mustParse(t, head+`
metadata: {name: "0o7"}
spec:
  hosts:
  - {name: a, roles: [control-plane], taints: []}
  kubelet: {enforceNodeAllocatable: [], failSwapOn: false, maxPods: 110}
  apiServer: {extraArgs: [{name: x, value: "line\nline\t"}, {name: y, value: ""}, {name: z, value: "true"}]}
  registries: [{name: registry.k8s.io, mirrors: [https://m/k8s], exclusive: true}]
  proxy: {httpsProxy: "http://ops:pw@proxy:3128", noProxy: [.example.org]}
`)
	got, err := Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	want := `apiVersion: myadm.dev/v1alpha1
kind: Cluster
metadata:
  name: "0o7"
spec:
  hosts:
    - name: a
      roles:
        - control-plane
      taints: []
  apiServer:
    extraArgs:
      - name: x
        value: "line\nline\t"
      - name: y
        value: ""
      - name: z
        value: "true"
  kubelet:
    enforceNodeAllocatable: []
    failSwapOn: false
    maxPods: 110
  registries:
    - name: registry.k8s.io
      mirrors:
        - https://m/k8s
      exclusive: true
  proxy:
    httpsProxy: http://ops:pw@proxy:3128
    noProxy:
      - .example.org
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(c, mustParse(t, string(got)), sameCluster); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestDefaultDocumentTellsProseFromExamples(t *testing.T) {
	lines := strings.Split(uncommented("  # prose\n  #- name: a\n  #  b: c\n"), "\n")
	if want := []string{"  # prose", "  - name: a", "    b: c", ""}; !slices.Equal(lines, want) {
		t.Errorf("lines = %q, want %q", lines, want)
	}
}
