package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// fullSpec sets all that kubeadm's ClusterConfiguration can hold.
const fullSpec = head + `
metadata: {name: prod}
spec:
  kubernetesVersion: v1.36.3
  controlPlaneEndpoint: "[fd00::5]:443"
  imageRepository: mirror.example.org/k8s
  networking: {podSubnet: "fd00:10:244::/56,10.244.0.0/16", serviceSubnet: "fd00:10:96::/112,10.96.0.0/16", dnsDomain: example.org}
  certificates: {keyAlgorithm: ECDSA-P384, caValidity: 1000h, validity: 100h30m, apiServerSANs: [api.example.org, 192.0.2.1]}
  etcd:
    dataDir: /data/etcd
    extraArgs: [{name: quota-backend-bytes, value: "1"}]
    extraEnvs: [{name: GOMAXPROCS, value: "2"}]
  apiServer:
    extraArgs: [{name: v, value: "2"}, {name: v, value: "3"}]
    extraVolumes: [{name: audit, hostPath: /a, mountPath: /b, readOnly: true, pathType: DirectoryOrCreate}]
    extraEnvs: [{name: A, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}]
  controllerManager: {extraArgs: [{name: terminated-pod-gc-threshold, value: "5"}]}
  scheduler: {extraEnvs: [{name: B, value: ""}]}
`

// What kubeadm v1.37.2 wrote for a cluster of its own with the same settings.
func TestToKubeadmWritesWhatKubeadmWould(t *testing.T) {
	c := &Cluster{Spec: Spec{
		ControlPlaneEndpoint: "192.0.2.11:6443", KubernetesVersion: "v1.37.2",
		Certificates: Certificates{KeyAlgorithm: KeyRSA2048},
	}}
	SetDefaults(c)
	got, err := ToKubeadm(c)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "kubeadm-v1.37.2.yaml", got)
}

func TestKubeadmRoundTrip(t *testing.T) {
	c := mustParse(t, fullSpec)
	if err := Validate(c); err != nil {
		t.Fatal(err)
	}
	SetDefaults(c)
	data, err := ToKubeadm(c)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "kubeadm-full.yaml", data)
	back := &Cluster{}
	if err := FromKubeadm(data, back); err != nil {
		t.Fatal(err)
	}
	SetDefaults(back)
	if diff := cmp.Diff(c, back, sameCluster); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

// What the load balancer and an etcd elsewhere mean to kubeadm is in its configuration once, however often that is read
// and written, and also where the load balancer is not known any more.
func TestKubeadmKnowsWhatItHasNoFieldsFor(t *testing.T) {
	c := mustParse(t, head+`
spec:
  hosts: [{address: 192.0.2.11, roles: [control-plane]}, {address: 192.0.2.12, roles: [control-plane]}]
  apiServer: {extraArgs: [{name: v, value: "2"}]}
  etcd: {external: {endpoints: ["https://etcd-1:2379", "https://etcd-2:2379"], caFile: my/ca.crt, certFile: my/etcd.crt, keyFile: my/etcd.key}}
`)
	if err := Validate(c); err != nil {
		t.Fatal(err)
	}
	SetDefaults(c)
	want, err := ToKubeadm(c)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "kubeadm-node-local.yaml", want)
	for name, known := range map[string]LoadBalancer{"known": c.Spec.LoadBalancer, "unknown": {}} {
		back := &Cluster{Spec: Spec{LoadBalancer: known, Etcd: Etcd{External: &ExternalEtcd{CAFile: "mine"}}}}
		shared := back.Spec.Etcd.External
		if err := FromKubeadm(want, back); err != nil {
			t.Fatal(err)
		}
		SetDefaults(back)
		got, err := ToKubeadm(back)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("with the load balancer %s, written again (-want +got):\n%s", name, diff)
		}
		if e := back.Spec.Etcd.External; e.CAFile != "mine" || shared.Endpoints != nil {
			t.Errorf("the operator's files are %+v, and the document's own %+v", e, shared)
		}
	}
}

func TestFromKubeadmKeepsWhatItDoesNotSay(t *testing.T) {
	c := &Cluster{Spec: Spec{KubernetesVersion: "v1.37.2", Hosts: []Host{{Name: "w-1"}}, Certificates: Certificates{KeyAlgorithm: KeyRSA4096}}}
	err := FromKubeadm([]byte("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnew: {x: 1}\ndns: {disabled: true}\n"+
		"etcd: {external: {endpoints: [a]}}\nkubernetesVersion: v1.36.3\nnetworking: {podSubnet: 10.1.0.0/16, other: 1}\n"), c)
	if err != nil {
		t.Fatal(err)
	}
	want := &Cluster{Spec: Spec{
		KubernetesVersion: "v1.36.3", Hosts: []Host{{Name: "w-1"}}, Certificates: Certificates{KeyAlgorithm: KeyRSA4096},
		Networking: Networking{PodSubnet: "10.1.0.0/16"},
		Etcd:       Etcd{External: &ExternalEtcd{Endpoints: []string{"a"}}},
	}}
	if diff := cmp.Diff(want, c, sameCluster); diff != "" {
		t.Errorf("cluster (-want +got):\n%s", diff)
	}
}

func TestFromKubeadmRefuses(t *testing.T) {
	for given, want := range map[string]string{
		"": "not kubeadm's ClusterConfiguration; hint: it is in the ConfigMap kube-system/kubeadm-config",
		"apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration":                                        "not kubeadm's ClusterConfiguration; hint: it is in the ConfigMap kube-system/kubeadm-config",
		"apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\napiServer: {extraArgs: {v: \"2\"}}": "kubeadm's ClusterConfiguration is of version kubeadm.k8s.io/v1beta3; hint: upgrade the cluster with kubeadm until it writes kubeadm.k8s.io/v1beta4",
		"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking: [1]":                    "read kubeadm's ClusterConfiguration: ",
		"[": "read kubeadm's ClusterConfiguration: ",
	} {
		c := &Cluster{}
		if err := FromKubeadm([]byte(given), c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("FromKubeadm(%q): %v, want %s", given, err, want)
		}
		if diff := cmp.Diff(&Cluster{}, c, sameCluster); diff != "" {
			t.Errorf("an error changed the cluster:\n%s", diff)
		}
	}
}

func FuzzFromKubeadm(f *testing.F) {
	for _, name := range []string{"kubeadm-v1.37.2.yaml", "kubeadm-full.yaml", "kubeadm-node-local.yaml"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\netcd: {local: {}}\ncertificateValidityPeriod: 1h\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &Cluster{}
		if FromKubeadm(data, c) != nil {
			return
		}
		SetDefaults(c)
		_ = Validate(c) // must not panic, whatever it says
		again, err := ToKubeadm(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := FromKubeadm(again, &Cluster{}); err != nil {
			t.Fatalf("what ToKubeadm wrote is refused: %v\n%s", err, again)
		}
	})
}
