package manifests_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// balancedCluster has three control planes and the load balancer that change asks for; node-local by default.
func balancedCluster(t *testing.T, change ...func(*config.Spec)) manifests.Params {
	t.Helper()
	return kubeadmCluster(t, append([]func(*config.Spec){func(s *config.Spec) {
		s.Hosts = nil
		for _, address := range []string{"10.89.0.11", "10.89.0.12", "10.89.0.13"} {
			s.Hosts = append(s.Hosts, config.Host{Name: "cp-" + address[9:], Address: address, Roles: []config.Role{config.RoleControlPlane}})
		}
	}}, change...)...)
}

func ipv6(s *config.Spec) {
	s.Networking = config.Networking{PodSubnet: "fd00:10:244::/56", ServiceSubnet: "fd00:10:96::/112", DNSDomain: "example.internal"}
	s.APIServerPort, s.LoadBalancer.Port = 7443, 8443
	for i := range s.Hosts {
		s.Hosts[i].Address = strings.ReplaceAll(s.Hosts[i].Address, "10.89.0.", "fd00::")
	}
}

func virtualIP(s *config.Spec) { s.LoadBalancer.VirtualIP = "10.89.0.100" }

// What is in these files is what a real HAProxy 2.6 was tried with: failover, reload, DNS that is away.
func TestHAProxyGolden(t *testing.T) {
	p := balancedCluster(t)
	golden(t, "haproxy/haproxy.cfg", manifests.HAProxyConfig(p))
	golden(t, "haproxy/haproxy.yaml", must[host.File](t)(manifests.HAProxy(p)))
	golden(t, "haproxy/ipv6.cfg", manifests.HAProxyConfig(balancedCluster(t, ipv6)))
	if !manifests.Marked(manifests.HAProxyConfig(p).Data) {
		t.Error("the configuration carries no mark")
	}
}

// The pod stays as it is when the list changes: a new manifest would take the load balancer, and all connections, down.
func TestHAProxysPodDoesNotFollowTheList(t *testing.T) {
	p := balancedCluster(t)
	before := must[host.File](t)(manifests.HAProxy(p))
	p.APIServers = p.APIServers[:1]
	if after := must[host.File](t)(manifests.HAProxy(p)); !bytes.Equal(before.Data, after.Data) {
		t.Errorf("the manifest is another with another list:\n%s", after.Data)
	}
}

func TestHAProxyVersion(t *testing.T) {
	p := balancedCluster(t)
	full := manifests.HAProxyConfig(p).Data
	version := manifests.HAProxyVersion(full)
	if len(version) != 64 || version != manifests.HAProxyVersion(manifests.HAProxyConfig(p).Data) {
		t.Errorf("version %q is no SHA-256, or another the second time", version)
	}
	if answer := `string "` + version + `" if { path /version }`; !strings.Contains(string(full), answer) {
		t.Errorf("HAProxy does not answer %s", version)
	}
	p.APIServers = p.APIServers[:2]
	if manifests.HAProxyVersion(manifests.HAProxyConfig(p).Data) == version {
		t.Error("another list has the same version")
	}
	for _, theirs := range []string{"", "global\n", `http-request return status 200 string "" if { path /version }`, `# string "abc" if { path /version }`} {
		if got := manifests.HAProxyVersion([]byte(theirs)); got != "" {
			t.Errorf("version of %q is %q", theirs, got)
		}
	}
}

// The headless Service of the API servers must not take the load balancers for such, though both are static pods.
func TestLoadBalancersAreNoAPIServers(t *testing.T) {
	p := balancedCluster(t, virtualIP)
	var selector map[string]string
	for _, u := range must[[]*unstructured.Unstructured](t)(manifests.APIEndpoints(p, nil)) {
		if u.GetKind() == "Service" {
			selector, _, _ = unstructured.NestedStringMap(u.Object, "spec", "selector")
		}
	}
	node := kubeadmNode()
	node.Interface = "eth0"
	files := append(must[[]host.File](t)(manifests.Keepalived(p, node, nil, 150)), must[host.File](t)(manifests.HAProxy(p)))
	for _, f := range files {
		if !strings.HasSuffix(f.Path, ".yaml") {
			continue
		}
		if got := pod(t, f).Labels; labels.SelectorFromSet(selector).Matches(labels.Set(got)) {
			t.Errorf("%v selects %s with %v", selector, f.Path, got)
		}
	}
	server := pod(t, must[host.File](t)(manifests.APIServer(p, kubeadmNode())))
	if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(server.Labels)) {
		t.Errorf("%v does not select an API server with %v", selector, server.Labels)
	}
}

// A kubelet of another version must not take the same pod for a new one, and cut its connections: the pod has a UID, in the
// form of a static pod's, that only its content makes another.
func TestHAProxysPodKeepsItsUID(t *testing.T) {
	p := balancedCluster(t)
	uid := func() string { return string(pod(t, must[host.File](t)(manifests.HAProxy(p))).UID) }
	first := uid()
	if len(first) != 32 || strings.Trim(first, "0123456789abcdef") != "" {
		t.Errorf("the UID is %q", first)
	}
	if again := uid(); again != first {
		t.Errorf("the second time it is %s, not %s", again, first)
	}
	p.Images.HAProxy += "-1"
	if other := uid(); other == first {
		t.Error("a pod with another image has the same UID")
	}
}
