// Package manifests renders everything that myadm places on a host or in the cluster, except certificates and
// kubeconfigs: static pods, the kubelet's and kube-proxy's configuration, systemd units, containerd's configuration,
// kernel settings, addons, RBAC and ConfigMaps.
//
// It is pure. Configuration goes in; a host.File or objects for server-side apply come out, and the same input always
// gives the same bytes, so that a phase finds out what is left to do by comparing. Nothing is read from a host here:
// what differs between hosts is in Node.
//
// What is rendered for a default cluster equals what kubeadm v1.37 renders, and a test compares the two. Where a host's
// files are not part of that contract they carry a mark (see Marked), so that reset removes ours and nobody else's.
package manifests

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// Params is what is the same on all hosts.
type Params struct {
	Cluster *config.Cluster // with defaults, validated
	Images  config.Images

	// Endpoint is the host:port at which people and joining hosts reach the API: what certificates and kubeconfigs say too.
	Endpoint string

	// NodeEndpoint is the host:port at which nodes, and what runs on them, reach the API.
	NodeEndpoint string

	// APIServers are those of all control planes, in order of name.
	APIServers []Backend
}

// Backend is where a control plane's API server listens.
type Backend struct {
	Name    string // the node's, or another that is the API server's alone
	Address netip.AddrPort
}

// Node is what differs between hosts.
type Node struct {
	Name             string     // the Node object's name
	AdvertiseAddress netip.Addr // where other nodes reach this one; on a control plane, its API server and etcd too

	// CADirs are those of CADirs() that exist on the host. They are mounted into the components that verify outside TLS
	// servers.
	CADirs []string

	// Interface is the network interface that has the advertise address; for Keepalived alone.
	Interface string

	// ResolvConf is the resolver configuration for pods that inherit the host's; empty for the kubelet's default,
	// /etc/resolv.conf. With systemd-resolved it is ResolvedConf.
	ResolvConf string

	// InitialCluster are all members of the etcd that this node joins, itself included; empty for the first one.
	InitialCluster []Member
}

// Member is a member of etcd.
type Member struct {
	Name    string
	PeerURL string // https://address:2380
}

// ResolvedConf is where systemd-resolved keeps the real nameservers. /etc/resolv.conf names its stub on the loopback
// interface instead, which a pod cannot reach.
const ResolvedConf = "/run/systemd/resolve/resolv.conf"

const (
	fileMode   fs.FileMode = 0o644
	secretMode fs.FileMode = 0o600
)

// loopback is the loopback address of the family that the node advertises.
func (n Node) loopback() string {
	if n.AdvertiseAddress.Is6() {
		return "::1"
	}
	return "127.0.0.1"
}

// hostPort joins address and port, with brackets around an IPv6 address.
func hostPort(address string, port int32) string {
	return net.JoinHostPort(address, strconv.Itoa(int(port)))
}

// yamlFile renders v with sorted keys.
func yamlFile(path string, mode fs.FileMode, v any) (host.File, error) {
	data, err := yaml.Marshal(v)
	if err != nil {
		return host.File{}, fmt.Errorf("render %s: %w", path, err)
	}
	return host.File{Path: path, Mode: mode, Data: data}, nil
}

// object decodes a YAML document that is a mapping. Integers become int64, as unstructured objects have them.
func object(data []byte) (map[string]any, error) {
	raw, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	return m, nil
}

// merge lays over upon base, mapping by mapping: what over says wins, written-out zeros, empty lists and nulls included.
// Lists are replaced as a whole. Neither argument is changed, but the result shares their lists.
func merge(base, over map[string]any) map[string]any {
	out := make(map[string]any, len(base)+len(over))
	for k, v := range base {
		out[k] = v
	}
	for k, v := range over {
		below, isMap := out[k].(map[string]any)
		above, areMaps := v.(map[string]any)
		if isMap && areMaps {
			v = merge(below, above)
		}
		out[k] = v
	}
	return out
}
