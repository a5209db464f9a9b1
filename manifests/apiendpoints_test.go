package manifests_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func endpointNodes(addresses ...string) []manifests.EndpointNode {
	var nodes []manifests.EndpointNode
	for i, a := range addresses {
		nodes = append(nodes, manifests.EndpointNode{Name: fmt.Sprintf("n-%d", i+1), Address: netip.MustParseAddr(a)})
	}
	return nodes
}

func TestAPIEndpointsGolden(t *testing.T) {
	for name, objects := range map[string][]*unstructured.Unstructured{
		"ipv4": must[[]*unstructured.Unstructured](t)(manifests.APIEndpoints(balancedCluster(t), endpointNodes("10.89.0.11", "10.89.0.21"))),
		"ipv6": must[[]*unstructured.Unstructured](t)(manifests.APIEndpoints(balancedCluster(t, ipv6), endpointNodes("fd00::11"))),
	} {
		var docs [][]byte
		for _, u := range objects {
			docs = append(docs, must[[]byte](t)(yaml.Marshal(u.Object)))
		}
		golden(t, "api-endpoints/"+name+".yaml", host.File{Data: bytes.Join(docs, []byte("---\n"))})
	}
}

func TestAPIEndpointsRefuses(t *testing.T) {
	p := balancedCluster(t)
	for want, nodes := range map[string][]manifests.EndpointNode{
		"n-2: fd00::1 is not of the primary IP family, IPv4; hint: ":          endpointNodes("10.89.0.11", "fd00::1"),
		"1001 nodes are more than the 1000 that an EndpointSlice takes; hint": make([]manifests.EndpointNode, 1001),
	} {
		if _, err := manifests.APIEndpoints(p, nodes); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	p.APIServers = nil
	if _, err := manifests.APIEndpoints(p, endpointNodes("10.89.0.11")); err == nil {
		t.Error("no API servers: the cluster's own way to its API would be cut")
	}
}
