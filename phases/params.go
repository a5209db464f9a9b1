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
	return manifests.Params{Cluster: c.Config, Images: images, Endpoint: c.Config.Endpoint()}
}

// nodeOf is what manifests needs of a host.
func nodeOf(n *cluster.Node) manifests.Node {
	node := manifests.Node{Name: n.Spec.Name, AdvertiseAddress: n.AdvertiseAddress()}
	if strings.HasPrefix(n.Facts.ResolvConf, "/run/systemd/resolve/") {
		node.ResolvConf = manifests.ResolvedConf
	}
	return node
}

// localEndpoint is a control plane's own API server.
func localEndpoint(c *cluster.Cluster, n *cluster.Node) string {
	return net.JoinHostPort(n.Spec.AdvertiseAddress, strconv.Itoa(int(c.Config.Spec.APIServerPort)))
}
