package config

import (
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// ToKubeadm writes c, which has its defaults, as kubeadm's ClusterConfiguration: what the ConfigMap kubeadm-config keeps
// under that key, and what kubeadm reads when it joins a node or upgrades the cluster. What the load balancer asks of the
// API servers is in it, since kubeadm has no field for a load balancer.
func ToKubeadm(c *Cluster) ([]byte, error) {
	s := c.Spec
	k := clusterConfiguration{
		TypeMeta:                  metav1.TypeMeta{APIVersion: kubeadmVersion, Kind: "ClusterConfiguration"},
		APIServer:                 kubeadmAPIServer{Component: s.APIServer.forKubeadm(), CertSANs: c.APIServerSANs()},
		CACertificateValidity:     &s.Certificates.CAValidity,
		CertificateValidityPeriod: &s.Certificates.Validity,
		CertificatesDir:           PKIDir,
		ClusterName:               c.Metadata.Name,
		ControlPlaneEndpoint:      c.Endpoint(),
		ControllerManager:         s.ControllerManager.forKubeadm(),
		EncryptionAlgorithm:       s.Certificates.KeyAlgorithm,
		Etcd:                      s.Etcd.toKubeadm(),
		ImageRepository:           s.ImageRepository,
		KubernetesVersion:         s.KubernetesVersion,
		Scheduler:                 s.Scheduler.forKubeadm(),
	}
	k.APIServer.ExtraArgs = c.APIServerArgs()
	k.Networking.DNSDomain = s.Networking.DNSDomain
	k.Networking.PodSubnet = s.Networking.PodSubnet
	k.Networking.ServiceSubnet = s.Networking.ServiceSubnet
	data, err := yaml.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("encode kubeadm's ClusterConfiguration: %w", err)
	}
	return data, nil
}

func (e Etcd) toKubeadm() kubeadmEtcd {
	if e.External == nil {
		return kubeadmEtcd{Local: &kubeadmLocalEtcd{DataDir: e.DataDir, ExtraArgs: e.ExtraArgs, ExtraEnvs: e.ExtraEnvs}}
	}
	return kubeadmEtcd{External: &kubeadmExternalEtcd{Endpoints: e.External.Endpoints, CAFile: EtcdCACert, CertFile: EtcdClientCert, KeyFile: EtcdClientKey}}
}

// FromKubeadm sets in c what a kubeadm ClusterConfiguration says of a running cluster, and leaves alone what it does not
// say: of an external etcd's files, which are the operator's, it says only where the hosts have them. Unknown fields are
// passed over, since another release of kubeadm may have written them. The result is not validated.
func FromKubeadm(data []byte, c *Cluster) error {
	const what = "kubeadm's ClusterConfiguration"
	var k clusterConfiguration
	// Types change between versions, so the version comes first.
	if err := yaml.Unmarshal(data, &k.TypeMeta); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	if k.Kind != "ClusterConfiguration" || !strings.HasPrefix(k.APIVersion, "kubeadm.k8s.io/") {
		return errors.New("not " + what + "; hint: it is in the ConfigMap kube-system/kubeadm-config")
	}
	if k.APIVersion != kubeadmVersion {
		return fmt.Errorf("%s is of version %s; hint: upgrade the cluster with kubeadm until it writes %s", what, k.APIVersion, kubeadmVersion)
	}
	if err := yaml.Unmarshal(data, &k); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	k.into(c)
	return nil
}

// into sets in c what k says, and leaves alone what it does not say.
func (k *clusterConfiguration) into(c *Cluster) {
	s := &c.Spec
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&c.Metadata.Name, k.ClusterName},
		{&s.ControlPlaneEndpoint, k.ControlPlaneEndpoint},
		{&s.KubernetesVersion, k.KubernetesVersion},
		{&s.ImageRepository, k.ImageRepository},
		{&s.Certificates.KeyAlgorithm, k.EncryptionAlgorithm},
		{&s.Networking.DNSDomain, k.Networking.DNSDomain},
		{&s.Networking.PodSubnet, k.Networking.PodSubnet},
		{&s.Networking.ServiceSubnet, k.Networking.ServiceSubnet},
	} {
		if f.from != "" {
			*f.to = f.from
		}
	}
	if k.CACertificateValidity != nil {
		s.Certificates.CAValidity = *k.CACertificateValidity
	}
	if k.CertificateValidityPeriod != nil {
		s.Certificates.Validity = *k.CertificateValidityPeriod
	}
	if k.APIServer.CertSANs != nil {
		s.Certificates.APIServerSANs = k.APIServer.CertSANs
	}
	s.APIServer = s.APIServer.fromKubeadm(k.APIServer.Component)
	s.ControllerManager = s.ControllerManager.fromKubeadm(k.ControllerManager)
	s.Scheduler = s.Scheduler.fromKubeadm(k.Scheduler)
	if e := k.Etcd.Local; e != nil {
		s.Etcd = Etcd{DataDir: e.DataDir, ExtraArgs: e.ExtraArgs, ExtraEnvs: e.ExtraEnvs, Patch: s.Etcd.Patch}
	}
	if e := k.Etcd.External; e != nil {
		external := ptr.Deref(s.Etcd.External, ExternalEtcd{}) // a copy: c may share it with another document
		external.Endpoints = e.Endpoints
		s.Etcd.External = &external
	}
}
