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

// A kubelet starts a static pod anew when its manifest changes, and keepalived reads its configuration then only.
func TestKeepalivedsPodFollowsItsConfiguration(t *testing.T) {
	p, n := balancedCluster(t, virtualIP), kubeadmNode()
	n.Interface = "eth0"
	hash := func(priority int, peers ...string) string {
		_, manifest := keepalived(t, p, n, priority, peers...)
		return pod(t, manifest).Annotations[manifests.ConfigHash]
	}
	first := hash(150, "10.89.0.12")
	if first == "" || first != hash(150, "10.89.0.12") {
		t.Errorf("the same configuration has the checksums %q and %q", first, hash(150, "10.89.0.12"))
	}
	if first == hash(149, "10.89.0.12") || first == hash(150, "10.89.0.13") {
		t.Error("another configuration has the same checksum")
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
