package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/e2e/lab"
)

// Only the first control plane applies; a node is drained when its control plane has been upgraded, and before its kubelet
// is; and kubectl is the administrator's, on the first host.
func TestKubeadmUpgrade(t *testing.T) {
	hosts := []lab.Host{
		{Name: "h1", Role: lab.RoleControlPlane}, {Name: "h2", Role: lab.RoleControlPlane}, {Name: "h3", Role: lab.RoleWorker},
	}
	const (
		preflight = " --ignore-preflight-errors NumCPU,Mem,Swap,SystemVerification,FileContent--proc-sys-net-bridge-bridge-nf-call-iptables"
		kubeadm   = "install -m 0755 -t /usr/local/bin /root/v1.37.2/kubeadm && kubeadm upgrade "
		kubelet   = "install -m 0755 -t /usr/local/bin /root/v1.37.2/kubelet"
		restart   = " && systemctl daemon-reload && systemctl restart kubelet"
		admin     = "kubectl --kubeconfig /etc/kubernetes/admin.conf "
		drain     = " --ignore-daemonsets --delete-emptydir-data"
	)
	want := []string{
		"h1 on h1: " + kubeadm + "apply v1.37.2 --yes" + preflight,
		"h1 on h1: " + admin + "drain h1" + drain,
		"h1 on h1: " + kubelet + " /root/v1.37.2/kubectl" + restart,
		"h1 on h1: " + admin + "uncordon h1",
		"h2 on h2: " + kubeadm + "node" + preflight,
		"h2 on h1: " + admin + "drain h2" + drain,
		"h2 on h2: " + kubelet + " /root/v1.37.2/kubectl" + restart,
		"h2 on h1: " + admin + "uncordon h2",
		"h3 on h3: " + kubeadm + "node" + preflight,
		"h3 on h1: " + admin + "drain h3" + drain,
		"h3 on h3: " + kubelet + restart,
		"h3 on h1: " + admin + "uncordon h3",
	}
	var got []string
	for _, c := range kubeadmUpgrade("v1.37.2", hosts) {
		got = append(got, c.node+" on "+c.on+": "+strings.Join(c.argv, " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCargo(t *testing.T) {
	r := release{version: "v1.37.2", bundle: "/bundle", kubeadm: "/build/kubeadm"}
	want := []string{
		"/build/kubeadm: mkdir -p /root/v1.37.2 && cat >/root/v1.37.2/kubeadm && chmod 0755 /root/v1.37.2/kubeadm",
		"kubelet: mkdir -p /root/v1.37.2 && cat >/root/v1.37.2/kubelet && chmod 0755 /root/v1.37.2/kubelet",
		"kube-proxy: ctr --namespace k8s.io images import -",
	}
	var got []string
	for _, c := range r.cargoOf([]bundle.Artifact{
		{Name: "kubelet", Kind: bundle.KindBinary, Target: "/usr/local/bin/kubelet"},
		{Name: "kube-proxy", Kind: bundle.KindImage, Image: "registry.k8s.io/kube-proxy:v1.37.2"},
	}) {
		got = append(got, c.file+c.artifact.Name+": "+strings.Join(c.command, " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoneOf(t *testing.T) {
	for _, tt := range []struct {
		images string
		want   string // in the error; empty: there is none
	}{
		{"registry.k8s.io/kube-proxy:v1.37.2 registry.k8s.io/etcd:3.7.0-0", ""},
		{"registry.k8s.io/kube-proxy:v1.37.2 registry.k8s.io/kube-scheduler:v1.36.3", "kube-scheduler:v1.36.3"},
		{"", "no pods"},
	} {
		err := noneOf("v1.36.3", strings.Fields(tt.images))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: %v, want %q", tt.images, err, tt.want)
		}
	}
}
