package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/upgrade"
)

// outlooks are what upgrade plan may have to tell, by the name of their golden file.
func outlooks() map[string]upgradeOutlook {
	const was, is = "v1.36.3", "v1.37.2"
	pod := func(name, have, want string, change bool) upgrade.Item {
		return upgrade.Item{Name: name, Have: have, Want: want, Path: "/etc/kubernetes/manifests/" + name + ".yaml", Change: change}
	}
	half := &upgrade.Plan{
		From: was, To: is, Reachable: []string{is}, Changes: 5,
		Hosts: []upgrade.HostPlan{
			{Name: "cp-1", ControlPlane: true, Components: []upgrade.Item{
				pod("etcd", "3.7.0-0", "3.7.0-0", false), pod("kube-apiserver", is, is, false),
				{Name: "kubelet", Have: is, Want: is, Path: "/usr/local/bin/kubelet"},
			}},
			{Name: "cp-2", ControlPlane: true, Components: []upgrade.Item{
				pod("etcd", "3.6.8-0", "3.7.0-0", true), pod("kube-apiserver", "", is, true),
				{Name: "kubelet", Have: was, Want: is, Path: "/usr/local/bin/kubelet", Change: true},
			}, Binaries: []string{"/usr/local/bin/kubelet", "/usr/local/bin/kubectl"}},
		},
		Addons: []upgrade.Item{{Name: "coredns", Have: "v1.14.6", Want: "v1.14.6", HaveImage: "k8s.gcr.io/coredns:v1.14.6", WantImage: "registry.k8s.io/coredns/coredns:v1.14.6", Change: true}},
		Config: []upgrade.Item{{Name: "kubeadm-config", Have: was, Want: is, Change: true}},
		Findings: []upgrade.Finding{
			{Name: "api-server", Where: "cluster", Message: "the API does not answer: refused", Fatal: true},
			{Name: "disk-space", Where: "cp-2", Message: "/ has 1 MiB free, and the upgrade needs 2", Hint: "make room there", Fatal: true},
			{Name: "disruption-budget", Where: "shop/db", Message: "the PodDisruptionBudget lets no pod go now"},
		},
	}
	done := &upgrade.Plan{To: is, Hosts: half.Hosts[:1]}
	return map[string]upgradeOutlook{
		"half": {Cluster: "prod", From: was, Reachable: []string{is}, Plans: []*upgrade.Plan{half}},
		"done": {Cluster: "prod", From: is, Plans: []*upgrade.Plan{done}},
	}
}

func TestPrintOutlook(t *testing.T) {
	for name, o := range outlooks() {
		t.Run(name, func(t *testing.T) {
			var flags upgradePlanFlags
			flags.file, flags.bundle = "cluster.yaml", "k.tar"
			var out bytes.Buffer
			if err := flags.print(&out, o); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "upgradeplan", name+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Without a word on the version every one that can be reached is told of.
func TestWantedVersions(t *testing.T) {
	for _, tt := range []struct{ argument, document, from, want string }{
		{"v1.36.3", "v1.36.3", "v1.36.3", "v1.36.3"},
		{"", "v1.37.2", "v1.36.3", "v1.37.2"},
		{"", "v1.36.1", "v1.36.1", "v1.36.3 v1.37.2"},
		{"", "v1.37.2", "v1.37.2", "v1.37.2"},
	} {
		c := &cluster.Cluster{Config: &config.Cluster{}}
		c.Config.Spec.KubernetesVersion = tt.document
		if got := strings.Join(wantedVersions(c, tt.argument, tt.from), " "); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// That there is something to do is an answer; beside a failure it is none.
func TestExitCodeOfChanges(t *testing.T) {
	var out bytes.Buffer
	printError(&out, errChanges, func(s string) string { return s })
	if code := exitCode(t.Context(), errChanges); code != 4 || out.Len() > 0 {
		t.Errorf("exit code %d, told %q", code, &out)
	}
	failed := fmt.Errorf("write: %w", errors.Join(errors.New("broken pipe"), errChanges))
	printError(&out, failed, func(s string) string { return s })
	if code := exitCode(t.Context(), failed); code != 1 || !strings.Contains(out.String(), "broken pipe") {
		t.Errorf("exit code %d, told %q", code, &out)
	}
}
