package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	podSubnetPath     = "spec.networking.podSubnet"
	serviceSubnetPath = "spec.networking.serviceSubnet"
	portPath          = "spec.apiServerPort"
)

// The API server's limit (maxCIDRBits): a service subnet has at most 20 bits for addresses, /12 in IPv4 and /108 in IPv6.
// With fewer than 4 bits the tenth address, which is the DNS service's, would be missing.
const (
	maxServiceBits = 20
	minServiceBits = 4
)

// maxNodeBits is the controller manager's limit on how much longer a node's prefix is than the pod subnet's.
const maxNodeBits = 16

// taken are the ports of a control plane that are somebody else's than the API server's.
var taken = map[int32]string{
	EtcdClientPort: "etcd", EtcdPeerPort: "etcd", 2381: "etcd's metrics",
	10248: "the kubelet's health", 10249: "kube-proxy's metrics", 10250: "the kubelet",
	10256: "kube-proxy's health", 10257: "the controller manager", 10259: "the scheduler",
}

var plugins = []string{PluginFlannel, PluginNone}

func (v *validator) networking() {
	n := v.c.Spec.Networking
	pods := v.subnets(podSubnetPath, n.PodSubnet)
	services := v.subnets(serviceSubnetPath, n.ServiceSubnet)
	for _, s := range services {
		largest := s.Addr().BitLen() - maxServiceBits
		smallest := s.Addr().BitLen() - minServiceBits
		switch {
		case s.Bits() < largest:
			v.errorf(serviceSubnetPath, fmt.Sprintf("use a /%d or a smaller one", largest), "%s is larger than the API server takes", s)
		case s.Bits() > smallest:
			v.errorf(serviceSubnetPath, fmt.Sprintf("use a /%d or a larger one", smallest), "%s has no tenth address for the cluster's DNS", s)
		}
		if !slices.ContainsFunc(pods, func(p netip.Prefix) bool { return sameFamily(p.Addr(), s.Addr()) }) && len(pods) > 0 {
			v.errorf(serviceSubnetPath, "add a pod subnet of the same IP family", "%s has no pods that could serve it: the pod subnet is %s", s, n.PodSubnet)
		}
		for _, p := range pods {
			if p.Overlaps(s) {
				v.errorf(serviceSubnetPath, "choose networks that share no address, such as 10.244.0.0/16 and 10.96.0.0/16", "%s overlaps the pod subnet %s", s, p)
			}
		}
	}
	for _, p := range pods {
		v.nodeRoom(p)
	}
	v.dnsName("spec.networking.dnsDomain", n.DNSDomain)
	if hint, ok := among(n.Plugin, plugins); !ok {
		v.errorf("spec.networking.plugin", hint, "%q is not a network plugin that myadm installs", n.Plugin)
	}
	for i, m := range n.Manifests {
		at := fmt.Sprintf("spec.networking.manifests[%d]", i)
		switch {
		case m == "":
			v.errorf(at, "name a file", "is empty")
		case strings.Contains(m, "://"):
			v.errorf(at, "download it and name the file", "%q is a URL and not a file", m)
		}
	}
}

// subnets parses one network, or one of each IP family with a comma between them.
func (v *validator) subnets(path, list string) []netip.Prefix {
	var out []netip.Prefix
	for s := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(s)
		switch {
		case strings.ContainsAny(s, " \t"):
			v.errorf(path, "write it without spaces", "%q has a space in it", list)
			return nil
		case err != nil || p.Addr().Is4In6():
			v.errorf(path, "write a network as ADDRESS/BITS, such as 10.244.0.0/16 or fd00:10:244::/48", "%q is not a network", s)
			return nil
		case p != p.Masked():
			v.errorf(path, "write "+p.Masked().String(), "%s is an address in a network and not a network", p)
			return nil
		}
		out = append(out, p)
	}
	if len(out) > 2 || len(out) == 2 && sameFamily(out[0].Addr(), out[1].Addr()) {
		v.errorf(path, "give one network, or an IPv4 and an IPv6 one", "%q is not a dual-stack pair", list)
		return nil
	}
	return out
}

// nodeRoom checks that the pod subnet has a part for each node. The controller manager cuts it into /24 (IPv6: /64) unless
// it is told otherwise by its own flags.
func (v *validator) nodeRoom(pods netip.Prefix) {
	node, flags := 24, []string{"node-cidr-mask-size-ipv4", "node-cidr-mask-size"}
	if pods.Addr().Is6() {
		node, flags = 64, []string{"node-cidr-mask-size-ipv6", "node-cidr-mask-size"}
	}
	for i, a := range v.c.Spec.ControllerManager.ExtraArgs {
		if !slices.Contains(flags, a.Name) {
			continue
		}
		n, err := strconv.Atoi(a.Value)
		if err != nil || n < 1 || n > pods.Addr().BitLen() {
			v.errorf(fmt.Sprintf("spec.controllerManager.extraArgs[%d].value", i), "", "%q is not the length of a prefix", a.Value)
			return
		}
		node = n
	}
	bits, hosts := node-pods.Bits(), len(v.c.Spec.Hosts)
	switch {
	case bits < 0:
		v.errorf(podSubnetPath, fmt.Sprintf("use a /%d or a larger one", max(node-8, 1)), "%s has no room for one node, which takes a /%d", pods, node)
	case bits > maxNodeBits:
		v.errorf(podSubnetPath, fmt.Sprintf("use a /%d or a smaller one, or set the controller manager's %s", node-maxNodeBits, flags[0]),
			"%s is too large to be cut into a /%d for each node", pods, node)
	case hosts > 1<<bits:
		v.errorf(podSubnetPath, "use a larger one", "%s has room for %d nodes of a /%d, and there are %d hosts", pods, 1<<bits, node, hosts)
	}
}

func (v *validator) endpoint() {
	port := v.c.Spec.APIServerPort
	switch who, ok := taken[port]; {
	case port < 1 || port > 65535:
		v.errorf(portPath, "use 6443, or another from 1 to 65535", "%d is not a port", port)
	case ok:
		v.errorf(portPath, "use 6443, or another that is free", "%d is the port of %s", port, who)
	}
	s := v.c.Spec.ControlPlaneEndpoint
	if s == "" {
		return
	}
	const path = "spec.controlPlaneEndpoint"
	if _, rest, ok := strings.Cut(s, "://"); ok {
		v.errorf(path, "write "+strings.TrimRight(rest, "/"), "%q is a URL", s)
		return
	}
	host, _, err := splitEndpoint(s)
	if err != nil || !isHostName(host) {
		v.errorf(path, "write host or host:port, with an IPv6 address in brackets: lb.example.org:6443, [fd00::1]:6443", "%q is not an endpoint", s)
	}
}

// isHostName reports an IP address or a DNS name. What looks like an IPv4 address but is none is not a name either.
func isHostName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	numeric := last != "" && strings.Trim(last, "0123456789") == ""
	return !numeric && len(validation.IsDNS1123Subdomain(s)) == 0
}

func sameFamily(a, b netip.Addr) bool { return a.Is4() == b.Is4() }
