package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const document = `
apiVersion: myadm.dev/v1alpha1
kind: Cluster
spec:
  kubernetesVersion: v1.37.2
  kubelet: {failSwapOn: false}
  kubeProxy:
    conntrack: {maxPerCore: 0}
`

// What is the lab's in the Cluster document is kubeadm's as well.
func TestRenderKubeadm(t *testing.T) {
	for _, algorithm := range []string{"", "ECDSA-P256"} {
		out, err := renderKubeadm([]byte(document), kubeadmOptions{address: "10.89.0.11", algorithm: algorithm})
		if err != nil {
			t.Fatal(err)
		}
		cluster := map[string]any{
			"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "kubernetesVersion": "v1.37.2",
			"networking": map[string]any{"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16"},
		}
		if algorithm != "" {
			cluster["encryptionAlgorithm"] = algorithm
		}
		want := []map[string]any{
			{
				"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "InitConfiguration",
				"localAPIEndpoint": map[string]any{"advertiseAddress": "10.89.0.11"},
			},
			cluster,
			{"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "failSwapOn": false},
			{
				"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
				"conntrack": map[string]any{"maxPerCore": float64(0)},
			},
		}
		var got []map[string]any
		for part := range bytes.SplitSeq(bytes.TrimPrefix(out, []byte("---\n")), []byte("---\n")) {
			var doc map[string]any
			if err := yaml.Unmarshal(part, &doc); err != nil {
				t.Fatal(err)
			}
			got = append(got, doc)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", algorithm, diff)
		}
	}
}

// A cluster that grows needs an endpoint, and a key for what control planes share.
func TestRenderKubeadmForControlPlanes(t *testing.T) {
	out, err := renderKubeadm([]byte(document), kubeadmOptions{address: "10.89.0.11", endpoint: "10.89.0.11:6443", certificateKey: "00ff"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\ncontrolPlaneEndpoint: 10.89.0.11:6443\n", "\ncertificateKey: 00ff\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("there is no %q in:\n%s", want, out)
		}
	}
}

func TestRenderKubeadmNeedsADocument(t *testing.T) {
	if _, err := renderKubeadm([]byte("spec: ["), kubeadmOptions{address: "10.89.0.11"}); err == nil || !strings.Contains(err.Error(), "Cluster document") {
		t.Errorf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	var said bytes.Buffer
	o, err := parse([]string{"-rounds", "5", "-o", "json"}, &said)
	if err != nil || o.rounds != 5 || o.output != "json" || o.keep {
		t.Errorf("%+v, %v", o, err)
	}
	if !o.wants(partBare) || !o.wants(partCluster) {
		t.Errorf("%+v leaves something out", o)
	}
	if o, err := parse([]string{"-only", "cluster"}, &said); err != nil || !o.wants(partCluster) || o.wants(partBare) || o.wants(partSingle) {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse([]string{"-only", "upgrade"}, &said); err != nil || !o.wants(partUpgrade) || o.wants(partCluster) || o.upgradeRounds != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, wrong := range [][]string{{"-rounds", "0"}, {"-upgrade-rounds", "0"}, {"-only", "half"}, {"-o", "xml"}, {"more"}, {"-nothing"}} {
		said.Reset()
		if _, err := parse(wrong, &said); err == nil || said.Len() == 0 {
			t.Errorf("%q: %v, said %q", wrong, err, said.String())
		}
	}
}
