package config

import "strings"

// Images is the full reference of each image of a cluster.
type Images struct {
	Etcd              string
	APIServer         string
	ControllerManager string
	Scheduler         string
	Proxy             string
	CoreDNS           string
	Pause             string
	Flannel           string // empty when the network plugin is another
}

// All lists the references, those of the control plane first.
func (i Images) All() []string {
	all := []string{i.Etcd, i.APIServer, i.ControllerManager, i.Scheduler, i.CoreDNS, i.Proxy, i.Pause}
	if i.Flannel != "" {
		all = append(all, i.Flannel)
	}
	return all
}

// ImagesOf names the images of a Cluster that has its defaults. Names are kubeadm's: registry.k8s.io keeps CoreDNS one
// folder deeper than any other repository does. Flannel comes from its own home unless the repository is another than
// the default, which is then taken to mirror everything.
func ImagesOf(c *Cluster) (Images, error) {
	v, err := VersionsOf(c.Spec.KubernetesVersion)
	if err != nil {
		return Images{}, err
	}
	repository := c.Spec.ImageRepository
	tag := strings.ReplaceAll(c.Spec.KubernetesVersion, "+", "_") // a tag cannot hold a semver's build metadata
	images := Images{
		Etcd:              repository + "/etcd:" + v.Etcd,
		APIServer:         repository + "/kube-apiserver:" + tag,
		ControllerManager: repository + "/kube-controller-manager:" + tag,
		Scheduler:         repository + "/kube-scheduler:" + tag,
		Proxy:             repository + "/kube-proxy:" + tag,
		CoreDNS:           repository + "/coredns:" + v.CoreDNS,
		Pause:             repository + "/pause:" + v.Pause,
	}
	flannel := repository
	if repository == DefaultImageRepository {
		images.CoreDNS = repository + "/coredns/coredns:" + v.CoreDNS
		flannel = "docker.io/flannel"
	}
	if c.Spec.Networking.Plugin == PluginFlannel {
		images.Flannel = flannel + "/flannel:" + FlannelVersion
	}
	return images, nil
}
