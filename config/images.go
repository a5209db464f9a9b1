package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Images is the full reference of each image of a cluster.
type Images struct {
	Etcd              string // empty when etcd is somebody else's
	APIServer         string
	ControllerManager string
	Scheduler         string
	Proxy             string
	CoreDNS           string
	Pause             string
	Flannel           string // empty when the network plugin is another
	HAProxy           string // empty when no load balancer of ours is in front of the API servers
	Keepalived        string // empty without a virtual IP
}

// All lists the references that the cluster needs, those of the control plane first.
func (i Images) All() []string {
	all := []string{i.Etcd, i.APIServer, i.ControllerManager, i.Scheduler, i.CoreDNS, i.Proxy, i.Pause, i.Flannel, i.HAProxy, i.Keepalived}
	return slices.DeleteFunc(all, func(ref string) bool { return ref == "" })
}

// ImagesOf names the images of a Cluster that has its defaults. Names are kubeadm's: registry.k8s.io keeps CoreDNS one
// folder deeper than any other repository does. Flannel, HAProxy and keepalived come from their own homes unless
// the repository is another than the default, which is then taken to mirror everything.
func ImagesOf(c *Cluster) (Images, error) {
	v, err := VersionsOf(c.Spec.KubernetesVersion)
	if err != nil {
		return Images{}, err
	}
	repository := c.Spec.ImageRepository
	tag := strings.ReplaceAll(c.Spec.KubernetesVersion, "+", "_") // a tag cannot hold a semver's build metadata
	images := Images{
		APIServer:         repository + "/kube-apiserver:" + tag,
		ControllerManager: repository + "/kube-controller-manager:" + tag,
		Scheduler:         repository + "/kube-scheduler:" + tag,
		Proxy:             repository + "/kube-proxy:" + tag,
		CoreDNS:           repository + "/coredns:" + v.CoreDNS,
		Pause:             repository + "/pause:" + v.Pause,
	}
	if c.Spec.Etcd.External == nil {
		images.Etcd = repository + "/etcd:" + v.Etcd
	}
	flannel, haproxy, keepalived := repository, repository, repository
	if repository == DefaultImageRepository {
		images.CoreDNS = repository + "/coredns/coredns:" + v.CoreDNS
		flannel, haproxy, keepalived = "docker.io/flannel", "docker.io/library", "docker.io/osixia"
	}
	if c.Spec.Networking.Plugin == PluginFlannel {
		images.Flannel = flannel + "/flannel:" + FlannelVersion
	}
	if c.Spec.LoadBalancer.Balanced() {
		images.HAProxy = haproxy + "/haproxy:" + HAProxyVersion
	}
	if c.Spec.LoadBalancer.Type == LoadBalancerKeepalived {
		images.Keepalived = keepalived + "/keepalived:" + KeepalivedVersion
	}
	return images, nil
}

// CheckImageRepository tells whether images can be kept in a repository: it is as in spec.imageRepository.
func CheckImageRepository(text string) error {
	if !repository.MatchString(text) {
		return fmt.Errorf("%q is not an image repository; hint: write host[:port]/folder without scheme, tag or slash at the end, such as %s", text, DefaultImageRepository)
	}
	return nil
}

// InRepository is where a repository other than the default has an image, by its reference elsewhere: all images are side
// by side there, registry.k8s.io/coredns/coredns:v1.14.6 as REPOSITORY/coredns:v1.14.6.
func InRepository(repository, image string) string { return repository + "/" + path.Base(image) }
