package kube_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/kube"
)

func TestParseManifests(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"comments and empty documents", "# one\n---\n---\n# two\n...\n---\n", nil},
		{"one", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", []string{"ConfigMap a"}},
		{"JSON", `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}}`, []string{"ConfigMap b/a"}},
		{"a marker with a comment, Windows line ends", "apiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: a}\r\n--- # next\r\napiVersion: v1\r\nkind: Secret\r\nmetadata: {name: b}",
			[]string{"ConfigMap a", "Secret b"}},
		{"text that looks like a marker", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: |\n    ---\n    y\n---x: 1\n",
			[]string{"ConfigMap a"}},
		{"a document on the marker's line", "--- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n", []string{"ConfigMap a"}},
		{"an end marker", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n...\n{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}",
			[]string{"ConfigMap a", "ConfigMap b"}},
		{"a list", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: a}}\n- {apiVersion: v1, kind: Node, metadata: {name: b}}\n",
			[]string{"Node a", "Node b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			objs, err := kube.ParseManifests("f.yaml", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, obj := range objs {
				got = append(got, kube.RefOf(obj).String())
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestParseManifestsRefuses(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"no kind", "apiVersion: v1\nmetadata: {name: a}\n", "f.yaml: document 1: kind is missing"},
		{"no apiVersion", "kind: ConfigMap\nmetadata: {name: a}\n", "ConfigMap: apiVersion is missing"},
		{"no name", "apiVersion: v1\nkind: ConfigMap\n", "metadata.name is missing"},
		{"a made-up name", "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n", "generateName"},
		{"a key twice", "apiVersion: v1\nkind: ConfigMap\nkind: ConfigMap\nmetadata: {name: a}\n", "already set"},
		{"not a map", "- 1\n", "document 1"},
		{"bad item", "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Node, metadata: {name: a}}, {apiVersion: v1, kind: Node}]\n",
			"List: item 2: Node: metadata.name is missing"},
		{"not YAML", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n\t{", "f.yaml: document 2"},
		{"every one of them", "kind: A\n---\nkind: B\n", "document 2: B: apiVersion is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			objs, err := kube.ParseManifests("f.yaml", []byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v", objs, err)
			}
		})
	}
}

func FuzzParseManifests(f *testing.F) {
	f.Add([]byte(coredns))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: a}}\n"))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: [1, null, {kind: List, items: []}]\n...\n---\n"))
	f.Add([]byte("a: &a [*a]\n--- x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objs, err := kube.ParseManifests("fuzz.yaml", data)
		if err != nil {
			if objs != nil || !strings.HasPrefix(err.Error(), "fuzz.yaml: document ") {
				t.Errorf("%v and %v", objs, err)
			}
			return
		}
		for _, obj := range objs {
			if obj.GetKind() == "" || obj.GetAPIVersion() == "" || obj.GetName() == "" {
				t.Errorf("incomplete: %v", obj.Object)
			}
			if _, err := obj.MarshalJSON(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestObjects(t *testing.T) {
	objs, err := kube.Objects(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "coredns", Namespace: "kube-system"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := kube.RefOf(objs[0]); got.String() != "Deployment kube-system/coredns" || got.APIVersion != "apps/v1" {
		t.Errorf("got %+v", got)
	}
	if _, set := objs[0].Object["status"]; set {
		t.Error("an empty status is left")
	}
	if _, set := objs[0].Object["metadata"].(map[string]any)["creationTimestamp"]; set {
		t.Error("a null creationTimestamp is left")
	}
}
