package config

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// SetDefaults fills every field that was left out. Fields with a value stay, also where the value is an empty list, and
// so does everything whose default is found on the hosts (names, advertise addresses, what ssh_config says).
func SetDefaults(c *Cluster) {
	fill(&c.APIVersion, APIVersion)
	fill(&c.Kind, Kind)
	fill(&c.Metadata.Name, "kubernetes")

	s := &c.Spec
	fill(&s.KubernetesVersion, Newest)
	fill(&s.APIServerPort, DefaultAPIServerPort)
	fill(&s.Networking.PodSubnet, "10.244.0.0/16")
	fill(&s.Networking.ServiceSubnet, "10.96.0.0/16")
	fill(&s.Networking.DNSDomain, "cluster.local")
	fill(&s.Networking.Plugin, PluginFlannel)
	fill(&s.Certificates.KeyAlgorithm, KeyECDSAP256)
	fill(&s.Certificates.CAValidity, metav1.Duration{Duration: 87600 * time.Hour})
	fill(&s.Certificates.Validity, metav1.Duration{Duration: 8760 * time.Hour})
	fill(&s.Etcd.DataDir, EtcdDataDir)
	if s.DNS.Replicas == nil {
		s.DNS.Replicas = ptr.To[int32](2)
	}
	fill(&s.Runtime.Type, RuntimeContainerd)
	fill(&s.Runtime.Socket, ContainerdSocket)
	fill(&s.ImageRepository, DefaultImageRepository)
	fill(&s.Artifacts.Delivery, DeliveryAuto)
	for i := range s.Hosts {
		if s.Hosts[i].Roles == nil {
			s.Hosts[i].Roles = []Role{RoleWorker}
		}
	}
	for _, component := range c.components() {
		for i := range component.ExtraVolumes {
			if v := &component.ExtraVolumes[i]; v.File != "" {
				fill(&v.PathType, corev1.HostPathFile) // so that no component starts without it, also where nobody has placed it
			}
		}
	}
	fillLoadBalancer(s)
}

// fill sets *p to def when it has no value.
func fill[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

// withDefaults is c with its defaults; c itself stays as it is.
func (c *Cluster) withDefaults() *Cluster {
	d := *c
	d.Spec.Hosts = slices.Clone(d.Spec.Hosts)
	for _, component := range d.components() {
		component.ExtraVolumes = slices.Clone(component.ExtraVolumes)
	}
	SetDefaults(&d)
	return &d
}
