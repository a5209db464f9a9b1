package upgrade

import (
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
)

// Target is what a cluster is to be upgraded to.
type Target struct {
	Version string        // of Kubernetes, vX.Y.Z
	Force   bool          // an older patch release will do
	Images  config.Images // of that version
	Bundle  string        // the version that the bundle is of; empty: what hosts lack is fetched when it is needed
}

// TargetOf is a version with what goes with it in a cluster, whatever version c's document has. A version that myadm does not
// know is an error.
func TargetOf(c *cluster.Cluster, version string, force bool) (Target, error) {
	document := *c.Config
	document.Spec.KubernetesVersion = version
	images, err := config.ImagesOf(&document)
	if err != nil {
		return Target{}, err
	}
	to := Target{Version: version, Force: force, Images: images}
	if c.Bundle != nil {
		to.Bundle = c.Bundle.Index.KubernetesVersion
	}
	return to, nil
}
