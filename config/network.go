package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// PodSubnets are the pods' networks, one for each IP family, the primary one first. What Validate would refuse is left out.
func (c *Cluster) PodSubnets() []netip.Prefix { return prefixes(c.Spec.Networking.PodSubnet) }

// ServiceSubnets are the services' networks, likewise.
func (c *Cluster) ServiceSubnets() []netip.Prefix { return prefixes(c.Spec.Networking.ServiceSubnet) }

// APIServerServiceIP is the address of the Service default/kubernetes: the first of the primary service subnet.
// It is the zero Addr when there is no valid service subnet.
func (c *Cluster) APIServerServiceIP() netip.Addr { return nth(c.ServiceSubnets(), 1) }

// DNSServiceIP is the address of the cluster's DNS: the tenth of the primary service subnet, as in every kubeadm cluster.
// It is the zero Addr when there is no valid service subnet.
func (c *Cluster) DNSServiceIP() netip.Addr { return nth(c.ServiceSubnets(), 10) }

// Endpoint is the host:port at which people and joining hosts reach the cluster's API: the document's, or the virtual IP,
// or the first control plane's advertise address (or its address, if that is an IP). It is empty while none of them is
// known. IPv6 addresses stand in brackets.
func (c *Cluster) Endpoint() string {
	port := c.Spec.APIServerPort
	if port == 0 {
		port = DefaultAPIServerPort
	}
	if c.Spec.ControlPlaneEndpoint != "" {
		host, explicit, err := splitEndpoint(c.Spec.ControlPlaneEndpoint)
		if err != nil {
			return ""
		}
		if explicit != 0 {
			port = explicit
		}
		return hostPort(host, port)
	}
	if l := c.Spec.LoadBalancer; l.Type == LoadBalancerKeepalived {
		if addr, err := netip.ParseAddr(l.VirtualIP); err == nil {
			return hostPort(addr.String(), l.Port)
		}
		return ""
	}
	for _, h := range c.Spec.Hosts {
		if !h.HasRole(RoleControlPlane) {
			continue
		}
		for _, candidate := range []string{h.AdvertiseAddress, h.Address} {
			if addr, err := netip.ParseAddr(candidate); err == nil {
				return hostPort(addr.String(), port)
			}
		}
		return ""
	}
	return ""
}

// NodeEndpoint is the host:port at which nodes and what runs on them reach the API: the node's own load balancer where
// each has one, else Endpoint. c has its defaults.
func (c *Cluster) NodeEndpoint() string {
	if l := c.Spec.LoadBalancer; l.Type == LoadBalancerNodeLocal {
		return hostPort(c.loopback(), l.Port)
	}
	return c.Endpoint()
}

// loopback is the loopback address of the primary IP family, which is also that of the advertise addresses.
func (c *Cluster) loopback() string {
	if c.APIServerServiceIP().Is6() {
		return "::1"
	}
	return "127.0.0.1"
}

// APIServerArgs are the API servers' extra arguments: the document's and, when the nodes' own load balancers are what the
// Service default/kubernetes leads to, one that keeps the API servers from writing themselves there instead.
func (c *Cluster) APIServerArgs() []Arg {
	args := c.Spec.APIServer.ExtraArgs
	given := slices.ContainsFunc(args, func(a Arg) bool { return a.Name == endpointReconciler })
	if c.Spec.LoadBalancer.Type != LoadBalancerNodeLocal || given {
		return args
	}
	return append(slices.Clone(args), Arg{Name: endpointReconciler, Value: noReconciler})
}

// The API server's flag for who keeps the endpoints of the Service default/kubernetes, and its value for nobody.
const (
	endpointReconciler = "endpoint-reconciler-type"
	noReconciler       = "none"
)

// APIServerSANs are the further names in the API servers' certificates: the document's, and the address of the nodes' own
// load balancers, where there are such.
func (c *Cluster) APIServerSANs() []string {
	names := c.Spec.Certificates.APIServerSANs
	if c.Spec.LoadBalancer.Type != LoadBalancerNodeLocal || slices.Contains(names, c.loopback()) {
		return names
	}
	return append(slices.Clone(names), c.loopback())
}

func hostPort(host string, port int32) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }

// splitEndpoint takes host, host:port, an IPv6 address with or without brackets, or [IPv6]:port. The port is 0 if not given.
func splitEndpoint(s string) (host string, port int32, err error) {
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return addr.String(), 0, nil
	}
	if !strings.Contains(s, ":") {
		return s, 0, nil
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q is not a port", digits)
	}
	return host, int32(n), nil
}

func prefixes(list string) []netip.Prefix {
	var out []netip.Prefix
	for s := range strings.SplitSeq(list, ",") {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// nth is the address n after the first network's own.
func nth(networks []netip.Prefix, n int) netip.Addr {
	if len(networks) == 0 {
		return netip.Addr{}
	}
	addr := networks[0].Addr()
	for range n {
		addr = addr.Next()
	}
	return addr
}
