package phases

import (
	"net"
	"strconv"
	"strings"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

// params are what manifests needs of the document. The images are those of a version that validation has accepted.
func params(c *cluster.Cluster) manifests.Params {
	images, _ := config.ImagesOf(c.Config)
	p := manifests.Params{Cluster: c.Config, Images: images, Endpoint: c.Config.Endpoint(), NodeEndpoint: c.Config.NodeEndpoint()}
	for _, server := range c.APIServers() {
		p.APIServers = append(p.APIServers, manifests.Backend{Name: server.Addr().String(), Address: server})
	}
	return p
}

// KubeletConfig renders the KubeletConfiguration that the document makes for all nodes.
func KubeletConfig(c *cluster.Cluster) func() ([]byte, error) {
	return func() ([]byte, error) { return manifests.KubeletConfig(params(c)) }
}

// nodeOf is what manifests needs of a host.
func nodeOf(n *cluster.Node) manifests.Node {
	node := manifests.Node{Name: n.Spec.Name, AdvertiseAddress: n.AdvertiseAddress(), Interface: n.Facts.Interfaces[n.AdvertiseAddress()]}
	if strings.HasPrefix(n.Facts.ResolvConf, "/run/systemd/resolve/") {
		node.ResolvConf = manifests.ResolvedConf
	}
	return node
}

// adminEndpoint is what the administrator's kubeconfig on a control plane names: the endpoint that people know, or else
// the control plane's own API server.
func adminEndpoint(c *cluster.Cluster, n *cluster.Node) string {
	switch c.Config.Spec.LoadBalancer.Type {
	case config.LoadBalancerExternal, config.LoadBalancerKeepalived:
		return c.Config.Endpoint()
	}
	return localEndpoint(c, n)
}

// localEndpoint is a control plane's own API server.
func localEndpoint(c *cluster.Cluster, n *cluster.Node) string {
	return net.JoinHostPort(n.Spec.AdvertiseAddress, strconv.Itoa(int(c.Config.Spec.APIServerPort)))
}
