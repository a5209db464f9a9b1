package certs

import (
	"crypto/x509"
	"net/netip"
	"slices"

	"github.com/myadm/myadm/config"
)

// identity is what a certificate says of its holder.
type identity struct {
	cn     string                  // common name
	node   bool                    // the node's name follows cn
	org    string                  // organization, which Kubernetes takes for a group; empty: none
	usages []x509.ExtKeyUsage      // none: an authority
	sans   func(Settings) []string // DNS names and addresses in order, maybe twice; nil: none
}

// commonName is the whole common name.
func (id identity) commonName(s Settings) string {
	if id.node {
		return id.cn + s.NodeName
	}
	return id.cn
}

// organization is the subject's O: one, or none.
func (id identity) organization() []string {
	if id.org == "" {
		return nil
	}
	return []string{id.org}
}

// names are the SANs in order, each once and addresses in their canonical form.
func (id identity) names(s Settings) []string {
	if id.sans == nil {
		return nil
	}
	var names []string
	for _, name := range id.sans(s) {
		if addr, err := netip.ParseAddr(name); err == nil {
			name = addr.Unmap().String()
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// certificate is a certificate with its key, each in a file of its own.
type certificate struct {
	name string // as kubeadm calls it
	base string // its files below the PKI folder, without .crt and .key
	ca   string // the name of the authority that signs it; empty: it is one, and signs itself
	identity
}

func (c certificate) isCA() bool       { return c.ca == "" }
func (c certificate) certPath() string { return config.PKIDir + "/" + c.base + ".crt" }
func (c certificate) keyPath() string  { return config.PKIDir + "/" + c.base + ".key" }

// kubeconfig is a file that tells a client of the API where it is, whom to trust, and who the client is.
type kubeconfig struct {
	name  string
	path  string
	local bool // points at this host's own API server, not at the control plane's endpoint
	first bool // only on the control plane that the cluster starts with

	// current is the file where the client keeps the certificate that it renews by itself: the kubelet's. The kubelet
	// prefers it to what the kubeconfig embeds. Empty: the client renews nothing.
	current string
	identity
}

// server is the URL of the API for the client.
func (k kubeconfig) server(s Settings) string {
	if k.local {
		return "https://" + s.LocalEndpoint
	}
	return "https://" + s.endpoint()
}

var (
	serverAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	clientAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}

	// etcd's server wants to be a client too: it dials itself with its own certificate.
	bothAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

var usageNames = map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "server", x509.ExtKeyUsageClientAuth: "client"}

// The authorities that are asked for by name: that of the API and its clients, and that of etcd, which an external etcd
// has of its own.
const (
	rootCA = "ca"
	etcdCA = "etcd-ca"
)

// The key pair of service account tokens: the controller manager signs with one half, API servers verify with the other.
const (
	saKey = config.PKIDir + "/sa.key"
	saPub = config.PKIDir + "/sa.pub"
)

// certificates is the PKI. An authority comes before what it signs.
var certificates = []certificate{
	{rootCA, "ca", "", identity{cn: "kubernetes"}},
	{"apiserver", "apiserver", rootCA, identity{cn: "kube-apiserver", usages: serverAuth, sans: apiserverSANs}},
	{"apiserver-kubelet-client", "apiserver-kubelet-client", rootCA, identity{cn: "kube-apiserver-kubelet-client", usages: clientAuth}},

	{"front-proxy-ca", "front-proxy-ca", "", identity{cn: "front-proxy-ca"}},
	{"front-proxy-client", "front-proxy-client", "front-proxy-ca", identity{cn: "front-proxy-client", usages: clientAuth}},

	{etcdCA, "etcd/ca", "", identity{cn: "etcd-ca"}},
	{"etcd-server", "etcd/server", etcdCA, identity{node: true, usages: bothAuth, sans: etcdSANs}},
	{"etcd-peer", "etcd/peer", etcdCA, identity{node: true, usages: bothAuth, sans: etcdSANs}},
	{"etcd-healthcheck-client", "etcd/healthcheck-client", etcdCA, identity{cn: "kube-etcd-healthcheck-client", usages: clientAuth}},
	{"apiserver-etcd-client", "apiserver-etcd-client", etcdCA, identity{cn: "kube-apiserver-etcd-client", usages: clientAuth}},
}

// nodeUser is how the names of nodes' users begin.
// Source: https://kubernetes.io/docs/reference/access-authn-authz/node/
const nodeUser = "system:node:"

// kubeletConf is the kubelet's, the one that workers have too. There it points at the endpoint.
var kubeletConf = kubeconfig{name: "kubelet.conf", path: config.KubeletConf, local: true, current: config.KubeletClientCert,
	identity: identity{cn: nodeUser, node: true, org: "system:nodes", usages: clientAuth}}

// kubeconfigs are the API's clients on a control plane. The root CA signs for all of them.
var kubeconfigs = []kubeconfig{
	{name: "admin.conf", path: config.AdminConf,
		identity: identity{cn: "kubernetes-admin", org: "kubeadm:cluster-admins", usages: clientAuth}},
	{name: "super-admin.conf", path: config.SuperAdminConf, first: true,
		identity: identity{cn: "kubernetes-super-admin", org: "system:masters", usages: clientAuth}},
	kubeletConf,
	{name: "controller-manager.conf", path: config.ControllerManagerConf, local: true,
		identity: identity{cn: "system:kube-controller-manager", usages: clientAuth}},
	{name: "scheduler.conf", path: config.SchedulerConf, local: true,
		identity: identity{cn: "system:kube-scheduler", usages: clientAuth}},
}

// apiserverSANs are the names by which the API server is called: from pods by its Service, from nodes by its address or
// the endpoint, and by what the user added.
func apiserverSANs(s Settings) []string {
	names := []string{s.NodeName, "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	if s.DNSDomain != "" {
		names = append(names, "kubernetes.default.svc."+s.DNSDomain)
	}
	for _, ip := range s.ServiceIPs {
		names = append(names, ip.String())
	}
	return append(append(names, s.AdvertiseAddress.String(), host(s.endpoint())), s.SANs...)
}

// etcdSANs are the names by which an etcd is called: by its peers and by the API server beside it.
func etcdSANs(s Settings) []string {
	return []string{s.NodeName, "localhost", s.AdvertiseAddress.String(), "127.0.0.1", "::1"}
}
