package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestJoinCommand(t *testing.T) {
	said := `
You can now join any number of control-plane nodes running the following command on each as root:

  kubeadm join 10.89.0.11:6443 --token abcdef.0123456789abcdef \
	--discovery-token-ca-cert-hash sha256:0123 \
	--control-plane --certificate-key 00ff

Then you can join any number of worker nodes by running the following on each as root:

kubeadm join 10.89.0.11:6443 --token abcdef.0123456789abcdef \
	--discovery-token-ca-cert-hash sha256:0123`
	var lines []line
	for text := range strings.SplitSeq(said, "\n") {
		lines = append(lines, line{text: text})
	}
	got, err := joinCommand(lines, "10.89.0.11:6443")
	want := strings.Fields("kubeadm join 10.89.0.11:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:0123")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := joinCommand(lines[:4], "10.89.0.11:6443"); err == nil || !strings.Contains(err.Error(), "--discovery-token-ca-cert-hash") {
		t.Errorf("without a hash: %v", err)
	}
}

// Of a living object stays what its author wrote, and the API server is the other cluster's.
func TestAsManifests(t *testing.T) {
	const list = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: kube-flannel, uid: x, resourceVersion: "1", labels: {a: b}}
  status: {phase: Active}
- apiVersion: apps/v1
  kind: DaemonSet
  metadata: {name: ds, namespace: kube-flannel, generation: 1}
  spec: {template: {spec: {containers: [{name: c, env: [{name: KUBERNETES_SERVICE_HOST, value: 127.0.0.1}, {name: KUBERNETES_SERVICE_PORT, value: "6444"}, {name: OTHER, value: z}]}]}}}
`
	const want = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: kube-flannel, namespace: null, labels: {a: b}}
- apiVersion: apps/v1
  kind: DaemonSet
  metadata: {name: ds, namespace: kube-flannel, labels: null}
  spec: {template: {spec: {containers: [{name: c, env: [{name: KUBERNETES_SERVICE_HOST, value: 10.89.0.11}, {name: KUBERNETES_SERVICE_PORT, value: "6443"}, {name: OTHER, value: z}]}]}}}
`
	data, err := yaml.YAMLToJSON([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := asManifests(data, "10.89.0.11", "6443")
	if err != nil {
		t.Fatal(err)
	}
	var gotObjects, wantObjects map[string]any
	if err := yaml.Unmarshal(manifests, &gotObjects); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(want), &wantObjects); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantObjects, gotObjects); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := asManifests([]byte("["), "", ""); err == nil || !strings.Contains(err.Error(), "flannel") {
		t.Errorf("no list gave %v", err)
	}
}
