package certs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Settings is what certificates say of a cluster and of one of its nodes, in general a control plane.
type Settings struct {
	NodeName         string       // the node's
	AdvertiseAddress netip.Addr   // where other nodes reach it
	ServiceIPs       []netip.Addr // the API's service address: the first of the service subnet, of each family
	DNSDomain        string       // cluster.local
	ClusterName      string       // in kubeconfigs
	Endpoint         string       // host:port, the controlPlaneEndpoint; empty: LocalEndpoint
	LocalEndpoint    string       // host:port of this control plane's own API server
	SANs             []string     // further names and addresses of the API server

	KeyAlgorithm string        // of new keys: ECDSA-P256, ECDSA-P384, RSA-2048, RSA-3072 or RSA-4096
	CAValidity   time.Duration // of new authorities
	Validity     time.Duration // of new certificates, at most until their authority ends

	// First is the control plane that the cluster starts with. Only there authorities and the service account key are
	// made (others are given them: a second CA would be a second cluster), and super-admin.conf.
	First bool

	// ExternalEtcd is an etcd that somebody else runs. Its authority, and a certificate with its key for the API servers,
	// are given: nothing of etcd is made, and what does not serve is an error.
	ExternalEtcd bool
}

// validate returns all that is wrong with the settings at once.
func (s Settings) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("certificates: "+format, args...))
		}
	}
	check(isDNSName(s.NodeName), "node name %q is not a DNS name", s.NodeName)
	check(s.DNSDomain == "" || isDNSName(s.DNSDomain), "DNS domain %q is not a DNS name", s.DNSDomain)
	check(s.ClusterName != "", "the cluster has no name")
	check(s.AdvertiseAddress.IsValid() && s.AdvertiseAddress.Zone() == "", "advertise address %q is not an address", s.AdvertiseAddress)
	check(len(s.ServiceIPs) > 0, "the service subnet has no address")
	for _, ip := range s.ServiceIPs {
		check(ip.IsValid() && ip.Zone() == "", "service address %q is not an address", ip)
	}
	check(s.Endpoint == "" || isName(host(s.Endpoint)), "control plane endpoint %q is not host:port", s.Endpoint)
	check(isName(host(s.LocalEndpoint)), "local endpoint %q is not host:port", s.LocalEndpoint)
	for _, san := range s.SANs {
		check(isName(san), "SAN %q is neither a DNS name nor an address", san)
	}
	check(algorithms[s.KeyAlgorithm] != nil, "unknown key algorithm %q", s.KeyAlgorithm)
	check(s.CAValidity > 0, "the CA's validity %s is not positive", s.CAValidity)
	check(s.Validity > 0, "the validity %s is not positive", s.Validity)
	return errors.Join(errs...)
}

// endpoint is the host:port that clients of the whole cluster use.
func (s Settings) endpoint() string {
	if s.Endpoint == "" {
		return s.LocalEndpoint
	}
	return s.Endpoint
}

// host returns the host of a host:port, without the brackets of an IPv6 address; empty when it is not one.
func host(endpoint string) string {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil || port == "" {
		return ""
	}
	return host
}

// isName tells whether a certificate can carry the name as a SAN.
func isName(name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Zone() == ""
	}
	return isDNSName(name) || len(validation.IsWildcardDNS1123Subdomain(name)) == 0
}

func isDNSName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }
