//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/build"
)

// kubeletUnit and kubeletDropIn are those of upstream's packages.
// Source: https://github.com/kubernetes/release/tree/master/cmd/krel/templates/latest
const (
	kubeletUnit = `[Unit]
Description=kubelet: The Kubernetes Node Agent
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
`
	kubeletDropIn = `[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
`
)

// asPackaged makes of what myadm has prepared what a distribution's packages would have: the kubelet and its units where
// they put them, and a runtime that nobody says is myadm's.
const asPackaged = `
mv /usr/local/bin/kubelet /usr/bin/kubelet
rm -rf /etc/systemd/system/kubelet.service /etc/systemd/system/kubelet.service.d
mkdir -p /usr/lib/systemd/system
mv /root/units/kubelet.service /root/units/kubelet.service.d /usr/lib/systemd/system/
rm -d /root/units
sed -i '/^\[X-Myadm\]$/,/^$/d' /etc/systemd/system/containerd.service
if grep -i x-myadm /etc/systemd/system/containerd.service; then exit 1; fi
systemctl daemon-reload
systemctl enable kubelet.service
`

// TestUpgradeOfKubeadm upgrades a cluster that the real kubeadm has made, and of which myadm knows the hosts' addresses. Then
// it has a document.
func TestUpgradeOfKubeadm(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 2, KubernetesVersion: older})
	s.kubeadmCluster(t)
	s.wantReady(t, "h1", "h2")
	s.waitAvailable(t)
	s.wantVersion(t, older, "h1", "h2")
	before := s.identities(t)

	hosts := slices.Concat(s.reach(t, "h1", "root"), s.reach(t, "h2", "root")[:2])
	args := append([]string{"--bundle", made.bundle}, hosts...)
	plan := s.myadm(t, nil, append([]string{"upgrade", "plan", newest, "--exit-code"}, args...)...).want(t, 4)
	if !strings.Contains(plan.stdout, "/usr/bin/kubelet") {
		t.Errorf("the plan does not tell where the kubelet is: %s", plan)
	}
	s.myadm(t, nil, append([]string{"upgrade", "apply", newest, "-v"}, args...)...).want(t, 0)

	s.wantVersion(t, newest, "h1", "h2")
	s.wantIdentities(t, before)
	s.wantCordoned(t)
	s.wantTidy(t, "h1", "h2")
	s.wantWorkload(t, "h2", "h2")
	for _, h := range []string{"h1", "h2"} {
		if got := s.output(t, h, "/usr/bin/kubelet", "--version"); got != "Kubernetes "+newest+"\n" {
			t.Errorf("%s has the kubelet %s", h, got)
		}
		if left := s.shell(t, h, "ls /usr/local/bin/kubelet /etc/systemd/system/kubelet.service /etc/kubernetes/manifests/haproxy.yaml 2>/dev/null || true"); left != "" {
			t.Errorf("%s has got %s", h, left)
		}
	}
	s.myadm(t, nil, append([]string{"upgrade", "plan", newest, "--exit-code"}, args...)...).want(t, 0)
	if r := s.myadm(t, nil, append([]string{"upgrade", "apply", newest, "-o", "json"}, args...)...).want(t, 0); decode[upgraded](t, r).Changes != 0 {
		t.Errorf("there is something to do: %s", r)
	}
	s.testDocumentOfKubeadm(t)
	// kubeadm still takes the cluster for one of its own.
	kubeadm, err := build.Kubeadm(t.Context(), artifacts())
	must(t, err)
	must(t, s.Copy(t.Context(), "h1", kubeadm, "/usr/bin/kubeadm"))
	if said := s.output(t, "h1", "kubeadm", "token", "create", "--ttl", "1m", "--print-join-command"); !strings.HasPrefix(said, "kubeadm join ") {
		t.Errorf("kubeadm says %s", said)
	}
}

// testDocumentOfKubeadm makes the document of a cluster that kubeadm has made as docs/document.md says, and applies it.
func (s *site) testDocumentOfKubeadm(t *testing.T) {
	t.Helper()
	before, web := s.identities(t), s.webPod(t)
	var of []string
	for _, c := range []struct{ name, data string }{
		{"kubeadm-config", "ClusterConfiguration"}, {"kubelet-config", "kubelet"}, {"kube-proxy", `config\.conf`},
	} {
		of = append(of, "---\n"+s.kubectl(t, "-n", "kube-system", "get", "configmap", c.name, "-o", "jsonpath={.data."+c.data+"}")+"\n")
	}
	file := filepath.Join(t.TempDir(), "kubeadm.yaml")
	must(t, os.WriteFile(file, []byte(strings.Join(of, "")), 0o600))
	h1, h2 := s.reach(t, "h1", "root"), s.reach(t, "h2", "root")
	document := s.myadm(t, nil, "config", "from-kubeadm", "-f", file, "--strict", "--host", h1[1], "--host", h2[1]).want(t, 0)
	s.document = filepath.Join(s.home, "of-kubeadm.yaml")
	must(t, os.WriteFile(s.document, []byte(document.stdout), 0o600))
	s.bundle = made.bundle

	s.apply(t, append([]string{"-v"}, h1[2:]...)...)
	s.wantPlan(t, nil, h1[2:]...)
	s.wantReady(t, "h1", "h2")
	s.wantVersion(t, newest, "h1", "h2")
	s.wantIdentities(t, before)
	if got := s.webPod(t); got != web {
		t.Errorf("the pod was %s, is %s", web, got)
	}
	if got := s.kubectl(t, "exec", "deployment/web", "--", "/usr/local/bin/e2e", "get", "http://web.default.svc.cluster.local/"); !strings.HasPrefix(web, strings.TrimSpace(got)+" ") {
		t.Errorf("the Service is answered by %q", got)
	}
}

// webPod is the pod of wantWorkload's server: its name, UID and how often it was restarted.
func (s *site) webPod(t *testing.T) string {
	t.Helper()
	return s.kubectl(t, "get", "pods", "-l", "app=web", "-o", "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[*].restartCount}{end}")
}

// kubeadmCluster makes a cluster of h1 and the worker h2 with kubeadm. What kubeadm expects on a host, the runtime, the
// kubelet and the images, is brought by phases of myadm and made to look like packages; the pod network is flannel.
func (s *site) kubeadmCluster(t *testing.T) {
	t.Helper()
	kubeadm, err := build.Kubeadm(t.Context(), artifactsOf(older))
	must(t, err)
	s.myadm(t, nil, "apply", "-f", s.document, "--bundle", s.bundle, "--only", "kernel,runtime,binaries,images").want(t, 0)
	units := filepath.Join(t.TempDir(), "units")
	must(t, os.MkdirAll(filepath.Join(units, "kubelet.service.d"), 0o755))
	must(t, os.WriteFile(filepath.Join(units, "kubelet.service"), []byte(kubeletUnit), 0o644))
	must(t, os.WriteFile(filepath.Join(units, "kubelet.service.d", "10-kubeadm.conf"), []byte(kubeletDropIn), 0o644))
	for _, h := range s.Hosts {
		must(t, s.Copy(t.Context(), h.Name, units, "/root/units"))
		must(t, s.Copy(t.Context(), h.Name, kubeadm, "/usr/bin/kubeadm"))
		s.shell(t, h.Name, asPackaged)
	}
	config := filepath.Join(t.TempDir(), "kubeadm.yaml")
	must(t, os.WriteFile(config, s.kubeadmConfig(t), 0o644))
	must(t, s.Copy(t.Context(), "h1", config, "/root/kubeadm.yaml"))
	s.output(t, "h1", "kubeadm", "init", "--config", "/root/kubeadm.yaml", "--ignore-preflight-errors", "all")
	join := strings.Fields(s.output(t, "h1", "kubeadm", "token", "create", "--print-join-command"))
	s.output(t, "h2", append(join, "--ignore-preflight-errors", "all")...)
	must(t, os.WriteFile(s.kubeconfig, []byte(s.output(t, "h1", "cat", "/etc/kubernetes/admin.conf")), 0o600))
	s.myadm(t, nil, "init", "phase", "network", "-f", s.document, "--bundle", s.bundle).want(t, 0)
	for _, h := range s.Hosts {
		s.output(t, h.Name, "rm", "/usr/bin/kubeadm")
	}
}

// kubeadmConfig is kubeadm's configuration for h1, with the lab's settings for kubelets and kube-proxies.
func (s *site) kubeadmConfig(t *testing.T) []byte {
	t.Helper()
	var document struct {
		Spec struct {
			Kubelet   map[string]any `json:"kubelet"`
			KubeProxy map[string]any `json:"kubeProxy"`
		} `json:"spec"`
	}
	must(t, yaml.Unmarshal(read(t, s.document), &document))
	h, err := s.Host("h1")
	must(t, err)
	out := fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: %s}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: %s
networking: {podSubnet: 10.244.0.0/16}
`, h.Address, older)
	for _, part := range []struct {
		head   string
		fields map[string]any
	}{
		{"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n", document.Spec.Kubelet},
		{"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n", document.Spec.KubeProxy},
	} {
		text, err := yaml.Marshal(part.fields)
		must(t, err)
		out += "---\n" + part.head + string(text)
	}
	return []byte(out)
}
