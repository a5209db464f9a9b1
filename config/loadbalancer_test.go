package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hosts are the lines of so many control planes and workers.
func hosts(controlPlanes, workers int) string {
	return "hosts: [" + strings.Join(slices.Concat(
		slices.Repeat([]string{"{roles: [control-plane]}"}, controlPlanes), slices.Repeat([]string{"{}"}, workers)), ", ") + "]\n"
}

func TestLoadBalancerDefaults(t *testing.T) {
	tests := []struct {
		name, spec string
		want       LoadBalancer
	}{
		{"no hosts", "apiServerPort: 6443", LoadBalancer{Port: 6444, RouterID: 51}},
		{"one control plane", hosts(1, 3), LoadBalancer{Port: 6444, RouterID: 51}},
		{"several", hosts(2, 0), LoadBalancer{Type: LoadBalancerNodeLocal, Port: 6444, RouterID: 51}},
		{"several that run workloads", "hosts: [{roles: [worker, control-plane]}, {roles: [control-plane]}]", LoadBalancer{Type: LoadBalancerNodeLocal, Port: 6444, RouterID: 51}},
		{"an endpoint", hosts(3, 0) + "controlPlaneEndpoint: lb", LoadBalancer{Type: LoadBalancerExternal, Port: 6444, RouterID: 51}},
		{"a virtual IP", hosts(1, 0) + "loadBalancer: {virtualIP: 192.0.2.10, port: 443, routerID: 7, interface: eth1}",
			LoadBalancer{Type: LoadBalancerKeepalived, VirtualIP: "192.0.2.10", Port: 443, RouterID: 7, Interface: "eth1"}},
		{"what is given stays", hosts(1, 0) + "loadBalancer: {type: node-local}", LoadBalancer{Type: LoadBalancerNodeLocal, Port: 6444, RouterID: 51}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, head+"spec:\n"+indent(tt.spec))
			SetDefaults(c)
			if diff := cmp.Diff(tt.want, c.Spec.LoadBalancer); diff != "" {
				t.Errorf("load balancer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEndpointsOfLoadBalancers(t *testing.T) {
	const cps = "hosts: [{address: 10.0.0.1, roles: [control-plane]}, {address: 10.0.0.2, roles: [control-plane]}]\n"
	const cps6 = "hosts: [{address: 'fd00::1', roles: [control-plane]}, {address: 'fd00::2', roles: [control-plane]}]\nnetworking: {podSubnet: 'fd00:244::/56', serviceSubnet: 'fd00:96::/112'}\n"
	tests := []struct{ name, spec, endpoint, node string }{
		{"none", "hosts: [{address: 10.0.0.1, roles: [control-plane]}]", "10.0.0.1:6443", "10.0.0.1:6443"},
		{"node-local", cps, "10.0.0.1:6443", "127.0.0.1:6444"},
		{"node-local, its own port", cps + "loadBalancer: {port: 8443}", "10.0.0.1:6443", "127.0.0.1:8443"},
		{"node-local, IPv6", cps6, "[fd00::1]:6443", "[::1]:6444"},
		{"keepalived", cps + "loadBalancer: {virtualIP: 10.0.0.9}", "10.0.0.9:6444", "10.0.0.9:6444"},
		{"keepalived, IPv6", cps6 + "loadBalancer: {virtualIP: 'fd00:0::9', port: 443}", "[fd00::9]:443", "[fd00::9]:443"},
		{"keepalived without an address", cps + "loadBalancer: {type: keepalived}", "", ""},
		{"external", cps + "controlPlaneEndpoint: lb.example.org", "lb.example.org:6443", "lb.example.org:6443"},
		// The last two are of clusters as kubeadm describes them, to which their load balancer was added.
		{"node-local, and an endpoint that kubeadm-config named", cps + "controlPlaneEndpoint: 10.0.0.1:6443\nloadBalancer: {type: node-local}", "10.0.0.1:6443", "127.0.0.1:6444"},
		{"keepalived, likewise", cps + "controlPlaneEndpoint: 10.0.0.9:6444\nloadBalancer: {type: keepalived, virtualIP: 10.0.0.9}", "10.0.0.9:6444", "10.0.0.9:6444"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, head+"spec:\n"+indent(tt.spec))
			SetDefaults(c)
			if got := c.Endpoint(); got != tt.endpoint {
				t.Errorf("Endpoint() = %q, want %q", got, tt.endpoint)
			}
			if got := c.NodeEndpoint(); got != tt.node {
				t.Errorf("NodeEndpoint() = %q, want %q", got, tt.node)
			}
		})
	}
}

// What node-local asks of the API servers is added once, behind what the user says, and what the user says stays.
func TestAPIServersBehindNodeLocal(t *testing.T) {
	none := Arg{Name: "endpoint-reconciler-type", Value: "none"}
	tests := []struct {
		name, spec string
		args       []Arg
		sans       []string
	}{
		{"added", "apiServer: {extraArgs: [{name: v, value: '2'}]}\ncertificates: {apiServerSANs: [api]}", []Arg{{Name: "v", Value: "2"}, none}, []string{"api", "127.0.0.1"}},
		{"there already", "apiServer: {extraArgs: [{name: endpoint-reconciler-type, value: none}, {name: v, value: '2'}]}\ncertificates: {apiServerSANs: [127.0.0.1, api]}",
			[]Arg{none, {Name: "v", Value: "2"}}, []string{"127.0.0.1", "api"}},
		{"IPv6", "networking: {podSubnet: 'fd00:244::/56', serviceSubnet: 'fd00:96::/112'}", []Arg{none}, []string{"::1"}},
		{"another type", "controlPlaneEndpoint: lb", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, head+"spec:\n"+indent(tt.spec+"\n"+hosts(2, 0)))
			SetDefaults(c)
			args, sans := slices.Clone(c.Spec.APIServer.ExtraArgs), slices.Clone(c.Spec.Certificates.APIServerSANs)
			if diff := cmp.Diff(tt.args, c.APIServerArgs()); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.sans, c.APIServerSANs()); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if !slices.Equal(args, c.Spec.APIServer.ExtraArgs) || !slices.Equal(sans, c.Spec.Certificates.APIServerSANs) {
				t.Error("the document itself was changed")
			}
		})
	}
}

// Each case is the spec of a document, from line 4 on, and every message that it gives.
func TestValidateLoadBalancer(t *testing.T) {
	tests := []struct{ name, spec, want string }{
		{"two control planes", `hosts: [{address: a, roles: [control-plane]}, {address: b, roles: [control-plane]}]`, ""},
		{"node-local with one", "loadBalancer: {type: node-local}\nhosts: [{roles: [control-plane]}]", ""},
		{"keepalived", "loadBalancer: {virtualIP: 192.0.2.10, interface: br-lan.10, routerID: 255, port: 8443}\nhosts: [{address: 192.0.2.1, roles: [control-plane]}]", ""},
		{"external", "loadBalancer: {type: external}\ncontrolPlaneEndpoint: lb", ""},
		{"no load balancer has no port", "apiServerPort: 6444\nhosts: [{roles: [control-plane]}]", ""},
		{"keepalived on IPv6", "loadBalancer: {virtualIP: 'fd00::9'}\nnetworking: {podSubnet: 'fd00:10:244::/56', serviceSubnet: 'fd00:10:96::/112'}", ""},

		{"type", `loadBalancer: {type: nodelocal, virtualIP: x}`, `4:17: spec.loadBalancer.type: "nodelocal" is not a type of load balancer; hint: did you mean node-local?`},
		{"another type", `loadBalancer: {type: metal}`, `4:17: spec.loadBalancer.type: "metal" is not a type of load balancer; hint: use node-local, keepalived or external`},
		{"external without an endpoint", `loadBalancer: {type: external}`, `4:17: spec.loadBalancer.type: the external load balancer has no address; hint: set spec.controlPlaneEndpoint`},
		{"an endpoint beside node-local", "controlPlaneEndpoint: lb\nloadBalancer: {type: node-local}", `4:2: spec.controlPlaneEndpoint: is for an external load balancer, and this one is of the type node-local; hint: remove it, or set loadBalancer.type: external`},
		{"an endpoint beside keepalived", "controlPlaneEndpoint: lb\nloadBalancer: {type: keepalived, virtualIP: 192.0.2.10}", `4:2: spec.controlPlaneEndpoint: is for an external load balancer, and this one is of the type keepalived; hint: remove it, or set loadBalancer.type: external`},
		{"port out of range", `loadBalancer: {port: 65536}`, `4:17: spec.loadBalancer.port: 65536 is not a port; hint: use 6444, or another from 1 to 65535`},
		{"port of another", `loadBalancer: {type: node-local, port: 2380}`, `4:35: spec.loadBalancer.port: 2380 is the port of etcd; hint: use 6444, or another that is free`},
		{"port of the API server", `loadBalancer: {type: node-local, port: 6443}`, `4:35: spec.loadBalancer.port: 6443 is the port of the API servers; hint: use another port than spec.apiServerPort`},
		{"the default is the port of the API server", "apiServerPort: 6444\nloadBalancer: {type: node-local}", `5:2: spec.loadBalancer.port: 6444 is the port of the API servers; hint: use another port than spec.apiServerPort`},
		{"port of its health", `loadBalancer: {type: node-local, port: 6445}`, `4:35: spec.loadBalancer.port: 6445 is the port of the load balancer's own health; hint: use 6444, or another that is free`},
		{"its health's port is the API server's", "apiServerPort: 6445\nloadBalancer: {type: node-local}", `4:2: spec.apiServerPort: 6445 is the port of the load balancer's health; hint: use 6443, or another that is free`},
		{"another reconciler", "loadBalancer: {type: node-local}\napiServer: {extraArgs: [{name: endpoint-reconciler-type, value: lease}]}", `5:59: spec.apiServer.extraArgs[0].value: with the type node-local only "none" works; hint: remove the flag`},

		{"keepalived without an address", `loadBalancer: {type: keepalived}`, `4:2: spec.loadBalancer.virtualIP: is missing; hint: write an address of the control planes' network that no host has`},
		{"a virtual IP that is a name", `loadBalancer: {virtualIP: api.example.org}`, `4:17: spec.loadBalancer.virtualIP: "api.example.org" is not an IP address; hint: write an address of the control planes' network that no host has`},
		{"a virtual IP with a zone", `loadBalancer: {virtualIP: "fe80::1%eth0"}`, `4:17: spec.loadBalancer.virtualIP: "fe80::1%eth0" is not an IP address; hint: write an address of the control planes' network that no host has`},
		{"a virtual IP of both families", `loadBalancer: {virtualIP: "::ffff:192.0.2.1"}`, `4:17: spec.loadBalancer.virtualIP: "::ffff:192.0.2.1" is not an IP address; hint: write an address of the control planes' network that no host has`},
		{"a virtual IP that goes nowhere", `loadBalancer: {virtualIP: 127.0.0.1}`, `4:17: spec.loadBalancer.virtualIP: 127.0.0.1 cannot be reached from other nodes; hint: write an address of the control planes' network that no host has`},
		{"a virtual IP of services", `loadBalancer: {virtualIP: 10.96.0.9}`, `4:17: spec.loadBalancer.virtualIP: 10.96.0.9 lies in the service subnet 10.96.0.0/16; hint: choose another serviceSubnet`},
		{"a virtual IP of a host", "loadBalancer: {virtualIP: 192.0.2.1}\nhosts: [{address: a, roles: [control-plane]}, {address: b, advertiseAddress: 192.0.2.1}]", `4:17: spec.loadBalancer.virtualIP: 192.0.2.1 is the address of hosts[1]; hint: choose one that no host has`},
		{"a virtual IP of another family", `loadBalancer: {virtualIP: "2001:db8::9"}`, `4:17: spec.loadBalancer.virtualIP: 2001:db8::9 is of another IP family than the primary service subnet 10.96.0.0/16; hint: use an address of the family of the hosts' addresses`},
		{"a virtual IP for nothing", `loadBalancer: {type: node-local, virtualIP: 192.0.2.10, interface: eth0}`, `
4:35: spec.loadBalancer.virtualIP: is for the type keepalived only; hint: remove it, or set type: keepalived
4:58: spec.loadBalancer.interface: is for the type keepalived only; hint: remove it, or set type: keepalived`},
		{"an interface that is a directive", `loadBalancer: {virtualIP: 192.0.2.10, interface: "eth0\n}"}`, `4:40: spec.loadBalancer.interface: "eth0\n}" is not the name of a network interface; hint: write its name as ` + "`ip link`" + ` shows it, such as eth0, or leave it out`},
		{"router", `loadBalancer: {routerID: 256}`, `4:17: spec.loadBalancer.routerID: 256 is not the number of a VRRP router; hint: use 51, or another number from 1 to 255 that no other VRRP router on the network has`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("c.yaml", []byte(head+"spec:\n"+indent(tt.spec)))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			checkMessages(t, Validate(c), tt.want)
		})
	}
}
