package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
)

// LoadBalancer is what stands in front of the API servers, so that clients outlive the loss of one.
type LoadBalancer struct {
	Type      string `json:"type,omitempty"`      // node-local, keepalived or external; default: external with a controlPlaneEndpoint, keepalived with a virtualIP, node-local with several control planes, none with one
	Port      int32  `json:"port,omitempty"`      // where HAProxy listens on each host; default 6444
	VirtualIP string `json:"virtualIP,omitempty"` // for keepalived: an address that one of the control planes has at a time
	Interface string `json:"interface,omitempty"` // for keepalived: the network interface of the virtual IP; default: that of the advertise address
	RouterID  int    `json:"routerID,omitempty"`  // for keepalived: the VRRP router's number, which no other one on the network has; default 51
}

// The types of load balancer.
const (
	LoadBalancerNodeLocal  = "node-local" // HAProxy on every node, each for itself
	LoadBalancerKeepalived = "keepalived" // HAProxy on the control planes, and a virtual IP that moves between them
	LoadBalancerExternal   = "external"   // somebody else's, which controlPlaneEndpoint names
)

// The load balancer's ports. The second is HAProxy's own, for its health, on the loopback interface alone.
const (
	DefaultLoadBalancerPort = 6444
	LoadBalancerHealthPort  = 6445
	defaultRouterID         = 51
)

var loadBalancerTypes = []string{LoadBalancerNodeLocal, LoadBalancerKeepalived, LoadBalancerExternal}

// interfaceName is narrower than Linux, which takes nearly every byte: the name goes into keepalived's configuration.
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}$`)

// Balanced reports whether HAProxies of ours stand in front of the API servers.
func (l LoadBalancer) Balanced() bool {
	return l.Type == LoadBalancerNodeLocal || l.Type == LoadBalancerKeepalived
}

// Validate says what is wrong with a load balancer that has its defaults, as Errors whose paths are its fields. What the
// rest of a document has against it is for the function Validate to say.
func (l LoadBalancer) Validate() error {
	var errs Errors
	errorf := func(field, hint, format string, args ...any) {
		errs = append(errs, FieldError{Path: field, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if l.Type != "" && !slices.Contains(loadBalancerTypes, l.Type) {
		hint, _ := among(l.Type, loadBalancerTypes)
		errorf("type", hint, "%q is not a type of load balancer", l.Type)
		return errs
	}
	if l.Port < 1 || l.Port > 65535 {
		errorf("port", "use 6444, or another from 1 to 65535", "%d is not a port", l.Port)
	}
	if l.RouterID < 1 || l.RouterID > 255 { // one byte in VRRP's packets; 0 means nothing (RFC 5798)
		errorf("routerID", "use 51, or another number from 1 to 255 that no other VRRP router on the network has", "%d is not the number of a VRRP router", l.RouterID)
	}
	if l.Type != LoadBalancerKeepalived {
		for _, f := range []struct{ name, value string }{{"virtualIP", l.VirtualIP}, {"interface", l.Interface}} {
			if f.value != "" {
				errorf(f.name, "remove it, or set type: "+LoadBalancerKeepalived, "is for the type %s only", LoadBalancerKeepalived)
			}
		}
		return errs.err()
	}
	addr, err := netip.ParseAddr(l.VirtualIP)
	switch {
	case l.VirtualIP == "":
		errorf("virtualIP", "write an address of the control planes' network that no host has", "is missing")
	case err != nil || addr.Zone() != "" || addr.Is4In6():
		errorf("virtualIP", "write an address of the control planes' network that no host has", "%q is not an IP address", l.VirtualIP)
	case addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast():
		errorf("virtualIP", "write an address of the control planes' network that no host has", "%s cannot be reached from other nodes", addr)
	}
	if l.Interface != "" && !interfaceName.MatchString(l.Interface) {
		errorf("interface", "write its name as `ip link` shows it, such as eth0, or leave it out", "%q is not the name of a network interface", l.Interface)
	}
	return errs.err()
}

// fillLoadBalancer sets the load balancer's defaults. Its type follows from what the document says anyway: the endpoint of
// one that exists, a virtual IP, or several control planes. A lone one needs none.
func fillLoadBalancer(s *Spec) {
	l := &s.LoadBalancer
	controlPlanes := 0
	for _, h := range s.Hosts {
		if h.HasRole(RoleControlPlane) {
			controlPlanes++
		}
	}
	switch {
	case l.Type != "":
	case s.ControlPlaneEndpoint != "":
		l.Type = LoadBalancerExternal
	case l.VirtualIP != "":
		l.Type = LoadBalancerKeepalived
	case controlPlanes > 1:
		l.Type = LoadBalancerNodeLocal
	}
	fill(&l.Port, DefaultLoadBalancerPort)
	fill(&l.RouterID, defaultRouterID)
}
