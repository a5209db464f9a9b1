package phases

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

func one(n *cluster.Node) []*cluster.Node { return []*cluster.Node{n} }

// created are the changes that make files.
func created(paths ...string) []string {
	var all []string
	for _, p := range paths {
		all = append(all, "create "+p)
	}
	return all
}

// hostPhases are the phases of init that act on a host.
var hostPhases = []hostPhase{
	{
		name:  "kernel",
		phase: func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Kernel(c, one(n)) },
		blank: append(created(manifests.ModulesPath, manifests.SysctlPath),
			"run module overlay", "run module br_netfilter", "run module vxlan", "update sysctl net.ipv4.ip_forward",
			"update sysctl net.bridge.bridge-nf-call-iptables", "update sysctl net.bridge.bridge-nf-call-ip6tables"),
		damages: []damage{
			{"a file is gone", func(m *machine) { m.Delete(manifests.SysctlPath) }, created(manifests.SysctlPath)},
			{"a file was edited", func(m *machine) { m.touch(manifests.ModulesPath, 0o644, "overlay\n") }, []string{"update " + manifests.ModulesPath}},
			{"a file's mode", func(m *machine) { m.chmod(manifests.SysctlPath, 0o666) }, []string{"update " + manifests.SysctlPath}},
			{"a module was unloaded", func(m *machine) { delete(m.kernel.modules, "vxlan") }, []string{"run module vxlan"}},
			{"a setting was changed", func(m *machine) { m.kernel.settings["net.ipv4.ip_forward"] = "0" }, []string{"update sysctl net.ipv4.ip_forward"}},
		},
	},
	{
		name:    "registries",
		prepare: described,
		phase:   func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Registries(c, one(n)) },
		blank:   created(hubHosts, mirrorCA, mirrorHosts),
		damages: []damage{
			{"an authority is gone", func(m *machine) { m.Delete(mirrorCA) }, created(mirrorCA)},
			{"a mirror was changed", func(m *machine) { m.touch(mirrorHosts, 0o644, "server = \"https://evil\"\n") }, []string{"update " + mirrorHosts}},
			{"credentials can be read by all", func(m *machine) { m.chmod(hubHosts, 0o644) }, []string{"update " + hubHosts}},
			{"another registry of ours is left", func(m *machine) {
				m.touch(manifests.RegistriesDir+"/quay.io/hosts.toml", 0o600, manifests.MarkComment+"x\n")
			}, []string{"delete " + manifests.RegistriesDir + "/quay.io/hosts.toml"}},
		},
	},
	{
		name:    "proxy",
		prepare: described,
		phase:   func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Proxy(c, one(n)) },
		blank:   created(config.ProxyEnv, manifests.KubeletProxyPath, manifests.ContainerdProxyPath),
		damages: []damage{
			{"the environment can be read by all", func(m *machine) { m.chmod(config.ProxyEnv, 0o644) }, []string{"update " + config.ProxyEnv}},
			{"the environment was changed", func(m *machine) { m.touch(config.ProxyEnv, 0o600, "HTTPS_PROXY=http://evil\n") }, []string{"update " + config.ProxyEnv}},
			{"a drop-in is gone", func(m *machine) { m.Delete(manifests.KubeletProxyPath) }, created(manifests.KubeletProxyPath)},
		},
	},
	{
		name:  "runtime",
		phase: func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Runtime(c, one(n)) },
		blank: append(created("/usr/local/bin/containerd", "/usr/local/bin/runc", manifests.ContainerdConfigPath,
			manifests.ContainerdUnitPath), "run unit containerd.service"),
		damages: []damage{
			{"a binary was replaced", func(m *machine) { m.touch("/usr/local/bin/runc", 0o755, "evil") },
				[]string{"update /usr/local/bin/runc", "run unit containerd.service"}},
			{"a binary's mode", func(m *machine) { m.chmod("/usr/local/bin/runc", 0o644) }, []string{"update /usr/local/bin/runc"}},
			{"the configuration was edited", func(m *machine) { m.touch(manifests.ContainerdConfigPath, 0o644, "version = 3\n") },
				[]string{"update " + manifests.ContainerdConfigPath, "run unit containerd.service"}},
			{"the unit was edited", func(m *machine) { m.touch(manifests.ContainerdUnitPath, 0o644, "[Service]\nExecStart=/bin/false\n") },
				[]string{"update " + manifests.ContainerdUnitPath, "run unit containerd.service"}},
			{"the unit was stopped", systemctl("stop", "containerd"), []string{"run unit containerd.service"}},
			{"the unit was disabled", systemctl("disable", "containerd"), []string{"run unit containerd.service"}},
			{"the unit crashed", func(m *machine) { m.units.Crash("containerd") }, []string{"run unit containerd.service"}},
		},
	},
	{
		name:  "binaries",
		phase: func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Binaries(c, one(n)) },
		blank: created("/usr/local/bin/kubelet", "/usr/local/bin/kubectl", "/opt/cni/bin/bridge", "/opt/cni/bin/flannel", manifests.KubeletUnitPath, manifests.FlannelConflistPath),
		damages: []damage{
			{"one is gone", func(m *machine) { m.Delete("/opt/cni/bin/bridge") }, created("/opt/cni/bin/bridge")},
			{"the network's configuration is gone", func(m *machine) { m.Delete(manifests.FlannelConflistPath) }, created(manifests.FlannelConflistPath)},
			{"one is another version", func(m *machine) { m.touch("/usr/local/bin/kubelet", 0o755, "kubelet 0") }, []string{"update /usr/local/bin/kubelet"}},
			{"one's mode", func(m *machine) { m.chmod("/usr/local/bin/kubectl", 0o700) }, []string{"update /usr/local/bin/kubectl"}},
		},
	},
	{
		name:    "images",
		prepare: after(func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Runtime(c, one(n)) }),
		phase:   func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Images(c, one(n)) },
		blank: created("image registry.k8s.io/etcd:3.7.0-0", "image registry.k8s.io/kube-apiserver:v1.37.2",
			"image registry.k8s.io/kube-controller-manager:v1.37.2", "image registry.k8s.io/kube-scheduler:v1.37.2",
			"image registry.k8s.io/pause:3.10.2", "image registry.k8s.io/kube-proxy:v1.37.2",
			"image registry.k8s.io/coredns/coredns:v1.14.6", "image docker.io/flannel/flannel:v0.28.10"),
		damages: []damage{
			{"one was deleted", func(m *machine) { delete(m.containerd.images, "registry.k8s.io/pause:3.10.2") }, created("image registry.k8s.io/pause:3.10.2")},
			{"a tag was moved", func(m *machine) { m.containerd.images["registry.k8s.io/pause:3.10.2"] = "sha256:00" }, []string{"update image registry.k8s.io/pause:3.10.2"}},
		},
	},
	{
		name:  "certs",
		phase: func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Certs(c, n) },
		blank: pkiFiles,
		damages: []damage{
			{"a key can be read by all", func(m *machine) { m.chmod(config.PKIDir+"/apiserver.key", 0o644) }, []string{"update " + config.PKIDir + "/apiserver.key"}},
			{"an authority's key can be read by all", func(m *machine) { m.chmod(config.PKIDir+"/ca.key", 0o640) }, []string{"update " + config.PKIDir + "/ca.key"}},
			{"a certificate is gone", func(m *machine) { m.Delete(config.PKIDir + "/apiserver-etcd-client.crt") },
				[]string{"update " + config.PKIDir + "/apiserver-etcd-client.key", "create " + config.PKIDir + "/apiserver-etcd-client.crt"}},
		},
		opaque: secretContent,
	},
	{
		name:    "kubeconfigs",
		prepare: after(Certs),
		phase:   func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Kubeconfigs(c, n) },
		blank: created(config.AdminConf, config.SuperAdminConf, config.KubeletConf, config.ControllerManagerConf,
			config.SchedulerConf),
		damages: []damage{
			{"one can be read by all", func(m *machine) { m.chmod(config.AdminConf, 0o644) }, []string{"update " + config.AdminConf}},
			{"one is gone", func(m *machine) { m.Delete(config.SchedulerConf) }, created(config.SchedulerConf)},
		},
		opaque: secretContent,
	},
	{
		name: "certs of one that joins",
		phase: func(c *cluster.Cluster, n *cluster.Node) workflow.Phase {
			return JoinCerts(c, one(n), givenPKI(c))
		},
		blank: slices.Concat(sharedFiles, slices.DeleteFunc(slices.Clone(pkiFiles), func(s string) bool { return slices.Contains(sharedFiles, s) })),
		damages: []damage{
			{"an authority's key can be read by all", func(m *machine) { m.chmod(config.PKIDir+"/ca.key", 0o644) }, []string{"update " + config.PKIDir + "/ca.key"}},
			{"a shared file is gone", func(m *machine) { m.Delete(config.PKIDir + "/etcd/ca.key") }, created(config.PKIDir + "/etcd/ca.key")},
			{"all of an authority is gone", func(m *machine) {
				m.Delete(config.PKIDir + "/front-proxy-ca.key")
				m.Delete(config.PKIDir + "/front-proxy-ca.crt")
			}, created(config.PKIDir+"/front-proxy-ca.crt", config.PKIDir+"/front-proxy-ca.key")},
			{"a certificate is gone", func(m *machine) { m.Delete(config.PKIDir + "/etcd/peer.crt") },
				[]string{"update " + config.PKIDir + "/etcd/peer.key", "create " + config.PKIDir + "/etcd/peer.crt"}},
		},
		opaque: secretContent,
	},
	{
		name: "kubeconfigs of one that joins",
		phase: func(c *cluster.Cluster, n *cluster.Node) workflow.Phase {
			return JoinKubeconfigs(c, one(n), givenPKI(c))
		},
		blank: created(config.AdminConf, config.ControllerManagerConf, config.SchedulerConf),
		damages: []damage{
			{"one can be read by all", func(m *machine) { m.chmod(config.SchedulerConf, 0o640) }, []string{"update " + config.SchedulerConf}},
			{"one is gone", func(m *machine) { m.Delete(config.AdminConf) }, created(config.AdminConf)},
		},
		opaque: secretContent,
	},
	{
		name:  "etcd",
		phase: func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Etcd(c, one(n)) },
		blank: created(config.EtcdDataDir, config.ManifestsDir+"/etcd.yaml"),
		damages: []damage{
			{"the data can be read by all", func(m *machine) { m.Mkdir(config.EtcdDataDir, 0o755) }, []string{"update " + config.EtcdDataDir}},
			{"the manifest was edited", func(m *machine) { m.touch(config.ManifestsDir+"/etcd.yaml", 0o600, "kind: Pod\n") },
				[]string{"update " + config.ManifestsDir + "/etcd.yaml"}},
		},
	},
	{
		name: "control-plane",
		prepare: func(_ testing.TB, _ *cluster.Cluster, n *cluster.Node) {
			n.Host.(*machine).Mkdir("/usr/share/ca-certificates", 0o755)
		},
		phase: func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return ControlPlane(c, one(n)) },
		blank: created(config.ManifestsDir, config.ManifestsDir+"/kube-apiserver.yaml", config.ManifestsDir+"/kube-controller-manager.yaml", config.ManifestsDir+"/kube-scheduler.yaml"),
		damages: []damage{
			{"one is gone", func(m *machine) { m.Delete(config.ManifestsDir + "/kube-scheduler.yaml") }, created(config.ManifestsDir + "/kube-scheduler.yaml")},
			{"all can look into the folder", func(m *machine) { m.Mkdir(config.ManifestsDir, 0o755) }, []string{"update " + config.ManifestsDir}},
			{"one can be read by all", func(m *machine) { m.chmod(config.ManifestsDir+"/kube-apiserver.yaml", 0o644) }, []string{"update " + config.ManifestsDir + "/kube-apiserver.yaml"}},
		},
	},
	{
		name:    "load-balancer",
		prepare: nodeLocal,
		phase:   func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return LoadBalancer(c, one(n)) },
		blank:   created(config.ManifestsDir, manifests.HAProxyConfigPath, balancerPod),
		damages: []damage{
			{"the configuration is gone", func(m *machine) { m.Delete(manifests.HAProxyConfigPath) }, created(manifests.HAProxyConfigPath)},
			{"the configuration was edited, and loaded", func(m *machine) {
				m.touch(manifests.HAProxyConfigPath, 0o644, "global\n")
				m.balancer.start()
			}, []string{"update " + manifests.HAProxyConfigPath}},
			{"HAProxy goes by an older list", func(m *machine) { m.balancer.runsOld() }, []string{"run haproxy"}},
			{"the manifest was edited", func(m *machine) { m.touch(balancerPod, 0o600, "kind: Pod\n") }, []string{"update " + balancerPod}},
			{"HAProxy cannot read the configuration", func(m *machine) { m.chmod(manifests.HAProxyConfigPath, 0o600) }, []string{"update " + manifests.HAProxyConfigPath}},
			{"all can look into the folder of manifests", func(m *machine) { m.Mkdir(config.ManifestsDir, 0o755) }, []string{"update " + config.ManifestsDir}},
		},
	},
	{
		name:    "kubelet",
		prepare: after(func(c *cluster.Cluster, n *cluster.Node) workflow.Phase { return Binaries(c, one(n)) }),
		phase:   testKubelet,
		blank: append(created(config.KubeletConfigFile, config.KubeletInstanceConfig, config.KubeletFlagsEnv,
			manifests.KubeletDropInPath, config.ManifestsDir), "run unit kubelet.service"),
		damages: []damage{
			{"the configuration was edited", func(m *machine) { m.touch(config.KubeletConfigFile, 0o644, "kind: KubeletConfiguration\n") },
				[]string{"update " + config.KubeletConfigFile, "run unit kubelet.service"}},
			{"the flags were edited", func(m *machine) { m.touch(config.KubeletFlagsEnv, 0o644, "") },
				[]string{"update " + config.KubeletFlagsEnv, "run unit kubelet.service"}},
			{"the drop-in is gone", func(m *machine) { m.Delete(manifests.KubeletDropInPath) },
				[]string{"create " + manifests.KubeletDropInPath, "run unit kubelet.service"}},
			{"the unit was stopped", systemctl("stop", "kubelet"), []string{"run unit kubelet.service"}},
			{"the unit was disabled", systemctl("disable", "kubelet"), []string{"run unit kubelet.service"}},
		},
	},
	{
		name: "kubelet-finalize",
		prepare: func(t testing.TB, c *cluster.Cluster, n *cluster.Node) {
			after(Certs, Kubeconfigs)(t, c, n)
			kubeletHasCertificate(t, n.Host.(*machine))
		},
		phase: func(c *cluster.Cluster, n *cluster.Node) workflow.Phase {
			return KubeletFinalize(c, one(n), time.Minute)
		},
		blank:  []string{"update " + config.KubeletConf},
		opaque: secretContent,
	},
}

// pkiFiles are the files of the phase certs in the order in which it names them.
var pkiFiles = func() []string {
	var all []string
	for _, name := range []string{
		"ca", "apiserver", "apiserver-kubelet-client", "front-proxy-ca", "front-proxy-client", "etcd/ca", "etcd/server",
		"etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client",
	} {
		all = append(all, created(config.PKIDir+"/"+name+".key", config.PKIDir+"/"+name+".crt")...)
	}
	return append(all, created(config.PKIDir+"/sa.key", config.PKIDir+"/sa.pub")...)
}()

// sharedFiles are those of them that a control plane that joins is given.
var sharedFiles = created(slices.Sorted(slices.Values(certs.SharedPaths(false)))...)

func secretContent(path string) bool {
	return strings.HasPrefix(path, config.KubernetesDir) || strings.HasPrefix(path, config.KubeletDir+"/pki")
}

func testKubelet(c *cluster.Cluster, n *cluster.Node) workflow.Phase {
	return Kubelet(c, one(n), func() ([]byte, error) { return manifests.KubeletConfig(params(c)) })
}

// after runs phases as a preparation for another.
func after(phases ...func(*cluster.Cluster, *cluster.Node) workflow.Phase) func(testing.TB, *cluster.Cluster, *cluster.Node) {
	return func(t testing.TB, c *cluster.Cluster, n *cluster.Node) {
		for _, p := range phases {
			run(t, p(c, n))
		}
	}
}

func systemctl(verb, unit string) func(m *machine) {
	return func(m *machine) {
		if _, err := m.Run(context.Background(), host.Command("systemctl", verb, unit)); err != nil {
			panic(err) // the test's own doing
		}
	}
}

// kubeletHasCertificate is what the kubelet does at its first start: it puts the certificate that its kubeconfig embeds
// where it keeps those that it renews.
func kubeletHasCertificate(t testing.TB, m *machine) {
	t.Helper()
	file, _ := m.Get(config.KubeletConf)
	conf, err := clientcmd.Load(file.Data)
	if err != nil {
		t.Error(err)
		return
	}
	user := conf.AuthInfos[conf.Contexts[conf.CurrentContext].AuthInfo]
	dated := config.KubeletDir + "/pki/kubelet-client-2027-01-15-08-00-00.pem"
	m.touch(dated, 0o600, string(user.ClientCertificateData)+string(user.ClientKeyData))
	m.Symlink(dated, config.KubeletClientCert)
}

// TestPhasesAreOfTheTable keeps the table complete: a phase of init on a host that is in no table is tested by nobody.
func TestPhasesAreOfTheTable(t *testing.T) {
	known := map[string]bool{"preflight": true, "external-etcd": true, "wait-api": true, "wait-control-plane": true, "mark-nodes": true} // have tests of their own
	for _, p := range hostPhases {
		known[p.name] = true
	}
	c, _ := testCluster(t, "cp-1")
	c.Config.Spec.LoadBalancer.Type, c.Config.Spec.Etcd.External = config.LoadBalancerNodeLocal, &config.ExternalEtcd{}
	for _, s := range Init(c, c.Nodes[0], InitOptions{}) {
		for _, p := range s.Phases() {
			if len(p.Hosts) > 0 && !known[p.Name] {
				t.Errorf("phase %s is not in the table %v", p.Name, slices.Sorted(maps.Keys(known)))
			}
		}
	}
}
