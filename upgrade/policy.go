// Package upgrade decides which versions may meet in a cluster.
package upgrade

import (
	"fmt"

	"github.com/Masterminds/semver/v3"
)

// maxKubeletSkew is how many minors a kubelet may be older than the API server.
// Source: https://kubernetes.io/releases/version-skew-policy/#kubelet
const maxKubeletSkew = 3

// CheckKubelet tells whether a kubelet may join an API server: it is not newer, and at most three minors older. Both
// versions are as Kubernetes writes them, v1.37.2.
func CheckKubelet(apiServer, kubelet string) error {
	api, err := semver.NewVersion(apiServer)
	if err != nil {
		return fmt.Errorf("API server version %q: %w", apiServer, err)
	}
	node, err := semver.NewVersion(kubelet)
	if err != nil {
		return fmt.Errorf("kubelet version %q: %w", kubelet, err)
	}
	switch {
	case node.Major() > api.Major(), node.Major() == api.Major() && node.Minor() > api.Minor():
		return fmt.Errorf("kubelet %s is newer than the API server %s; hint: upgrade the control plane first, or use a bundle of %s", kubelet, apiServer, apiServer)
	case node.Major() < api.Major(), node.Minor()+maxKubeletSkew < api.Minor():
		return fmt.Errorf("kubelet %s is more than %d minors older than the API server %s; hint: use a bundle of %s", kubelet, maxKubeletSkew, apiServer, apiServer)
	}
	return nil
}
