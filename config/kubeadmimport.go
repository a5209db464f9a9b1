package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ReadKubeadm makes a Cluster of a file of kubeadm's, which may hold several documents of v1beta4. hosts are where SSH
// reaches the machines: the first is the one that InitConfiguration is about, the next ones those of the JoinConfigurations,
// in their order; further ones are what a last JoinConfiguration without a name and an address says, or else workers.
//
// What kubeadm takes when a field is left out is written out where myadm would take something else. What has no counterpart
// is in untranslated, each with its line, and so is what Validate has against the result: it is a document, but not always
// a valid one. What serves one run of kubeadm alone to find and trust the cluster (discovery, certificate keys) is left
// out, since with a document nobody needs it.
//
// Unknown fields, wrong types and other versions of kubeadm's documents are errors, of type Errors.
func ReadKubeadm(name string, data []byte, hosts []Host) (c *Cluster, untranslated Errors, err error) {
	f, err := readKubeadmFile(name, data)
	if err != nil {
		return nil, nil, err
	}
	t := &translation{
		kubeadmFile: f,
		c:           &Cluster{APIVersion: APIVersion, Kind: Kind, source: &source{file: name, at: map[string]position{}}},
		origin:      map[string]string{},
	}
	t.leftOut()
	t.clusterWide()
	t.nodes(hosts)
	t.endpoint()
	t.components()
	t.judge()
	t.strip()
	t.c.source = nil
	_ = t.found.err() // sorts
	return t.c, t.found, nil
}

// translation is a file of kubeadm's on its way into a Cluster.
type translation struct {
	*kubeadmFile
	c      *Cluster
	origin map[string]string // the path in kubeadm's document, by that in ours
	found  Errors
}

// say adds something about the field at a path (with the kind) of d, or the nearest one around it.
func (t *translation) say(d *kubeadmDocument, path, hint, format string, args ...any) {
	s := &source{file: t.name, at: d.at}
	t.found = append(t.found, s.place(FieldError{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint}))
}

// note remembers that what is at ours and below comes from what is at theirs (with the kind) in d.
func (t *translation) note(d *kubeadmDocument, theirs, ours string) {
	for path, at := range d.at {
		if rest, ok := strings.CutPrefix(path, theirs); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			t.c.source.at[ours+rest] = at
			t.origin[ours+rest] = path
		}
	}
}

// counterparts are the fields of ClusterConfiguration by those of ours that have the same value.
var counterparts = []struct{ theirs, ours string }{
	{"clusterName", "metadata.name"},
	{"kubernetesVersion", "spec.kubernetesVersion"},
	{"controlPlaneEndpoint", "spec.controlPlaneEndpoint"},
	{"imageRepository", "spec.imageRepository"},
	{"networking", "spec.networking"},
	{"encryptionAlgorithm", "spec.certificates.keyAlgorithm"},
	{"caCertificateValidityPeriod", "spec.certificates.caValidity"},
	{"certificateValidityPeriod", "spec.certificates.validity"},
	{"apiServer.certSANs", "spec.certificates.apiServerSANs"},
	{"apiServer", "spec.apiServer"},
	{"controllerManager", "spec.controllerManager"},
	{"scheduler", "spec.scheduler"},
	{"etcd.local", "spec.etcd"},
	{"etcd.external", "spec.etcd.external"},
}

// clusterWide takes over what all nodes share, and writes out what kubeadm takes when it is not said.
// Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/
func (t *translation) clusterWide() {
	s := &t.c.Spec
	if t.cluster != nil {
		t.clusterConfig.into(t.c)
		for _, p := range counterparts {
			t.note(t.cluster, "ClusterConfiguration."+p.theirs, p.ours)
		}
		if e := t.clusterConfig.Etcd.External; e != nil {
			s.Etcd = Etcd{External: &ExternalEtcd{Endpoints: e.Endpoints, CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile}}
		}
	}
	fill(&t.c.Metadata.Name, "kubernetes")
	if _, err := ParseVersion("v" + s.KubernetesVersion); err == nil { // kubeadm takes 1.37.2, too
		s.KubernetesVersion = "v" + s.KubernetesVersion
	}
	if t.cluster == nil && t.init == nil {
		return // nodes that join a cluster: how that is, is not said
	}
	fill(&s.Certificates.KeyAlgorithm, KeyRSA2048)
	fill(&s.Networking.ServiceSubnet, "10.96.0.0/12")
	s.Networking.Plugin = PluginNone // kubeadm leaves it to the user
	if s.Networking.PodSubnet == "" {
		d, path := t.cluster, "ClusterConfiguration.networking.podSubnet"
		if d == nil {
			d, path = t.init, "InitConfiguration"
		}
		t.say(d, path, "set networking.podSubnet to the network plugin's", "is not given: kubeadm leaves pods' addresses to the network plugin then, and myadm gives nodes parts of its default, 10.244.0.0/16")
	}
}

// endpoint tells an endpoint that is a host of the cluster from one that is a load balancer.
func (t *translation) endpoint() {
	s := &t.c.Spec
	if t.nodeLocal() || s.ControlPlaneEndpoint == "" {
		return
	}
	address, port, err := splitEndpoint(s.ControlPlaneEndpoint)
	if err != nil || port != 0 && port != t.apiServerPort() {
		return
	}
	controlPlanes := 0
	var is *Host
	for i, h := range s.Hosts {
		if !h.HasRole(RoleControlPlane) {
			continue
		}
		controlPlanes++
		if address == h.AdvertiseAddress || address == h.Address {
			is = &s.Hosts[i]
		}
	}
	if is == nil {
		return
	}
	if controlPlanes > 1 {
		t.say(t.cluster, "ClusterConfiguration.controlPlaneEndpoint", "name your load balancer in the document, or leave it so",
			"is the address of one control plane, %s: in the document every node has a load balancer of its own instead", is.Address)
	}
	s.ControlPlaneEndpoint = ""
}

// nodeLocal finds by what ToKubeadm writes for them that the nodes have load balancers of their own.
func (t *translation) nodeLocal() bool {
	s := &t.c.Spec
	none := slices.Index(s.APIServer.ExtraArgs, Arg{Name: endpointReconciler, Value: noReconciler})
	san := slices.Index(s.Certificates.APIServerSANs, t.c.loopback())
	if none < 0 || san < 0 {
		return false
	}
	s.APIServer.ExtraArgs = slices.Delete(slices.Clone(s.APIServer.ExtraArgs), none, none+1)
	s.Certificates.APIServerSANs = slices.Delete(slices.Clone(s.Certificates.APIServerSANs), san, san+1)
	s.LoadBalancer.Type, s.ControlPlaneEndpoint = LoadBalancerNodeLocal, ""
	return true
}

func (t *translation) apiServerPort() int32 {
	if p := t.c.Spec.APIServerPort; p != 0 {
		return p
	}
	return DefaultAPIServerPort
}

// components takes over the configuration of the kubelet and of kube-proxy, without what their types do not tell from
// nothing: kubeadm writes that out.
func (t *translation) components() {
	s := &t.c.Spec
	for _, of := range []struct {
		d  *kubeadmDocument
		to *map[string]any
		at string
	}{{t.kubelet, &s.Kubelet, "spec.kubelet"}, {t.proxy, &s.KubeProxy, "spec.kubeProxy"}} {
		if of.d == nil {
			continue
		}
		t.note(of.d, of.d.kind, of.at)
		*of.to = withoutZeros(of.d.tree, of.d.fields)
	}
	if socket, ok := s.Kubelet["containerRuntimeEndpoint"].(string); ok && t.takeSocket(socket) {
		delete(s.Kubelet, "containerRuntimeEndpoint")
	}
	if dns := t.c.withDefaults().DNSServiceIP(); dns.IsValid() && reflect.DeepEqual(s.Kubelet["clusterDNS"], []any{dns.String()}) {
		delete(s.Kubelet, "clusterDNS")
	}
}

// judge has Validate look at the result, and tells what it finds by kubeadm's paths.
func (t *translation) judge() {
	var errs Errors
	if !errors.As(Validate(t.c), &errs) {
		return
	}
	for _, e := range errs {
		for path := e.Path; path != ""; path = parent(path) {
			if theirs, ok := t.origin[path]; ok {
				e.Path = theirs + strings.TrimPrefix(e.Path, path)
				break
			}
		}
		t.found = append(t.found, e)
	}
}

// strip removes what follows from the rest of the document: judge has told where it is something else.
func (t *translation) strip() {
	s := &t.c.Spec
	for _, of := range []struct {
		args  *[]Arg
		owned map[string]string
	}{
		{&s.APIServer.ExtraArgs, ownedByAPIServer}, {&s.ControllerManager.ExtraArgs, ownedByControllerManager}, {&s.Etcd.ExtraArgs, ownedByEtcd},
	} {
		*of.args = slices.DeleteFunc(slices.Clone(*of.args), func(a Arg) bool { _, ok := of.owned[a.Name]; return ok })
	}
	whole := t.c.withDefaults().Spec
	without := func(given map[string]any, fields []fixed) {
		maps.DeleteFunc(given, func(name string, _ any) bool {
			return slices.ContainsFunc(fields, func(f fixed) bool { return f.name == name })
		})
	}
	without(s.Kubelet, kubeletFixed(whole))
	without(s.KubeProxy, kubeProxyFixed(whole))
	if connection, ok := s.KubeProxy["clientConnection"].(map[string]any); ok {
		if without(connection, connectionFixed); len(connection) == 0 {
			delete(s.KubeProxy, "clientConnection")
		}
	}
}

// takeSocket sets the runtime from a CRI endpoint; false means that another one has been set. The containerd where kubeadm
// looks for one first is also where myadm's own would be, which is then left to bring it.
func (t *translation) takeSocket(endpoint string) bool {
	r := &t.c.Spec.Runtime
	socket := strings.TrimPrefix(endpoint, "unix://")
	if rest, ok := strings.CutPrefix(socket, "/var/run/"); ok { // a link to /run
		socket = "/run/" + rest
	}
	have := r.Socket
	fill(&have, ContainerdSocket)
	switch {
	case socket == have || socket == "":
		return true
	case r.Socket != "":
		return false
	}
	*r = Runtime{Type: RuntimeExisting, Socket: socket}
	return true
}
