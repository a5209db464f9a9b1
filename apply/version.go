package apply

import (
	"context"
	"fmt"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

// CheckVersion refuses a document of another Kubernetes version than that of the cluster that there is: changing it takes
// more than placing files.
func CheckVersion(ctx context.Context, c *cluster.Cluster, founder *cluster.Node) error {
	infos, err := founder.Stat(ctx, manifests.StaticPodPath(manifests.APIServerName))
	if err != nil || !infos[0].Exists {
		return err
	}
	data, err := founder.ReadFile(ctx, manifests.StaticPodPath(manifests.APIServerName))
	if err != nil {
		return fmt.Errorf("%s: %w", founder.Name(), err)
	}
	have, err := manifests.PodImage(data)
	if err != nil {
		return fmt.Errorf("%s: %s is no pod; hint: remove it, and the phase control-plane writes it anew", founder.Name(), manifests.StaticPodPath(manifests.APIServerName))
	}
	images, err := config.ImagesOf(c.Config)
	if err != nil {
		return err
	}
	if have != images.APIServer {
		return fmt.Errorf("the cluster runs %s, and the document wants %s; hint: init does not change the version, `myadm apply` and `myadm upgrade apply` do; to stay, write that of the cluster, as a label such as stable moves", have, images.APIServer)
	}
	return nil
}
