package manifests_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

func cgroupfs(s *config.Spec) {
	s.Kubelet = map[string]any{"cgroupDriver": "cgroupfs", "failCgroupV1": false, "failSwapOn": false}
}

func TestKubeletConfigEqualsKubeadms(t *testing.T) {
	shared := must[[]byte](t)(manifests.KubeletConfig(kubeadmCluster(t, cgroupfs)))
	f := must[host.File](t)(manifests.KubeletConfigFile(shared, kubeadmNode(), "/run/containerd/containerd.sock"))
	want := reference(t, "kubelet-config.yaml")[0]
	if diff := cmp.Diff(set(want, true), set(decode(t, f.Data), true)); diff != "" {
		t.Errorf("differs from kubeadm's (-kubeadm +myadm):\n%s", diff)
	}
	if f.Path != "/var/lib/kubelet/config.yaml" || f.Mode != 0o644 {
		t.Errorf("got %s %o", f.Path, f.Mode)
	}
}

func TestKubeletConfigMerge(t *testing.T) {
	user := map[string]any{
		"clusterDNS":             []any{},
		"enforceNodeAllocatable": []any{},
		"healthzPort":            int64(0),
		"rotateCertificates":     false,
		"resolvConf":             "",
		"maxPods":                int64(250),
		"authentication":         map[string]any{"anonymous": map[string]any{"enabled": true}, "x509": nil},
		"memorySwap":             map[string]any{},
	}
	p := kubeadmCluster(t, func(s *config.Spec) { s.Kubelet = user })
	shared := must[[]byte](t)(manifests.KubeletConfig(p))
	n := kubeadmNode()
	n.ResolvConf = manifests.ResolvedConf
	golden(t, "kubelet-config.yaml", must[host.File](t)(manifests.KubeletConfigFile(shared, n, "/run/crio/crio.sock")))
	if len(user) != 8 || len(user["authentication"].(map[string]any)) != 2 {
		t.Errorf("the user's own map was changed: %v", user)
	}
}

func TestResolvConfIsTheNodesUnlessTheUserSetsIt(t *testing.T) {
	tests := []struct{ shared, node, want string }{
		{"kind: KubeletConfiguration", "", ""},
		{"kind: KubeletConfiguration", manifests.ResolvedConf, manifests.ResolvedConf},
		{"resolvConf: /etc/pods.conf", manifests.ResolvedConf, "/etc/pods.conf"},
	}
	for _, test := range tests {
		n := kubeadmNode()
		n.ResolvConf = test.node
		f := must[host.File](t)(manifests.KubeletConfigFile([]byte(test.shared), n, "/run/containerd/containerd.sock"))
		if got, _ := decode(t, f.Data)["resolvConf"].(string); got != test.want {
			t.Errorf("%q on a node with %q: got %q, want %q", test.shared, test.node, got, test.want)
		}
	}
}

func TestKubeletConfigFileRefusesWhatIsNoMapping(t *testing.T) {
	for _, shared := range []string{"- a", "{", "a: b: c"} {
		_, err := manifests.KubeletConfigFile([]byte(shared), kubeadmNode(), "/run/containerd/containerd.sock")
		if err == nil || !strings.Contains(err.Error(), "kubelet configuration") {
			t.Errorf("%q: got error %v, want one that names the kubelet configuration", shared, err)
		}
	}
}

func TestFilesEqualKubeadms(t *testing.T) {
	for _, test := range []struct {
		name string
		got  host.File
		path string
	}{
		{"instance-config.yaml", manifests.InstanceConfig("/run/containerd/containerd.sock"), "/var/lib/kubelet/instance-config.yaml"},
		{"kubeadm-flags.env", must[host.File](t)(manifests.KubeletFlagsEnv(nil)), "/var/lib/kubelet/kubeadm-flags.env"},
	} {
		want, err := os.ReadFile("testdata/kubeadm/" + test.name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(test.got.Data)); diff != "" {
			t.Errorf("%s (-kubeadm +myadm):\n%s", test.name, diff)
		}
		if test.got.Path != test.path || test.got.Mode != 0o644 {
			t.Errorf("got %s %o, want %s 644", test.got.Path, test.got.Mode, test.path)
		}
	}
}

func TestHostFilesGolden(t *testing.T) {
	p := kubeadmCluster(t)
	binaries := []string{"/usr/local/bin/kubelet", "/usr/local/bin/kubectl"}
	golden(t, "kubelet.service", manifests.KubeletUnit(p, binaries))
	golden(t, "10-kubeadm.conf", manifests.KubeletDropIn())
	golden(t, "containerd.service", manifests.ContainerdUnit([]string{"/usr/local/bin/containerd", "/usr/local/bin/runc"}))
	golden(t, "containerd.toml", manifests.ContainerdConfig(p))
	mirrored := kubeadmCluster(t, func(s *config.Spec) { s.Registries = []config.Registry{{Name: "registry.k8s.io", CAFile: "ca.crt"}} })
	golden(t, "registries/containerd.toml", manifests.ContainerdConfig(mirrored))
	golden(t, "modules.conf", manifests.ModulesFile(p))
	golden(t, "sysctl.conf", manifests.SysctlFile(p))

	existing := kubeadmCluster(t, cgroupfs, func(s *config.Spec) {
		s.Runtime = config.Runtime{Type: config.RuntimeExisting, Socket: "/run/crio/crio.sock"}
		s.Networking = config.Networking{Plugin: config.PluginNone, PodSubnet: "10.244.0.0/16,fd00::/56"}
	})
	golden(t, "existing/kubelet.service", manifests.KubeletUnit(existing, nil))
	golden(t, "existing/containerd.toml", manifests.ContainerdConfig(existing))
	golden(t, "existing/modules.conf", manifests.ModulesFile(existing))
	golden(t, "existing/sysctl.conf", manifests.SysctlFile(existing))
}
