package manifests_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/manifests"
)

// podFiles are manifests of kubeadm's and of ours.
var podFiles = []string{
	"kubeadm/etcd.yaml", "kubeadm/kube-apiserver.yaml", "kubeadm/kube-controller-manager.yaml", "kubeadm/kube-scheduler.yaml",
	"golden/etcd.yaml", "golden/kube-apiserver.yaml", "golden/kube-controller-manager.yaml", "golden/kube-scheduler.yaml",
}

const newImage = "registry.example:5000/k8s/kube-apiserver:v1.37.2"

func TestWithPodImageOfWhoeverWroteIt(t *testing.T) {
	for _, path := range podFiles {
		data, err := os.ReadFile(filepath.Join("testdata", path))
		if err != nil {
			t.Fatal(err)
		}
		was, err := manifests.PodImage(data)
		if err != nil || !strings.Contains(was, strings.TrimSuffix(filepath.Base(path), ".yaml")+":") {
			t.Fatalf("%s: its image is %q, %v", path, was, err)
		}
		out, changed, err := manifests.WithPodImage(data, newImage)
		want := strings.Replace(string(data), was, newImage, 1)
		if diff := cmp.Diff(want, string(out)); diff != "" || !changed || err != nil {
			t.Errorf("%s: changed %t, %v, (-want +got):\n%s", path, changed, err, diff)
		}
		if again, changed, err := manifests.WithPodImage(out, newImage); changed || err != nil || !bytes.Equal(again, out) {
			t.Errorf("%s: once more: changed %t, %v", path, changed, err)
		}
	}
}

func TestWithPodImage(t *testing.T) {
	const uneditable = "the container's image cannot be replaced where it stands; hint: write it on one line as image: a:1, without anchor, merge or escape"
	for _, tt := range []struct {
		name, pod string
		want      string // the pod with newImage, written as NEW; empty: an error
		err       string
	}{
		{"comments, order and quotes", "# mine\nspec: # ours\n    containers:\n      - image:   a:1   # pinned\n        name: \"x\"\n", "# mine\nspec: # ours\n    containers:\n      - image:   NEW   # pinned\n        name: \"x\"\n", ""},
		{"no line end", "spec:\n  containers:\n  - image: a:1", "spec:\n  containers:\n  - image: NEW", ""},
		{"Windows line ends", "# ä\r\nspec:\r\n  containers:\r\n  - name: x\r\n    image: a:1\r\n", "# ä\r\nspec:\r\n  containers:\r\n  - name: x\r\n    image: NEW\r\n", ""},
		{"double quotes", "spec: {containers: [{image: \"a:1\"}]}", "spec: {containers: [{image: \"NEW\"}]}", ""},
		{"single quotes", "spec: {containers: [{image: 'a:1'}]}", "spec: {containers: [{image: 'NEW'}]}", ""},
		{"no quotes, one line", "spec: {containers: [{image: a:1, name: x}]}", "spec: {containers: [{image: NEW, name: x}]}", ""},
		{"JSON", "{\n\t\"spec\": {\n\t\t\"containers\": [\n\t\t\t{\"image\": \"a:1\"}]}}\n", "{\n\t\"spec\": {\n\t\t\"containers\": [\n\t\t\t{\"image\": \"NEW\"}]}}\n", ""},
		{"letters of several bytes before it", "spec: {containers: [{\"ä€😀\": ü, image: a:1}]}", "spec: {containers: [{\"ä€😀\": ü, image: NEW}]}", ""},
		{"the same image elsewhere", "# a:1\nspec:\n  initContainers:\n  - image: a:1\n  containers:\n  - image: a:1\n  - image: a:1\n", "# a:1\nspec:\n  initContainers:\n  - image: a:1\n  containers:\n  - image: NEW\n  - image: a:1\n", ""},
		{"a sidecar before it", "metadata: {name: etcd}\nspec: {containers: [{name: logs, image: a:1}, {name: etcd, image: a:1}]}", "metadata: {name: etcd}\nspec: {containers: [{name: logs, image: a:1}, {name: etcd, image: NEW}]}", ""},
		{"a name of its own", "metadata: {name: etcd}\nspec: {containers: [{name: db, image: a:1}, {name: logs, image: a:1}]}", "metadata: {name: etcd}\nspec: {containers: [{name: db, image: NEW}, {name: logs, image: a:1}]}", ""},
		{"another document after it", "spec: {containers: [{image: a:1}]}\n---\nspec: {containers: [{image: a:1}]}\n", "spec: {containers: [{image: NEW}]}\n---\nspec: {containers: [{image: a:1}]}\n", ""},
		{"twice in a container", "spec:\n  containers:\n  - image: b:2\n    image: a:1\n", "spec:\n  containers:\n  - image: b:2\n    image: NEW\n", ""},
		{"an escape", `{"spec": {"containers": [{"image": "a\u003a1"}]}}`, "", uneditable},
		{"a block", "spec:\n  containers:\n  - image: >-\n      a:1\n", "", uneditable},
		{"an anchor", "spec: {containers: [{image: &i a:1}]}", "", uneditable},
		{"an alias", "x: &i a:1\nspec: {containers: [{image: *i}]}", "", uneditable},
		{"a merge", "x: &i {image: a:1}\nspec: {containers: [{<<: *i}]}", "", uneditable},
		{"a container that is an alias", "x: &c {image: a:1}\nspec: {containers: [*c]}", "", uneditable},
		{"not YAML", "[", "", "not a pod in YAML"},
		{"nothing", "", "", "the pod has no container"},
		{"no container", "spec: {containers: []}", "", "the pod has no container"},
		{"a container that is none", "spec: {containers: [x]}", "", "the pod's container has no image"},
		{"no image", "spec: {containers: [{name: x, image: }]}", "", "the pod's container has no image"},
		{"an image that is a number", "spec: {containers: [{image: 1}]}", "", "the pod's container has no image"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, changed, err := manifests.WithPodImage([]byte(tt.pod), newImage)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err || changed || out != nil {
					t.Errorf("got %q, %t, %v, want %s", out, changed, err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(strings.ReplaceAll(tt.want, "NEW", newImage), string(out)); diff != "" || !changed || err != nil {
				t.Errorf("changed %t, %v, (-want +got):\n%s", changed, err, diff)
			}
		})
	}
}

// An image that would mean something to YAML does not get into a manifest as anything but an image.
func TestWithPodImageThatIsNoImage(t *testing.T) {
	for _, image := range []string{"", "a: b", "a #b", "12", "null", "x\n    command: [sh]", `a"`} {
		if out, _, err := manifests.WithPodImage([]byte("spec:\n  containers:\n  - image: a:1\n"), image); err == nil && image != `a"` {
			t.Errorf("%q gives %q", image, out)
		}
		if out, _, err := manifests.WithPodImage([]byte(`{"spec": {"containers": [{"image": "a:1"}]}}`), image); err == nil && strings.ContainsAny(image, "\"\n") {
			t.Errorf("%q gives %q", image, out)
		}
	}
}

// Whatever stands in the place of the pod, nothing but the image changes, and twice is as good as once.
func FuzzWithPodImage(f *testing.F) {
	for _, path := range podFiles {
		data, err := os.ReadFile(filepath.Join("testdata", path))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, newImage)
		f.Add(bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")), newImage)
	}
	f.Add([]byte("{\"spec\":{\"containers\":[{\"image\":\"a\\/b:1\"}]}}"), "b")
	f.Add([]byte("x: &c {image: a}\nspec: {containers: [*c, *c]}"), "b")
	f.Add([]byte("\xef\xbb\xbfspec: {containers: [{image: a}]}"), "b")
	f.Add([]byte("spec: {containers: [{image: a, x: 1e400}]}"), "b")
	f.Add([]byte("spec:\n  containers:\n  - image: a\u2028b\n"), "b: c")
	f.Fuzz(func(t *testing.T, pod []byte, image string) {
		out, changed, err := manifests.WithPodImage(pod, image)
		if err != nil {
			return
		}
		was, err := manifests.PodImage(pod)
		if err != nil || changed != (was != image) {
			t.Fatalf("from %q to %q: changed %t, %v", was, image, changed, err)
		}
		if !changed && !bytes.Equal(out, pod) {
			t.Error("it is written anew, and said not to have changed")
		}
		if is, err := manifests.PodImage(out); err != nil || is != image {
			t.Errorf("its image is %q, %v", is, err)
		}
		if back, _, err := manifests.WithPodImage(out, was); err == nil && !reflect.DeepEqual(readPod(t, back), readPod(t, pod)) {
			t.Errorf("more than the image has changed:\n%s", cmp.Diff(string(pod), string(back)))
		}
	})
}

func readPod(t *testing.T, pod []byte) (p map[string]any) {
	t.Helper()
	if err := yaml.Unmarshal(pod, &p); err != nil {
		t.Fatal(err)
	}
	return p
}
