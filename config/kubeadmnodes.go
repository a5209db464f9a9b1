package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const controlPlaneTaint = "node-role.kubernetes.io/control-plane"

// kubeadmHost is what a document says of the node where kubeadm runs with it.
type kubeadmHost struct {
	d            *kubeadmDocument
	node         kubeadmNode
	api          kubeadmAPIEndpoint
	apiPath      string // where api is in d
	controlPlane bool
}

// named reports whether it is about one certain host.
func (n kubeadmHost) named() bool { return n.node.Name != "" || n.api.AdvertiseAddress != "" }

func (t *translation) kubeadmHosts() []kubeadmHost {
	var all []kubeadmHost
	if t.init != nil {
		all = append(all, kubeadmHost{t.init, t.initConfig.NodeRegistration, t.initConfig.LocalAPIEndpoint, "InitConfiguration.localAPIEndpoint", true})
	}
	for i, d := range t.joins {
		n := kubeadmHost{d: d, node: t.joinConfigs[i].NodeRegistration}
		if cp := t.joinConfigs[i].ControlPlane; cp != nil {
			n.api, n.apiPath, n.controlPlane = cp.LocalAPIEndpoint, "JoinConfiguration.controlPlane.localAPIEndpoint", true
		}
		all = append(all, n)
	}
	return all
}

// nodes lists the hosts: those of the documents and those that were given, the first to the first.
func (t *translation) nodes(given []Host) {
	all := t.kubeadmHosts()
	if len(all) == 0 {
		for i, h := range given {
			h.Roles = []Role{RoleWorker}
			if i == 0 {
				h.Roles = []Role{RoleControlPlane}
			}
			t.addHost(h, true)
		}
		return
	}
	last := all[len(all)-1]
	for i := range max(len(all), len(given)) {
		var n kubeadmHost
		switch {
		case i < len(all):
			n = all[i]
		case last.d.kind == "JoinConfiguration" && !last.named():
			n = last
		default:
			given[i].Roles = []Role{RoleWorker}
			t.addHost(given[i], true)
			continue
		}
		h, where := t.host(n, len(t.c.Spec.Hosts)), Host{}
		switch {
		case i < len(given):
			where = given[i]
		case h.AdvertiseAddress != "":
			where.Address = h.AdvertiseAddress
		case len(all) == 1 && n.controlPlane: // the machine where it runs, as kubeadm takes it
		case h.Name != "":
			where.Address = h.Name
		default:
			t.say(n.d, n.d.kind, "give it by --host user@address", "is about a node without a name and an address")
			continue
		}
		h.Address, h.SSH = where.Address, where.SSH
		t.addHost(h, i < len(given))
	}
}

// addHost appends a host; flag tells that its address was given by --host.
func (t *translation) addHost(h Host, flag bool) {
	if flag {
		t.c.GivenBy("--host", fmt.Sprintf("spec.hosts[%d].address", len(t.c.Spec.Hosts)))
	}
	t.c.Spec.Hosts = append(t.c.Spec.Hosts, h)
}

// host translates what is said of a node; index is its place in the list.
func (t *translation) host(n kubeadmHost, index int) Host {
	at, ours := n.d.kind+".nodeRegistration", fmt.Sprintf("spec.hosts[%d]", index)
	for theirs, field := range map[string]string{at + ".name": ".name", at + ".taints": ".taints", n.apiPath + ".advertiseAddress": ".advertiseAddress"} {
		t.note(n.d, theirs, ours+field)
	}
	h := Host{Name: n.node.Name, AdvertiseAddress: n.api.AdvertiseAddress, Roles: []Role{RoleWorker}, Taints: n.node.Taints}
	if n.controlPlane {
		h.Roles = []Role{RoleControlPlane}
	}
	usual := []corev1.Taint{{Key: controlPlaneTaint, Effect: corev1.TaintEffectNoSchedule}}
	if n.controlPlane && slices.Equal(h.Taints, usual) || !n.controlPlane && len(h.Taints) == 0 {
		h.Taints = nil // the default
	}
	if !t.takeSocket(n.node.CRISocket) {
		t.say(n.d, at+".criSocket", "", "is another than the cluster's, and in the document all hosts have the same socket, %s", t.c.Spec.Runtime.Socket)
	} else {
		t.note(n.d, at+".criSocket", "spec.runtime.socket")
	}
	t.bindPort(n)
	t.kubeletFlags(n, at, &h)
	return h
}

// bindPort takes over the port of the API servers, which is one for all.
func (t *translation) bindPort(n kubeadmHost) {
	port, first := n.api.BindPort, t.init == nil && len(t.c.Spec.Hosts) == 0
	switch {
	case !n.controlPlane:
	case n.d == t.init || first:
		if port != 0 && port != DefaultAPIServerPort {
			t.c.Spec.APIServerPort = port
			t.note(n.d, n.apiPath+".bindPort", "spec.apiServerPort")
		}
	case port != 0 && port != t.apiServerPort():
		t.say(n.d, n.apiPath+".bindPort", "", "is another than the first control plane's, and in the document all API servers have the port %d", t.apiServerPort())
	}
}

// kubeletFlags takes over those flags of a kubelet that a host has fields for.
func (t *translation) kubeletFlags(n kubeadmHost, at string, h *Host) {
	for i, a := range n.node.KubeletExtraArgs {
		path := fmt.Sprintf("%s.kubeletExtraArgs[%d]", at, i)
		switch {
		case a.Name == "node-labels" && takeLabels(h, a.Value):
			t.note(n.d, path+".value", fmt.Sprintf("spec.hosts[%d].labels", len(t.c.Spec.Hosts)))
		case a.Name == "node-ip" && takeNodeIP(h, a.Value):
			t.note(n.d, path+".value", fmt.Sprintf("spec.hosts[%d].advertiseAddress", len(t.c.Spec.Hosts)))
		default:
			t.say(n.d, path, "set the field of KubeletConfiguration for it under spec.kubelet, for all nodes", "the kubelet's flag %s has no place in the document", a.Name)
		}
	}
}

// takeLabels reads a=b,c=d; what is not that changes nothing.
func takeLabels(h *Host, list string) bool {
	labels := map[string]string{}
	for pair := range strings.SplitSeq(list, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return false
		}
		labels[key] = value
	}
	if h.Labels == nil {
		h.Labels = map[string]string{}
	}
	for key, value := range labels {
		h.Labels[key] = value
	}
	return true
}

// takeNodeIP takes the address at which other nodes reach this one, unless another has been said.
func takeNodeIP(h *Host, ip string) bool {
	if _, err := netip.ParseAddr(ip); err != nil || h.AdvertiseAddress != "" && h.AdvertiseAddress != ip {
		return false
	}
	h.AdvertiseAddress = ip
	return true
}
