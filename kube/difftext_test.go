package kube_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

// texts are those of the one difference that there is.
func texts(t *testing.T, differences []kube.Difference, err error) (was, is string) {
	t.Helper()
	if err != nil || len(differences) != 1 {
		t.Fatalf("%d differences, %v", len(differences), err)
	}
	before, after, err := differences[0].Texts()
	if err != nil {
		t.Fatal(err)
	}
	if (before == nil) != differences[0].Create {
		t.Errorf("one to create: %t, with the text %q", differences[0].Create, before)
	}
	return string(before), string(after)
}

func TestTextsAreWhatIsCompared(t *testing.T) {
	s := kubetest.NewServer(t)
	c := s.Client(t, kube.Options{})
	objs := manifests(t, coredns)
	want := "apiVersion: v1\ndata:\n  Corefile: .:53 {}\nkind: ConfigMap\nmetadata:\n  name: coredns\n  namespace: kube-system\n"
	differences, err := kube.Diff(t.Context(), c, objs[1:2])
	if was, is := texts(t, differences, err); was != "" || is != want {
		t.Errorf("of a new object: %q becomes\n%s", was, is)
	}
	s.Put(t, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns"}, Data: map[string]string{"Corefile": "old", "theirs": "stays"},
	})
	differences, err = kube.Diff(t.Context(), c, objs[1:2])
	was, is := texts(t, differences, err)
	for text, parts := range map[string][]string{was: {"  Corefile: old\n", "  theirs: stays\n"}, is: {"  Corefile: .:53 {}\n", "  theirs: stays\n"}} {
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%q is not in\n%s", part, text)
			}
		}
		for _, field := range []string{"resourceVersion", "managedFields", "status", "uid"} {
			if strings.Contains(text, field) {
				t.Errorf("%s, of the API server, is in\n%s", field, text)
			}
		}
	}
}

func TestTextsOfNodesAreTheirMarks(t *testing.T) {
	s := kubetest.NewServer(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "w-1", Labels: map[string]string{"disk": "hdd", "old": "x"}},
		Spec:       corev1.NodeSpec{PodCIDR: "10.0.0.0/24", Taints: []corev1.Taint{{Key: "theirs", Effect: corev1.TaintEffectNoExecute}}},
	})
	c := s.Client(t, kube.Options{})
	differences, err := kube.DiffNode(t.Context(), c, "w-1", kube.NodeMarks{
		Labels: map[string]string{"disk": "ssd"}, RemoveLabels: []string{"old"}, Taints: []corev1.Taint{{Key: "ours", Effect: corev1.TaintEffectNoSchedule}},
	})
	was, is := texts(t, differences, err)
	if want := "metadata:\n  labels:\n    disk: hdd\n    old: x\nspec:\n  taints:\n  - effect: NoExecute\n    key: theirs\n"; was != want {
		t.Errorf("it was\n%s", was)
	}
	if want := "metadata:\n  labels:\n    disk: ssd\nspec:\n  taints:\n  - effect: NoExecute\n    key: theirs\n  - effect: NoSchedule\n    key: ours\n"; is != want {
		t.Errorf("it is to be\n%s", is)
	}
	if labels := s.Object(kube.Ref{APIVersion: "v1", Kind: "Node", Name: "w-1"}).GetLabels(); labels["disk"] != "hdd" {
		t.Errorf("the node has got %v", labels)
	}
}

// Of a Secret nothing is told but which of its values change.
func TestTextsHideSecrets(t *testing.T) {
	s := kubetest.NewServer(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "hidden", Annotations: map[string]string{"last-applied": "MARKER-annotation"}},
		Data:       map[string][]byte{"kept": []byte("MARKER-kept"), "key": []byte("MARKER-old"), "theirs": []byte("MARKER-theirs")},
	})
	objs := manifests(t, `{apiVersion: v1, kind: Secret, metadata: {name: hidden, namespace: kube-system}, data: {kept: TUFSS0VSLWtlcHQ=, key: TUFSS0VSLW5ldw==, more: TUFSS0VS}}`)
	differences, err := kube.Diff(t.Context(), s.Client(t, kube.Options{}), objs)
	was, is := texts(t, differences, err)
	const kept, changed = "(secret: not shown)", "(secret: changed, not shown)"
	wantWas := "apiVersion: v1\ndata:\n  kept: " + kept + "\n  key: " + kept + "\n  theirs: " + kept + "\nkind: Secret\nmetadata:\n  annotations:\n    last-applied: " + kept
	wantIs := "apiVersion: v1\ndata:\n  kept: " + kept + "\n  key: '" + changed + "'\n  more: '" + changed + "'\n  theirs: " + kept + "\nkind: Secret\n"
	quote := func(text string) string { return strings.ReplaceAll(text, kept, "'"+kept+"'") }
	if !strings.HasPrefix(was, quote(wantWas)) || !strings.HasPrefix(is, quote(wantIs)) {
		t.Errorf("it was\n%s\nand is to be\n%s", was, is)
	}

	const text = `{apiVersion: v1, kind: Secret, metadata: {name: new, namespace: default}, stringData: {a: MARKER}, data: MARKER}`
	_, is = texts(t, []kube.Difference{kube.New(manifests(t, text)[0])}, nil)
	if diff := cmp.Diff("apiVersion: v1\nkind: Secret\nmetadata:\n  name: new\n  namespace: default\nstringData:\n  a: '"+kept+"'\n", is); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
