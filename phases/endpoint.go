package phases

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// Endpoint lets the objects of the cluster follow its control planes: what myadm knows of them, and, with the node-local
// load balancer, the way of pods to the API.
func Endpoint(c *cluster.Cluster) workflow.Phase {
	return objectPhase(c, "endpoint", "let the cluster's objects name its API servers", func(ctx context.Context) ([]*unstructured.Unstructured, error) {
		settings, err := manifests.MyadmConfig(params(c))
		if err != nil || c.Config.Spec.LoadBalancer.Type != config.LoadBalancerNodeLocal {
			return settings, err
		}
		nodes, err := endpointNodes(ctx, c)
		if err != nil {
			return nil, err
		}
		endpoints, err := manifests.APIEndpoints(params(c), nodes)
		return slices.Concat(settings, endpoints), err
	})
}

// balancerPods are the mirror pods of HAProxy, by which a node is known to have one.
var balancerPods = kube.Selector{APIVersion: "v1", Kind: "Pod", Namespace: "kube-system", Labels: "component=" + manifests.HAProxyName}

// endpointNodes are the nodes with a load balancer, in order of name: the document's, and those that joined without it.
func endpointNodes(ctx context.Context, c *cluster.Cluster) ([]manifests.EndpointNode, error) {
	byName := map[string]netip.Addr{}
	if client, err := c.Kube(ctx); err == nil {
		if byName, err = balancedNodes(ctx, client); err != nil {
			return nil, err
		}
	}
	for _, h := range c.Config.Spec.Hosts {
		if addr, err := netip.ParseAddr(h.AdvertiseAddress); err == nil && h.Name != "" {
			byName[h.Name] = addr
		}
	}
	for _, h := range c.Leaving {
		delete(byName, h.Name)
	}
	nodes := make([]manifests.EndpointNode, 0, len(byName))
	for name, addr := range byName {
		nodes = append(nodes, manifests.EndpointNode{Name: name, Address: addr})
	}
	slices.SortFunc(nodes, func(a, b manifests.EndpointNode) int { return strings.Compare(a.Name, b.Name) })
	return nodes, nil
}

// balancedNodes are the nodes that the cluster itself knows to have a load balancer: by the mirror pod, which may come a
// minute after the node, or by an earlier run of this phase.
func balancedNodes(ctx context.Context, r kube.Reader) (map[string]netip.Addr, error) {
	byName := map[string]netip.Addr{}
	note := func(node, address string) {
		if addr, err := netip.ParseAddr(address); err == nil {
			byName[node] = addr
		}
	}
	nodes, err := r.List(ctx, kube.Selector{APIVersion: "v1", Kind: "Node"})
	if err != nil {
		return nil, err
	}
	there := map[string]bool{} // what is left of a node outlives it
	for _, n := range nodes {
		there[n.GetName()] = true
	}
	slice, err := kube.Get[discoveryv1.EndpointSlice](ctx, r, kube.Ref{
		APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice", Namespace: "default", Name: "kubernetes",
	})
	switch {
	case err == nil:
		for _, e := range slice.Endpoints {
			if e.NodeName != nil && there[*e.NodeName] && len(e.Addresses) > 0 {
				note(*e.NodeName, e.Addresses[0])
			}
		}
	case !kube.NotFound(err):
		return nil, err
	}
	pods, err := kube.List[corev1.Pod](ctx, r, balancerPods)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if there[pod.Spec.NodeName] {
			note(pod.Spec.NodeName, pod.Status.HostIP)
		}
	}
	return byName, nil
}
