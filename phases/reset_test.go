package phases

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

const hostRules = `*nat
:PREROUTING ACCEPT [1:60]
-A PREROUTING -d 192.0.2.1/32 -j DNAT --to-destination 10.9.9.9
COMMIT
`

const kubeRules = `*nat
:PREROUTING ACCEPT [1:60]
:KUBE-SERVICES - [0:0]
:FLANNEL-POSTRTG - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -d 192.0.2.1/32 -j DNAT --to-destination 10.9.9.9
-A KUBE-SERVICES -d 10.96.0.1/32 -j ACCEPT
COMMIT
`

// ownHost places what is on a host before myadm comes.
func ownHost(m *machine) {
	m.touch("/etc/hostname", 0o644, m.Name())
	m.touch("/etc/modules-load.d/own.conf", 0o644, "loop\n")
	m.touch("/etc/sysctl.d/own.conf", 0o644, "vm.swappiness = 10\n")
	m.touch("/etc/systemd/system/own.service", 0o644, "[Service]\n[Install]\nWantedBy=multi-user.target\n")
	m.Symlink("/etc/systemd/system/own.service", "/etc/systemd/system/multi-user.target.wants/own.service")
	m.touch("/usr/local/bin/own", 0o755, "own")
	for _, dir := range []string{"/run", "/var/log", "/var/lib", "/usr/libexec", "/usr/bin", "/usr/local/sbin", "/opt", "/sys/class/net/eth0"} {
		m.Mkdir(dir, 0o755)
	}
	for _, filter := range filters {
		m.containerd.rules[filter] = hostRules
	}
}

// inUse brings a host to where init leaves it, and does to it what the kubelet, containerd and the network do then.
func inUse(t testing.TB, c *cluster.Cluster, m *machine) {
	t.Helper()
	n := c.Nodes[0]
	described(t, c, n)
	run(t, Kernel(c, c.Nodes), Registries(c, c.Nodes), Proxy(c, c.Nodes), Runtime(c, c.Nodes), Binaries(c, c.Nodes), Images(c, c.Nodes), Etcd(c, c.Nodes), ControlPlane(c, c.Nodes), testKubelet(c, n))
	for _, path := range []string{
		config.PKIDir + "/ca.key", config.AdminConf, config.KubeletConf, config.EtcdDataDir + "/member/wal/0.wal",
		config.KubeletDir + "/pki/kubelet-client.pem", config.KubeletDir + "/pods/1/etc-hosts", "/var/lib/cni/networks/cbr0/10.244.0.2",
		"/run/flannel/subnet.env", "/var/log/pods/kube-system_etcd/etcd/0.log", "/var/log/containers/etcd.log",
		"/usr/libexec/kubernetes/kubelet-plugins/volume/x", "/var/lib/containerd/io.containerd.content.v1/blob", "/run/containerd/containerd.sock",
		"/usr/local/bin/.kubelet.myadm-1", "/etc/systemd/system/.kubelet.service.myadm-2", config.CNIBinDir + "/.bridge.myadm-3",
		manifests.RegistriesDir + "/docker.io/.hosts.toml.myadm-new", manifests.RegistriesDir + "/gone.example.org/.hosts.toml.myadm-new", // of a cut write
		config.StagedBinary("/usr/local/bin/kubelet"), config.PreviousBinary("/usr/local/sbin/runc"), config.StagedBinary("/usr/bin/kubelet"), // of an upgrade
		config.UpgradeDir + "/previous-etcd.yaml", config.EtcdDataDir + "/member.myadm-previous/wal/0.wal", // likewise
	} {
		m.touch(path, 0o600, "left")
	}
	m.mount(config.KubeletDir + "/pods/1/volumes/token")
	m.mount(config.KubeletDir + "/pods/1/volumes/with blank")
	m.mount("/run/containerd/shm")
	m.mount("/run/containerd/shm/rootfs")
	m.mount("/run/netns/cni-1")
	m.containerd.containers = []string{"etcd", "pause", "gone"}
	m.containerd.taskless = []string{"gone"}
	for _, link := range []string{"cni0", "flannel.1"} {
		m.Symlink("../../devices/virtual/net/"+link, "/sys/class/net/"+link)
	}
	m.containerd.rules["iptables-nft"], m.containerd.rules["ip6tables-legacy"] = kubeRules, kubeRules
	m.containerd.nftTables = "table ip own\ntable ip kube-proxy\ntable ip6 kube-proxy\n"
}

// lasting is a machine's state without what reset leaves until the next boot, and what goes with containerd's data.
func lasting(t testing.TB, m *machine) map[string]string {
	state := m.state(t, nil)
	maps.DeleteFunc(state, func(name, _ string) bool {
		return strings.HasPrefix(name, "module ") || strings.HasPrefix(name, "sysctl ") || strings.HasPrefix(name, "image ")
	})
	for _, filter := range filters {
		state[filter] = m.containerd.rules[filter]
	}
	state["mounts"] = strings.Join(m.mounts, " ")
	return state
}

func TestResetLeavesNoTrace(t *testing.T) {
	c, machines := testCluster(t, "h1")
	m := machines[0]
	ownHost(m)
	before := lasting(t, m)
	inUse(t, c, m)
	run(t, Reset(c, c.Nodes)...)
	if diff := cmp.Diff(before, lasting(t, m)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if m.containerd.nftTables != "table ip own\n" {
		t.Errorf("nft has\n%s", m.containerd.nftTables)
	}
	if len(m.containerd.containers) > 0 {
		t.Errorf("containers %q are left", m.containerd.containers)
	}
	for _, unit := range []string{"kubelet", "containerd"} {
		if m.units.Active(unit) || m.units.Enabled(unit) {
			t.Errorf("%s runs, or will at boot", unit)
		}
	}
	for _, s := range Reset(c, c.Nodes) {
		for _, p := range s.Phases() {
			settled(t, p, c.Nodes[0])
		}
	}
}

func TestResetOfABlankHostDoesNothing(t *testing.T) {
	c, machines := testCluster(t, "h1")
	ownHost(machines[0])
	for _, s := range Reset(c, c.Nodes) {
		for _, p := range s.Phases() {
			settled(t, p, c.Nodes[0])
		}
	}
}

func TestResetGoesOnAfterACut(t *testing.T) {
	var before map[string]string
	for cut := 0; ; cut++ {
		c, machines := testCluster(t, "h1")
		m := machines[0]
		ownHost(m)
		before = lasting(t, m)
		inUse(t, c, m)
		m.left = cut
		_, err := new(workflow.Runner).Run(t.Context(), Reset(c, c.Nodes)...)
		if err == nil {
			if cut < 20 {
				t.Errorf("reset did only %d things", cut)
			}
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("cut after %d: %v", cut, err)
		}
		m.left = -1
		run(t, Reset(c, c.Nodes)...)
		if diff := cmp.Diff(before, lasting(t, m)); diff != "" {
			t.Errorf("cut after %d (-before +after):\n%s", cut, diff)
		}
	}
}

// What has the name of something of ours, but not its mark, is somebody else's.
func TestResetLeavesWhatIsNotOurs(t *testing.T) {
	c, machines := testCluster(t, "h1")
	m := machines[0]
	foreign := []string{
		manifests.ModulesPath, manifests.SysctlPath, manifests.ContainerdConfigPath, manifests.FlannelConflistPath,
		"/var/lib/containerd/data", "/run/containerd/containerd.sock", "/opt/cni/bin/own", foreignFile, config.CNIConfDir + "/99-own.conf",
		"/var/backups/myadm/etcd-before-v1.37.2.db", // a snapshot is ours, and for the user to keep
	}
	for _, path := range foreign {
		m.touch(path, 0o644, "somebody else's")
	}
	m.touch(manifests.ContainerdUnitPath, 0o644, "[Service]\n[Install]\nWantedBy=multi-user.target\n")
	m.units.Start("containerd")
	m.mount("/run/containerd/shm")
	m.mount("/run/netns/vpn")
	m.containerd.containers, m.containerd.taskless = []string{"pod"}, []string{}
	m.touch(config.KubeletConf, 0o600, "left")
	run(t, Reset(c, c.Nodes)...)
	for _, path := range append(foreign, manifests.ContainerdUnitPath, "/run/containerd/shm", "/run/netns/vpn") {
		if infos, err := m.Stat(t.Context(), path); err != nil || !infos[0].Exists {
			t.Errorf("%s is gone", path)
		}
	}
	if !m.units.Active("containerd") {
		t.Error("a containerd of the user's was stopped")
	}
	if !slices.Equal(m.mounts, []string{"/run/containerd/shm", "/run/netns/vpn"}) {
		t.Errorf("mounts are %q", m.mounts)
	}
	if len(m.containerd.containers) > 0 {
		t.Error("its pods are left")
	}
	if _, ok := m.Get(config.KubeletConf); ok {
		t.Error(config.KubeletConf + " is left")
	}
}

// A containerd that stays watches the folder of network configurations, and ends when it goes.
func TestResetLeavesTheFoldersOfARuntimeThatStays(t *testing.T) {
	for _, own := range []bool{true, false} {
		c, machines := testCluster(t, "h1")
		m := machines[0]
		m.Mkdir(config.CNIConfDir, 0o700)
		m.Mkdir("/opt/containerd/bin", 0o711)
		m.touch(config.KubeletConf, 0o600, "left")
		if own {
			m.Put(manifests.ContainerdUnit(nil))
		}
		run(t, Reset(c, c.Nodes)...)
		for _, path := range []string{config.CNIConfDir, "/opt/containerd/bin"} {
			if infos, err := m.Stat(t.Context(), path); err != nil || infos[0].Exists == own {
				t.Errorf("own runtime %t: %s is there: %t, %v", own, path, !own, err)
			}
		}
	}
}

func TestResetOfFoldersThatAreFileSystems(t *testing.T) {
	c, machines := testCluster(t, "h1")
	m := machines[0]
	m.mount(config.EtcdDataDir)
	m.mount(config.KubeletDir)
	m.touch(config.EtcdDataDir+"/member/wal", 0o600, "")
	m.touch(config.KubeletDir+"/config.yaml", 0o600, "")
	run(t, Reset(c, c.Nodes)...)
	if left := append(m.Paths(config.EtcdDataDir), m.Paths(config.KubeletDir)...); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
	if !slices.Equal(m.mounts, []string{config.EtcdDataDir, config.KubeletDir}) {
		t.Errorf("mounts are %q", m.mounts)
	}
}

// etcd's data lies where its manifest says, whatever the document, which may be lost, says.
func TestResetFindsEtcdsData(t *testing.T) {
	c, machines := testCluster(t, "h1")
	c.Config.Spec.Etcd.DataDir = "/srv/etcd"
	run(t, Etcd(c, c.Nodes))
	machines[0].touch("/srv/etcd/member/wal", 0o600, "")
	c.Config.Spec.Etcd.DataDir = config.EtcdDataDir
	run(t, Reset(c, c.Nodes)...)
	if left := machines[0].Paths("/srv/etcd"); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// A point can be mounted over: then it is unmounted as often as it takes.
func TestMountsOverMounts(t *testing.T) {
	c, machines := testCluster(t, "h1")
	m := machines[0]
	for range 3 {
		m.mount(config.KubeletDir + "/pods/1/volumes/x")
	}
	run(t, Mounts(c.Nodes))
	if len(m.mounts) > 0 {
		t.Errorf("mounts are %q", m.mounts)
	}
}

func TestStopService(t *testing.T) {
	const file = "/etc/systemd/system/x.service"
	enabled := func(m *machine) {
		m.touch(file, 0o644, "[Service]\n[Install]\nWantedBy=multi-user.target\n")
		systemctl("enable", "x.service")(m)
	}
	tests := []struct {
		name    string
		arrange func(m *machine)
		want    []string
	}{
		{"not there", func(*machine) {}, nil},
		{"stopped and disabled", func(m *machine) { enabled(m); systemctl("disable", "x.service")(m) }, nil},
		{"failed and disabled", func(m *machine) { enabled(m); systemctl("disable", "x.service")(m); m.units.Crash("x") }, nil},
		{"enabled", enabled, []string{"run unit x.service"}},
		{"running", func(m *machine) { enabled(m); m.units.Start("x") }, []string{"run unit x.service"}},
		{"running, not enabled", func(m *machine) {
			enabled(m)
			systemctl("disable", "x.service")(m)
			m.units.Start("x")
		}, []string{"run unit x.service"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, machines := testCluster(t, "h1")
			tt.arrange(machines[0])
			p := StopService(c.Nodes, "stop-x", "x.service")
			if diff := cmp.Diff(tt.want, check(t, p, c.Nodes[0])); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			run(t, p)
			if machines[0].units.Active("x") || machines[0].units.Enabled("x") {
				t.Error("it runs, or will at boot")
			}
			settled(t, p, c.Nodes[0])
		})
	}
}

// A firewall is read with the tools of kube-proxy's image: without it, there was nobody to write rules.
func TestFirewallWithoutKubeProxy(t *testing.T) {
	for name, arrange := range map[string]func(m *machine){
		"no containerd": func(*machine) {},
		"no image": func(m *machine) {
			m.touch(manifests.ContainerdUnitPath, 0o644, "[Service]\n")
			m.units.Start("containerd")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, machines := testCluster(t, "h1")
			machines[0].containerd.rules["iptables-nft"] = kubeRules
			arrange(machines[0])
			settled(t, Firewall(c, c.Nodes), c.Nodes[0])
		})
	}
}
