package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const loadBalancerPath = "spec.loadBalancer"

// loadBalancer checks what the load balancer says itself, and against the rest of the document.
func (v *validator) loadBalancer() {
	s := v.c.Spec
	l := s.LoadBalancer
	var own Errors
	if errors.As(l.Validate(), &own) {
		for _, e := range own {
			v.errorf(loadBalancerPath+"."+e.Path, e.Hint, "%s", e.Message)
		}
	}
	const endpoint = "spec.controlPlaneEndpoint"
	switch {
	case l.Type == LoadBalancerExternal && s.ControlPlaneEndpoint == "":
		v.errorf(loadBalancerPath+".type", "set "+endpoint, "the external load balancer has no address")
	case l.Balanced() && s.ControlPlaneEndpoint != "":
		v.errorf(endpoint, "remove it, or set loadBalancer.type: "+LoadBalancerExternal, "is for an external load balancer, and this one is of the type %s", l.Type)
	}
	if l.Balanced() {
		v.balancerPorts(l.Port, s.APIServerPort)
	}
	if l.Type == LoadBalancerNodeLocal {
		v.endpointReconciler()
	}
	if addr, err := netip.ParseAddr(l.VirtualIP); err == nil && len(own) == 0 {
		v.virtualIP(addr)
	}
}

// balancerPorts keeps the load balancer's ports and the API server's apart: a control plane has all of them.
func (v *validator) balancerPorts(port, api int32) {
	const path = loadBalancerPath + ".port"
	who, isTaken := taken[port]
	switch {
	case isTaken:
		v.errorf(path, "use 6444, or another that is free", "%d is the port of %s", port, who)
	case port == api:
		v.errorf(path, "use another port than spec.apiServerPort", "%d is the port of the API servers", port)
	case port == LoadBalancerHealthPort:
		v.errorf(path, "use 6444, or another that is free", "%d is the port of the load balancer's own health", port)
	}
	if api == LoadBalancerHealthPort {
		v.errorf(portPath, "use 6443, or another that is free", "%d is the port of the load balancer's health", api)
	}
}

// endpointReconciler refuses a flag by which API servers would take the load balancers out of the Service
// default/kubernetes again and again.
func (v *validator) endpointReconciler() {
	for i, a := range v.c.Spec.APIServer.ExtraArgs {
		if a.Name == endpointReconciler && a.Value != noReconciler {
			v.errorf(fmt.Sprintf("spec.apiServer.extraArgs[%d].value", i), "remove the flag", "with the type %s only %q works", LoadBalancerNodeLocal, noReconciler)
		}
	}
}

// virtualIP checks that the address is nobody's yet, and that VRRP packets between the hosts can carry it.
func (v *validator) virtualIP(addr netip.Addr) {
	const path = loadBalancerPath + ".virtualIP"
	v.notInSubnets(path, addr)
	if services := v.c.ServiceSubnets(); len(services) > 0 && !sameFamily(addr, services[0].Addr()) {
		v.errorf(path, "use an address of the family of the hosts' addresses", "%s is of another IP family than the primary service subnet %s", addr, services[0])
	}
	for i, h := range v.c.Spec.Hosts {
		for _, text := range []string{h.AdvertiseAddress, h.Address} {
			if own, err := netip.ParseAddr(text); err == nil && own == addr {
				v.errorf(path, "choose one that no host has", "%s is the address of hosts[%d]", addr, i)
				break
			}
		}
	}
}

// externalEtcd checks an etcd that somebody else runs. What is said of the stacked one beside it would be without effect.
func (v *validator) externalEtcd(e Etcd) {
	const path, stacked = "spec.etcd", "remove it, or external"
	x := e.External
	if e.DataDir != EtcdDataDir {
		v.errorf(path+".dataDir", stacked, "is for the stacked etcd only")
	}
	if len(e.ExtraArgs) > 0 {
		v.errorf(path+".extraArgs", stacked, "is for the stacked etcd only")
	}
	if len(e.ExtraEnvs) > 0 {
		v.errorf(path+".extraEnvs", stacked, "is for the stacked etcd only")
	}
	if len(x.Endpoints) == 0 {
		v.errorf(path+".external.endpoints", "write https://host:port of each member", "is missing")
	}
	for i, text := range x.Endpoints {
		at := fmt.Sprintf("%s.external.endpoints[%d]", path, i)
		switch {
		case !isEtcdURL(text):
			v.errorf(at, "write https://host:port, such as https://etcd-1.example.org:2379", "%q is not the URL of an etcd member", text)
		case slices.Contains(x.Endpoints[:i], text):
			v.errorf(at, "keep one of them", "%s is here twice", text)
		}
	}
	for _, f := range []struct{ name, file string }{{"caFile", x.CAFile}, {"certFile", x.CertFile}, {"keyFile", x.KeyFile}} {
		at := path + ".external." + f.name
		switch {
		case f.file == "":
			v.errorf(at, "name a file: the API servers show etcd a certificate, and verify its own", "is missing")
		case strings.Contains(f.file, "://"):
			v.errorf(at, "download it and name the file", "%q is a URL and not a file", f.file)
		}
	}
}

// isEtcdURL reports https://host:port and nothing more, a comma least of all: the API server's flag has them between several.
func isEtcdURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port > 0 && isHostName(u.Hostname()) && text == "https://"+u.Host
}
