package kube_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

// Somebody else writes between reading and writing: both changes are in the end there, and nothing is written without need.
func TestUpdateKeepsWhatOthersWrite(t *testing.T) {
	ref := kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: "own"}
	stored := func(data map[string]string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "own"}, Data: data}
	}
	s := kubetest.NewServer(t, stored(map[string]string{"a": "1"}))
	c := s.Client(t, kube.Options{})
	calls := 0
	edit := func(obj *unstructured.Unstructured) error {
		if calls++; calls == 1 {
			s.Put(t, stored(map[string]string{"a": "1", "theirs": "2"}))
		}
		return unstructured.SetNestedField(obj.Object, "3", "data", "ours")
	}
	if err := c.Update(within(t), ref, edit); err != nil {
		t.Fatal(err)
	}
	data, _, _ := unstructured.NestedStringMap(s.Object(ref).Object, "data")
	if calls != 2 || len(data) != 3 || data["theirs"] != "2" || data["ours"] != "3" {
		t.Errorf("after %d calls: %v", calls, data)
	}
	if asked := s.Requests(); asked[len(asked)-1] != "PUT /api/v1/namespaces/default/configmaps/own?fieldManager="+kube.FieldManager {
		t.Errorf("it is written by %s", asked[len(asked)-1])
	}
	version := s.Version()
	if err := c.Update(within(t), ref, edit); err != nil || s.Version() != version {
		t.Errorf("once more: %v, version %d, want %d", err, s.Version(), version)
	}
}

// What edit refuses is not tried again.
func TestUpdateThatIsRefused(t *testing.T) {
	s := kubetest.NewServer(t)
	var asked []string
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		asked = append(asked, r.Method)
		return false
	}
	no := errors.New("not mine")
	err := s.Client(t, kube.Options{}).Update(within(t), kubeSystem, func(*unstructured.Unstructured) error { return no })
	if !errors.Is(err, no) || !strings.Contains(err.Error(), "kube-system") || !slices.Equal(asked, []string{http.MethodGet}) {
		t.Errorf("got %v after %v", err, asked)
	}
}
