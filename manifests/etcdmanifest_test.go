package manifests_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

func TestEtcdInitialClusterOfOurs(t *testing.T) {
	n := kubeadmNode()
	first := must[host.File](t)(manifests.Etcd(kubeadmCluster(t), n))
	n.InitialCluster = []manifests.Member{{Name: "cp-1", PeerURL: "https://10.0.0.1:2380"}, {Name: "h1", PeerURL: "https://10.89.0.11:2380"}}
	joined := must[host.File](t)(manifests.Etcd(kubeadmCluster(t), n))
	kubeadms, err := os.ReadFile(filepath.Join("testdata", "kubeadm", "etcd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	alone := []manifests.Member{{Name: "h1", PeerURL: "https://10.89.0.11:2380"}}
	for name, tt := range map[string]struct {
		manifest []byte
		want     []manifests.Member
		existing bool
	}{
		"the first member": {first.Data, alone, false},
		"kubeadm's":        {kubeadms, alone, false},
		"one that joined":  {joined.Data, n.InitialCluster, true},
	} {
		got, existing := manifests.EtcdInitialCluster(tt.manifest)
		if diff := cmp.Diff(tt.want, got); diff != "" || existing != tt.existing {
			t.Errorf("%s: existing %t, want %t; members (-want +got):\n%s", name, existing, tt.existing, diff)
		}
	}
}

func TestEtcdInitialClusterOfOthers(t *testing.T) {
	one := []manifests.Member{{Name: "a", PeerURL: "https://a:2380"}}
	tests := []struct {
		name, containers string
		want             []manifests.Member
		existing         bool
	}{
		{"arguments", `[{name: etcd, args: [etcd, --initial-cluster-state=existing, "--initial-cluster=a=https://a:2380"]}]`, one, true},
		{"values apart", `[{name: etcd, command: [etcd, -initial-cluster-state, existing, --initial-cluster, "a=https://a:2380"]}]`, one, true},
		{"the last one wins", `[{name: etcd, command: [etcd, "--initial-cluster=b=https://b:2380", --initial-cluster-state=existing], args: ["--initial-cluster=a=https://a:2380", --initial-cluster-state=new]}]`, one, false},
		{"two URLs", `[{name: etcd, command: ["--initial-cluster=a=https://a:2380,a=https://a:2480"]}]`, append(one, manifests.Member{Name: "a", PeerURL: "https://a:2480"}), false},
		{"what is no pair", `[{name: etcd, command: ["--initial-cluster=,=x,b=,c,a=https://a:2380"]}]`, one, false},
		{"another container", `[{name: backup, command: ["--initial-cluster=b=https://b:2380"]}, {name: etcd, command: [etcd]}]`, nil, false},
		{"a state alone", `[{name: etcd, command: [etcd, --initial-cluster-state=existing, --initial-cluster]}]`, nil, false},
		{"no containers", `[]`, nil, false},
		{"no list", `{}`, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, existing := manifests.EtcdInitialCluster([]byte("kind: Pod\nspec: {containers: " + tt.containers + "}\n"))
			if diff := cmp.Diff(tt.want, got); diff != "" || existing != tt.existing {
				t.Errorf("existing %t, want %t; members (-want +got):\n%s", existing, tt.existing, diff)
			}
		})
	}
	if got, existing := manifests.EtcdInitialCluster([]byte("\x00{")); got != nil || existing {
		t.Errorf("of no YAML: %v, %t", got, existing)
	}
}

func FuzzEtcdInitialCluster(f *testing.F) {
	for _, path := range []string{"kubeadm/etcd.yaml", "golden/etcd.yaml"} {
		data, err := os.ReadFile(filepath.Join("testdata", path))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`spec: {containers: [{name: etcd, args: [--initial-cluster, "a=b,=,c=", -, --]}]}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		members, existing := manifests.EtcdInitialCluster(manifest)
		if existing && members == nil {
			t.Error("a cluster that exists, and has no members")
		}
		for _, m := range members {
			if m.Name == "" || m.PeerURL == "" || strings.ContainsAny(m.Name, "=,") || strings.Contains(m.PeerURL, ",") {
				t.Errorf("%+v is no member", m)
			}
		}
	})
}
