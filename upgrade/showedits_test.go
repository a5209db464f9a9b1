package upgrade

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/workflow"
)

// shown are the diffs of a phase's changes on the cluster, by object. Looking for them changes nothing.
func shown(t *testing.T, s *kubetest.Server, p workflow.Phase) map[string]string {
	t.Helper()
	before := s.Version()
	changes, err := p.Check(workflow.WithDiffs(t.Context()), nil)
	if err != nil || s.Version() != before {
		t.Fatalf("%v, and %d writes", err, s.Version()-before)
	}
	plain, err := p.Check(t.Context(), nil)
	if err != nil || len(plain) != len(changes) {
		t.Fatalf("without being asked for diffs: %v, %v", plain, err)
	}
	diffs := map[string]string{}
	for i, c := range changes {
		diffs[c.Object] = c.Diff
		if plain[i].Diff != "" {
			t.Errorf("without being asked for it: %s", plain[i].Diff)
		}
	}
	return diffs
}

func TestPhasesOnTheClusterShowWhatTheyEdit(t *testing.T) {
	c, s := upgradable(t, func(obj *unstructured.Unstructured) { rollOut(obj, 3) })
	addons, config := shown(t, s, Addons(c, enough)), shown(t, s, UploadConfig(c))
	for got, want := range map[string]string{
		addons["Deployment kube-system/coredns"]:       "-        image: registry.k8s.io/coredns/coredns:v1.14.2\n+        image: registry.k8s.io/coredns/coredns:v1.14.6\n",
		addons["DaemonSet kube-system/kube-proxy"]:     "+        image: registry.k8s.io/kube-proxy:v1.37.2\n",
		config["ConfigMap kube-system/kubeadm-config"]: "-    kubernetesVersion: v1.36.3\n+    kubernetesVersion: v1.37.2\n",
	} {
		if !strings.Contains(got, want) || strings.Count(got, "\n-") > 2 {
			t.Errorf("%q is not all that changes in\n%s", want, got)
		}
	}
}

func TestControlPlanesShowTheirStaticPods(t *testing.T) {
	r := newRig(t)
	n := r.ControlPlanes()[0]
	p := ControlPlanes(r.Cluster, r.ControlPlanes(), rigOptions())
	changes, err := p.Check(workflow.WithDiffs(t.Context()), n)
	if err != nil {
		t.Fatal(err)
	}
	pods := 0
	for _, c := range changes {
		if !strings.HasPrefix(c.Object, "/etc/kubernetes/manifests/") {
			if c.Diff != "" {
				t.Errorf("%s is shown as %s", c.Object, c.Diff)
			}
			continue
		}
		pods++
		if !strings.HasPrefix(c.Diff, "--- "+c.Object+"\n+++ "+c.Object+"\n") || strings.Count(c.Diff, "\n-") != 1 || strings.Count(c.Diff, "\n+") != 2 {
			t.Errorf("%s is shown as\n%s", c.Object, c.Diff)
		}
	}
	if pods != 4 {
		t.Errorf("%d static pods change: %v", pods, changes)
	}
}
