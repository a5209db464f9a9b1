package manifests_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

func keepalived(t *testing.T, p manifests.Params, n manifests.Node, priority int, peers ...string) (conf, manifest host.File) {
	t.Helper()
	var addrs []netip.Addr
	for _, peer := range peers {
		addrs = append(addrs, netip.MustParseAddr(peer))
	}
	files := must[[]host.File](t)(manifests.Keepalived(p, n, addrs, priority))
	if len(files) != 2 {
		t.Fatalf("%d files, want the configuration and the pod", len(files))
	}
	return files[0], files[1]
}

// What is in these files is what a real keepalived 2.2 was tried with: the address moves when a HAProxy or a keepalived ends.
func TestKeepalivedGolden(t *testing.T) {
	n := kubeadmNode()
	n.Interface = "eth0"
	conf, manifest := keepalived(t, balancedCluster(t, virtualIP), n, 150, "10.89.0.12", "10.89.0.13")
	golden(t, "keepalived/keepalived.conf", conf)
	golden(t, "keepalived/keepalived.yaml", manifest)
	if !manifests.Marked(conf.Data) {
		t.Error("the configuration carries no mark")
	}

	n.AdvertiseAddress = netip.MustParseAddr("fd00::11")
	conf, _ = keepalived(t, balancedCluster(t, ipv6, func(s *config.Spec) {
		s.LoadBalancer = config.LoadBalancer{VirtualIP: "fd00::100", Interface: "br0", RouterID: 7}
	}), n, 149, "fd00::12")
	golden(t, "keepalived/ipv6.conf", conf)
}

// A kubelet takes long to replace a static pod: peers that come and go are no reason.
func TestKeepalivedsPodOutlivesItsConfiguration(t *testing.T) {
	p, n := balancedCluster(t, virtualIP), kubeadmNode()
	n.Interface = "eth0"
	conf, pod := keepalived(t, p, n, 150, "10.89.0.12")
	otherConf, otherPod := keepalived(t, p, n, 149, "10.89.0.13")
	if string(conf.Data) == string(otherConf.Data) || string(pod.Data) != string(otherPod.Data) {
		t.Errorf("the pod has changed from\n%s\nto\n%s", pod.Data, otherPod.Data)
	}
}

func TestKeepalivedAloneHasNoPeers(t *testing.T) {
	n := kubeadmNode()
	n.Interface = "eth0"
	conf, _ := keepalived(t, balancedCluster(t, virtualIP), n, 150)
	if strings.Contains(string(conf.Data), "unicast") {
		t.Errorf("a list of no peers, which keepalived does not take:\n%s", conf.Data)
	}
}

func TestKeepalivedNeedsAnInterface(t *testing.T) {
	_, err := manifests.Keepalived(balancedCluster(t, virtualIP), kubeadmNode(), nil, 150)
	if err == nil || !strings.HasSuffix(err.Error(), "; hint: set spec.loadBalancer.interface") {
		t.Errorf("without an interface: %v", err)
	}
}
