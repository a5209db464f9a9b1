package manifests_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var sameAddresses = cmpopts.EquateComparable(netip.AddrPort{})

// myadmConfig is the data of the ConfigMap.
func myadmConfig(t *testing.T, p manifests.Params) map[string]string {
	t.Helper()
	var data map[string]string
	for _, u := range must[[]*unstructured.Unstructured](t)(manifests.MyadmConfig(p)) {
		if u.GetKind() == "ConfigMap" {
			data, _, _ = unstructured.NestedStringMap(u.Object, "data")
		}
	}
	return data
}

func TestMyadmConfigIsReadBack(t *testing.T) {
	for name, change := range map[string]func(*config.Spec){
		"node-local": func(*config.Spec) {},
		"IPv6":       ipv6,
		"keepalived": func(s *config.Spec) {
			s.LoadBalancer = config.LoadBalancer{VirtualIP: "10.89.0.100", Interface: "eth1", RouterID: 7, Port: 443}
		},
		"external":   func(s *config.Spec) { s.ControlPlaneEndpoint, s.Networking.Plugin = "lb", config.PluginNone },
		"no balance": func(s *config.Spec) { s.Hosts = s.Hosts[:1] },
	} {
		p := balancedCluster(t, change)
		want := manifests.MyadmSettings{NetworkPlugin: p.Cluster.Spec.Networking.Plugin, LoadBalancer: p.Cluster.Spec.LoadBalancer}
		for _, s := range p.APIServers {
			want.APIServers = append(want.APIServers, s.Address)
		}
		got := must[manifests.MyadmSettings](t)(manifests.ReadMyadmConfig(myadmConfig(t, p)))
		if diff := cmp.Diff(want, got, sameAddresses); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Joining nodes read it before they are nodes, with a token, and nodes later.
func TestMyadmConfigMayBeReadByNodes(t *testing.T) {
	var groups []string
	for _, u := range must[[]*unstructured.Unstructured](t)(manifests.MyadmConfig(balancedCluster(t))) {
		switch u.GetKind() {
		case "Role":
			rules, _, _ := unstructured.NestedSlice(u.Object, "rules")
			want := []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"configmaps"}, "resourceNames": []any{"myadm-config"}, "verbs": []any{"get"}}}
			if diff := cmp.Diff(want, rules); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		case "RoleBinding":
			subjects, _, _ := unstructured.NestedSlice(u.Object, "subjects")
			for _, s := range subjects {
				groups = append(groups, s.(map[string]any)["name"].(string))
			}
		}
	}
	if want := []string{"system:bootstrappers:kubeadm:default-node-token", "system:nodes"}; !slices.Equal(groups, want) {
		t.Errorf("readers are %q, want %q", groups, want)
	}
}

func TestReadMyadmConfig(t *testing.T) {
	tests := []struct {
		name    string
		data    map[string]string
		want    manifests.MyadmSettings
		message string // of the error, up to its hint
	}{
		{"nothing", nil, manifests.MyadmSettings{}, ""},
		{"of a newer myadm", map[string]string{"new": "x", "networkPlugin": "none", "loadBalancer": "{type: node-local, port: 1, routerID: 2, new: {}}"},
			manifests.MyadmSettings{NetworkPlugin: "none", LoadBalancer: config.LoadBalancer{Type: "node-local", Port: 1, RouterID: 2}}, ""},
		{"API servers", map[string]string{"apiServers": "10.0.0.1:6443,[fd00::1]:7443"},
			manifests.MyadmSettings{APIServers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:6443"), netip.MustParseAddrPort("[fd00::1]:7443")}}, ""},

		{"plugin", map[string]string{"networkPlugin": "ovn"}, manifests.MyadmSettings{}, `networkPlugin: "ovn" is not a network plugin that this myadm knows; hint: use the myadm that made the cluster, or a newer one`},
		{"no YAML", map[string]string{"loadBalancer": "{"}, manifests.MyadmSettings{}, `loadBalancer: error converting YAML to JSON`},
		{"type", map[string]string{"loadBalancer": "{type: x, port: 1, routerID: 1}"}, manifests.MyadmSettings{}, `loadBalancer: type: "x" is not a type of load balancer`},
		{"port", map[string]string{"loadBalancer": "{type: node-local, routerID: 1}"}, manifests.MyadmSettings{}, `loadBalancer: port: 0 is not a port`},
		{"directives", map[string]string{"loadBalancer": `{type: keepalived, port: 1, routerID: 1, virtualIP: "10.0.0.1\n}", interface: "a\n}"}`}, manifests.MyadmSettings{},
			"loadBalancer: virtualIP: \"10.0.0.1\\n}\" is not an IP address"},
		{"a name", map[string]string{"apiServers": "cp-1:6443"}, manifests.MyadmSettings{}, `apiServers: "cp-1:6443": ParseAddr("cp-1"): unable to parse IP`},
		{"a hole", map[string]string{"apiServers": "10.0.0.1:6443,"}, manifests.MyadmSettings{}, `apiServers: "": not an ip:port`},
		{"a zone", map[string]string{"apiServers": "[fd00::1%a\n]:6443"}, manifests.MyadmSettings{}, `apiServers: "[fd00::1%a\n]:6443": nodes cannot reach the address`},
		{"this node", map[string]string{"apiServers": "127.0.0.1:6443"}, manifests.MyadmSettings{}, `apiServers: "127.0.0.1:6443": nodes cannot reach the address`},
		{"no port", map[string]string{"apiServers": "10.0.0.1:0"}, manifests.MyadmSettings{}, `apiServers: "10.0.0.1:0": 0 is not a port`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := manifests.ReadMyadmConfig(tt.data)
			if tt.message == "" && err != nil {
				t.Fatal(err)
			}
			if want := "ConfigMap kube-system/myadm-config: key " + tt.message; tt.message != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
				t.Errorf("error %v, want %s", err, want)
			}
			if diff := cmp.Diff(tt.want, got, sameAddresses); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever the cluster says, what is rendered of it has no line that myadm did not mean, and reads back as the same.
func FuzzReadMyadmConfig(f *testing.F) {
	f.Add("flannel", "port: 6444\nrouterID: 51\ntype: node-local\n", "10.0.0.1:6443,10.0.0.2:6443")
	f.Add("none", "{type: keepalived, virtualIP: 10.0.0.9, interface: eth0, port: 443, routerID: 7}", "[fd00::1]:6443")
	f.Add("", "{type: keepalived, virtualIP: \"fd00::1%a\\nb\", port: 1, routerID: 1}", "[fd00::1%a\nserver x]:6443")
	f.Add("", "&a [*a]", ",")
	f.Fuzz(func(t *testing.T, plugin, balancer, servers string) {
		s, err := manifests.ReadMyadmConfig(map[string]string{"networkPlugin": plugin, "loadBalancer": balancer, "apiServers": servers})
		if err != nil {
			return
		}
		c := &config.Cluster{Spec: config.Spec{LoadBalancer: s.LoadBalancer}}
		c.Spec.Networking.Plugin = s.NetworkPlugin
		config.SetDefaults(c)
		p := manifests.Params{Cluster: c}
		empty := lines(manifests.HAProxyConfig(p))
		for _, a := range s.APIServers {
			p.APIServers = append(p.APIServers, manifests.Backend{Name: a.Addr().String(), Address: a})
		}
		if got := lines(manifests.HAProxyConfig(p)); got != empty+len(s.APIServers) {
			t.Errorf("%d API servers make %d lines more", len(s.APIServers), got-empty)
		}
		if s.LoadBalancer.Type == config.LoadBalancerKeepalived {
			plain := manifests.Params{Cluster: &config.Cluster{Spec: config.Spec{LoadBalancer: config.LoadBalancer{Interface: "eth0", VirtualIP: "10.0.0.9"}}}}
			want, _ := keepalived(t, plain, kubeadmNode(), 150)
			n := kubeadmNode()
			n.Interface = "eth0"
			if got, _ := keepalived(t, p, n, 150); lines(got) != lines(want) {
				t.Errorf("%d lines, want %d:\n%s", lines(got), lines(want), got.Data)
			}
		}
		again := must[manifests.MyadmSettings](t)(manifests.ReadMyadmConfig(myadmConfig(t, p)))
		want := manifests.MyadmSettings{NetworkPlugin: c.Spec.Networking.Plugin, LoadBalancer: c.Spec.LoadBalancer, APIServers: s.APIServers}
		if diff := cmp.Diff(want, again, sameAddresses); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
	})
}

func lines(f host.File) int { return strings.Count(string(f.Data), "\n") }
