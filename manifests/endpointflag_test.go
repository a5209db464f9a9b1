package manifests_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

func TestWithEndpointFlag(t *testing.T) {
	pod := func(flags string) string {
		return "spec:\n  containers:\n  - command: [kube-apiserver" + flags + "]\n    name: kube-apiserver\n"
	}
	for _, tt := range []struct {
		name, pod string
		want      []string // the command's flags; nil: as they are
		err       string
	}{
		{"without", pod(", --v=2"), []string{"--v=2", manifests.EndpointFlag}, ""},
		{"with another", pod(", --endpoint-reconciler-type=lease, --v=2"), []string{"--v=2", manifests.EndpointFlag}, ""},
		{"with it", pod(", --endpoint-reconciler-type=none, --v=2"), nil, ""},
		{"with it, and another that wins", pod(", --endpoint-reconciler-type=none, --endpoint-reconciler-type=lease"), []string{manifests.EndpointFlag}, ""},
		{"with a flag that is named alike", pod(", --endpoint-reconciler-types=none"), []string{"--endpoint-reconciler-types=none", manifests.EndpointFlag}, ""},
		{"not YAML", "[", nil, "not a pod in YAML"},
		{"a list", "- a\n", nil, "not a pod in YAML"},
		{"no pod", "kind: Pod\n", nil, "the pod has no container"},
		{"no command", "spec: {containers: [{name: x}]}\n", nil, "the pod's container has no command"},
		{"a container that is none", "spec: {containers: [x]}\n", nil, "the pod's container has no command"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, changed, err := manifests.WithEndpointFlag([]byte(tt.pod))
			if tt.err != "" {
				if err == nil || err.Error() != tt.err || changed || out != nil {
					t.Errorf("got %q, %t, %v, want %s", out, changed, err, tt.err)
				}
				return
			}
			if err != nil || changed != (tt.want != nil) {
				t.Fatalf("changed: %t, %v", changed, err)
			}
			if tt.want == nil {
				if string(out) != tt.pod {
					t.Errorf("it is written anew:\n%s", out)
				}
				return
			}
			if diff := cmp.Diff(tt.want, apiServerFlags(t, out)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// apiServerFlags are the arguments of a pod's first container after its program.
func apiServerFlags(t *testing.T, pod []byte) []string {
	t.Helper()
	var p struct {
		Spec struct{ Containers []struct{ Command []string } }
	}
	if err := yaml.Unmarshal(pod, &p); err != nil {
		t.Fatal(err)
	}
	return p.Spec.Containers[0].Command[1:]
}

// A pod that got the flag is the one that is rendered for a cluster that had the load balancer from the beginning.
func TestEndpointFlagIsWhereItIsRendered(t *testing.T) {
	one := must[[]byte](t)
	render := func(balancer string) []byte {
		p := kubeadmCluster(t, func(s *config.Spec) { s.LoadBalancer.Type = balancer })
		f, err := manifests.APIServer(p, kubeadmNode())
		return one(f.Data, err)
	}
	out, changed, err := manifests.WithEndpointFlag(render(""))
	if err != nil || !changed {
		t.Fatalf("changed: %t, %v", changed, err)
	}
	if diff := cmp.Diff(string(render(config.LoadBalancerNodeLocal)), string(out)); diff != "" {
		t.Errorf("(-rendered +changed):\n%s", diff)
	}
}

// Whatever stands in the place of the pod, nothing but the flag changes, and twice is as good as once.
func FuzzWithEndpointFlag(f *testing.F) {
	for _, path := range []string{"kubeadm/kube-apiserver.yaml", "golden/kube-apiserver.yaml"} {
		data, err := os.ReadFile(filepath.Join("testdata", path))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("spec: {containers: [{command: [a, --endpoint-reconciler-type=none, 1, --endpoint-reconciler-type=lease, null]}]}"))
	f.Add([]byte("spec: {containers: [null]}"))
	f.Add([]byte("{\"spec\": {\"containers\": [{\"command\": [\"\\u0000\"]}]}, \"x\": 1e400}"))
	f.Fuzz(func(t *testing.T, pod []byte) {
		out, changed, err := manifests.WithEndpointFlag(pod)
		if err != nil {
			return
		}
		if !changed && !bytes.Equal(out, pod) {
			t.Error("it is written anew, and said not to have changed")
		}
		again, more, err := manifests.WithEndpointFlag(out)
		if err != nil || more || !bytes.Equal(again, out) {
			t.Errorf("once more: changed %t, %v", more, err)
		}
		before, after := bare(t, pod), bare(t, out)
		if !reflect.DeepEqual(before, after) {
			t.Errorf("more than the flag has changed:\n%s", cmp.Diff(before, after))
		}
	})
}

// bare is a pod without the flag, whatever its value.
func bare(t *testing.T, pod []byte) map[string]any {
	t.Helper()
	var p map[string]any
	if err := yaml.Unmarshal(pod, &p); err != nil {
		t.Fatal(err)
	}
	container := p["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	container["command"] = slices.DeleteFunc(container["command"].([]any), func(arg any) bool {
		text, ok := arg.(string)
		return ok && strings.HasPrefix(text, "--endpoint-reconciler-type=")
	})
	return p
}
