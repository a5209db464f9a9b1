package manifests

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/myadm/myadm/config"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// MyadmConfigName is the ConfigMap in kube-system with what a joining node must know and kubeadm's ClusterConfiguration
// has no field for.
const MyadmConfigName = "myadm-config"

// Its keys.
const (
	networkPluginKey = "networkPlugin" // as in the document
	loadBalancerKey  = "loadBalancer"  // as in the document, with its defaults
	apiServersKey    = "apiServers"    // host:port of each, with commas between
)

// MyadmSettings is what that ConfigMap says. What it leaves out is zero.
type MyadmSettings struct {
	NetworkPlugin string
	LoadBalancer  config.LoadBalancer
	APIServers    []netip.AddrPort
}

// MyadmConfig is the ConfigMap, and the right of joining and joined nodes to read it.
func MyadmConfig(p Params) ([]*unstructured.Unstructured, error) {
	balancer, err := yaml.Marshal(p.Cluster.Spec.LoadBalancer)
	if err != nil {
		return nil, fmt.Errorf("render ConfigMap %s: %w", MyadmConfigName, err)
	}
	servers := make([]string, 0, len(p.APIServers))
	for _, s := range p.APIServers {
		servers = append(servers, s.Address.String())
	}
	access := grant{name: "myadm:nodes-myadm-config", namespace: metav1.NamespaceSystem,
		rules:    []rbacv1.PolicyRule{mayGet("configmaps", MyadmConfigName)},
		subjects: []rbacv1.Subject{group(NodeBootstrapGroup), group(nodesGroup)}}
	return objects(append([]runtime.Object{&corev1.ConfigMap{
		ObjectMeta: meta(metav1.NamespaceSystem, MyadmConfigName),
		Data: map[string]string{
			networkPluginKey: p.Cluster.Spec.Networking.Plugin,
			loadBalancerKey:  string(balancer),
			apiServersKey:    strings.Join(servers, ","),
		},
	}}, access.objects()...)...)
}

// ReadMyadmConfig reads the data of that ConfigMap. Keys and fields that it does not know are passed over, since a newer
// myadm may have written them; values that it does not know are errors. What it returns is fit to be rendered.
func ReadMyadmConfig(data map[string]string) (MyadmSettings, error) {
	s := MyadmSettings{NetworkPlugin: data[networkPluginKey]}
	fail := func(key string, err error) (MyadmSettings, error) {
		return MyadmSettings{}, fmt.Errorf("ConfigMap %s/%s: key %s: %w", metav1.NamespaceSystem, MyadmConfigName, key, err)
	}
	switch s.NetworkPlugin {
	case "", config.PluginFlannel, config.PluginNone:
	default:
		return fail(networkPluginKey, fmt.Errorf("%q is not a network plugin that this myadm knows; hint: use the myadm that made the cluster, or a newer one", s.NetworkPlugin))
	}
	if text := data[loadBalancerKey]; text != "" {
		if err := yaml.Unmarshal([]byte(text), &s.LoadBalancer); err != nil {
			return fail(loadBalancerKey, err)
		}
		if err := s.LoadBalancer.Validate(); err != nil {
			return fail(loadBalancerKey, err)
		}
	}
	if list := data[apiServersKey]; list != "" {
		for text := range strings.SplitSeq(list, ",") {
			server, err := apiServer(text)
			if err != nil {
				return fail(apiServersKey, fmt.Errorf("%q: %w", text, err))
			}
			s.APIServers = append(s.APIServers, server)
		}
	}
	return s, nil
}

// apiServer reads an address that nodes can reach. A zone would be another machine's, and may be any text.
func apiServer(text string) (netip.AddrPort, error) {
	server, err := netip.ParseAddrPort(text)
	switch addr := server.Addr(); {
	case err != nil:
		return netip.AddrPort{}, err
	case addr.Zone() != "" || addr.Is4In6() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast():
		return netip.AddrPort{}, errors.New("nodes cannot reach the address")
	case server.Port() == 0:
		return netip.AddrPort{}, errors.New("0 is not a port")
	}
	return server, nil
}
