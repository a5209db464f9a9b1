package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
)

// Learn reads what the cluster says of itself into the document: versions, networks, the endpoint, the load balancer and
// the API servers are the cluster's, whatever the document says of them. ours reports whether the cluster has what myadm
// keeps there for itself. Of one that kubeadm made and myadm has not touched, the network plugin is not ours, and an
// endpoint is somebody else's load balancer.
func (c *Cluster) Learn(ctx context.Context, r kube.Reader) (ours bool, err error) {
	spec := &c.Config.Spec
	kubeadm, err := systemConfigMap(ctx, r, manifests.KubeadmConfigName)
	if err != nil {
		return false, err
	}
	spec.ControlPlaneEndpoint = ""
	if err := config.FromKubeadm([]byte(kubeadm.Data[manifests.KubeadmConfigKey]), c.Config); err != nil {
		return false, fmt.Errorf("ConfigMap kube-system/%s: %w", manifests.KubeadmConfigName, err)
	}
	mine, err := systemConfigMap(ctx, r, manifests.MyadmConfigName)
	if kube.NotFound(err) {
		spec.Networking.Plugin, spec.LoadBalancer = config.PluginNone, config.LoadBalancer{Port: config.DefaultLoadBalancerPort}
		if spec.ControlPlaneEndpoint != "" {
			spec.LoadBalancer.Type = config.LoadBalancerExternal
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	settings, err := manifests.ReadMyadmConfig(mine.Data)
	if err != nil {
		return false, err // it names the ConfigMap
	}
	spec.Networking.Plugin, spec.LoadBalancer, c.Learned = settings.NetworkPlugin, settings.LoadBalancer, settings.APIServers
	return true, nil
}

func systemConfigMap(ctx context.Context, r kube.Reader, name string) (*corev1.ConfigMap, error) {
	return kube.Get[corev1.ConfigMap](ctx, r, kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: name})
}
