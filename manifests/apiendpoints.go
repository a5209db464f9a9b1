package manifests

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	kubernetesName = "kubernetes"     // the API's Service in the namespace default, and its endpoints
	apiServersName = "kube-apiserver" // the headless Service of the API servers themselves, in kube-system
	httpsPort      = "https"
)

// maxEndpoints is the API server's limit on one EndpointSlice.
const maxEndpoints = 1000

// EndpointNode is a node with a load balancer of its own.
type EndpointNode struct {
	Name    string
	Address netip.Addr
}

// APIEndpoints are the ways to the API inside of a cluster whose nodes each have a load balancer, in place of what API
// servers write there themselves when they are not told to leave it (config.Cluster.APIServerArgs).
//
// The Service default/kubernetes leads pods to the load balancer of their own node: every endpoint carries a hint that
// names its node, which kube-proxy follows as long as all have one, and on a node without an endpoint it takes any. The
// Endpoints of that name, which people and older clients read, list the API servers themselves; the label keeps the
// controller manager from making slices of it. The headless Service is what HAProxy looks up to find API servers that it
// has not been told of.
func APIEndpoints(p Params, nodes []EndpointNode) ([]*unstructured.Unstructured, error) {
	if len(nodes) > maxEndpoints {
		return nil, fmt.Errorf("%d nodes are more than the %d that an EndpointSlice takes; hint: choose another spec.loadBalancer.type", len(nodes), maxEndpoints)
	}
	if len(p.APIServers) == 0 {
		return nil, errors.New("no API server is known to lead clients to")
	}
	spec := p.Cluster.Spec
	family := discoveryv1.AddressTypeIPv4
	if p.Cluster.APIServerServiceIP().Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  labelled(metav1.NamespaceDefault, kubernetesName, map[string]string{discoveryv1.LabelServiceName: kubernetesName}),
		AddressType: family,
		Ports:       []discoveryv1.EndpointPort{{Name: new(httpsPort), Port: new(spec.LoadBalancer.Port), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints:   []discoveryv1.Endpoint{},
	}
	for _, n := range nodes {
		if n.Address.Is6() != (family == discoveryv1.AddressTypeIPv6) {
			return nil, fmt.Errorf("%s: %s is not of the primary IP family, %s; hint: set hosts[].advertiseAddress", n.Name, n.Address, family)
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{n.Address.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			NodeName:   new(n.Name),
			Hints:      &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: n.Name}}},
		})
	}
	servers := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: httpsPort, Port: spec.APIServerPort, Protocol: corev1.ProtocolTCP}}} //nolint:staticcheck // what the API servers keep up in other clusters is kept up here, as long as it is asked for
	for _, s := range p.APIServers {
		servers.Addresses = append(servers.Addresses, corev1.EndpointAddress{IP: s.Address.Addr().String()})
	}
	return objects(
		&corev1.Endpoints{ //nolint:staticcheck // what the API servers keep up in other clusters is kept up here, as long as it is asked for
			ObjectMeta: labelled(metav1.NamespaceDefault, kubernetesName, map[string]string{discoveryv1.LabelSkipMirror: "true"}),
			Subsets:    []corev1.EndpointSubset{servers}, //nolint:staticcheck // what the API servers keep up in other clusters is kept up here, as long as it is asked for
		},
		slice,
		&corev1.Service{
			ObjectMeta: meta(metav1.NamespaceSystem, apiServersName),
			Spec: corev1.ServiceSpec{
				ClusterIP: corev1.ClusterIPNone,
				Selector:  map[string]string{"component": APIServerName, "tier": "control-plane"},
				Ports: []corev1.ServicePort{{
					Name: httpsPort, Port: spec.APIServerPort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(spec.APIServerPort),
				}},
			},
		},
	)
}
