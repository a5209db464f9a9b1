package config

import (
	"net/netip"
	"slices"
	"testing"
)

func TestServiceAddresses(t *testing.T) {
	for _, tt := range []struct{ subnet, first, tenth string }{
		{"10.96.0.0/16", "10.96.0.1", "10.96.0.10"},
		{"10.96.0.240/28", "10.96.0.241", "10.96.0.250"},
		{"fd00:10:96::/112,10.96.0.0/16", "fd00:10:96::1", "fd00:10:96::a"},
		{"nonsense", "invalid IP", "invalid IP"},
	} {
		c := &Cluster{Spec: Spec{Networking: Networking{ServiceSubnet: tt.subnet}}}
		if got := c.APIServerServiceIP().String(); got != tt.first {
			t.Errorf("%s: API server %s, want %s", tt.subnet, got, tt.first)
		}
		if got := c.DNSServiceIP().String(); got != tt.tenth {
			t.Errorf("%s: DNS %s, want %s", tt.subnet, got, tt.tenth)
		}
	}
}

func TestSubnets(t *testing.T) {
	c := &Cluster{Spec: Spec{Networking: Networking{PodSubnet: "10.244.3.0/16,fd00::/48"}}}
	want := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00::/48")}
	if got := c.PodSubnets(); !slices.Equal(got, want) {
		t.Errorf("pod subnets = %v, want %v", got, want)
	}
	if got := c.ServiceSubnets(); len(got) != 0 {
		t.Errorf("service subnets of nothing = %v", got)
	}
}

func TestEndpoint(t *testing.T) {
	controlPlanes := func(hosts ...Host) []Host {
		for i := range hosts {
			hosts[i].Roles = []Role{RoleControlPlane}
		}
		return append([]Host{{Name: "w", Address: "192.0.2.99", Roles: []Role{RoleWorker}}}, hosts...)
	}
	tests := []struct {
		name string
		spec Spec
		want string
	}{
		{"nothing", Spec{}, ""},
		{"a name", Spec{ControlPlaneEndpoint: "lb.example.org"}, "lb.example.org:6443"},
		{"a name and the document's port", Spec{ControlPlaneEndpoint: "lb.example.org", APIServerPort: 8443}, "lb.example.org:8443"},
		{"its own port wins", Spec{ControlPlaneEndpoint: "lb.example.org:443", APIServerPort: 8443}, "lb.example.org:443"},
		{"IPv6", Spec{ControlPlaneEndpoint: "fd00::1"}, "[fd00::1]:6443"},
		{"IPv6 in brackets", Spec{ControlPlaneEndpoint: "[fd00::1]"}, "[fd00::1]:6443"},
		{"IPv6 and a port", Spec{ControlPlaneEndpoint: "[fd00::1]:443"}, "[fd00::1]:443"},
		{"nonsense", Spec{ControlPlaneEndpoint: "a:b:c"}, ""},
		{"the first control plane", Spec{Hosts: controlPlanes(Host{AdvertiseAddress: "10.0.0.1", Address: "192.0.2.1"}, Host{AdvertiseAddress: "10.0.0.2"})}, "10.0.0.1:6443"},
		{"its SSH address", Spec{APIServerPort: 8443, Hosts: controlPlanes(Host{Address: "2001:db8::1"})}, "[2001:db8::1]:8443"},
		{"an address not known yet", Spec{Hosts: controlPlanes(Host{Address: "cp-1"}, Host{AdvertiseAddress: "10.0.0.2"})}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (&Cluster{Spec: tt.spec}).Endpoint(); got != tt.want {
				t.Errorf("Endpoint() = %q, want %q", got, tt.want)
			}
		})
	}
}
