package config

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The only version that kubeadm 1.36 and 1.37 write.
const (
	kubeadmGroup   = "kubeadm.k8s.io"
	kubeadmVersion = kubeadmGroup + "/v1beta4"
)

// The types are kubeadm's, field by field.
// Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/

// clusterConfiguration is what is the same for all nodes: kubeadm's ClusterConfiguration.
type clusterConfiguration struct {
	metav1.TypeMeta           `json:",inline"`
	APIServer                 kubeadmAPIServer  `json:"apiServer"`
	CACertificateValidity     *metav1.Duration  `json:"caCertificateValidityPeriod,omitempty"`
	CertificateValidityPeriod *metav1.Duration  `json:"certificateValidityPeriod,omitempty"`
	CertificatesDir           string            `json:"certificatesDir,omitempty"`
	ClusterName               string            `json:"clusterName,omitempty"`
	ControlPlaneEndpoint      string            `json:"controlPlaneEndpoint,omitempty"`
	ControllerManager         Component         `json:"controllerManager"`
	DNS                       kubeadmDNS        `json:"dns"`
	EncryptionAlgorithm       string            `json:"encryptionAlgorithm,omitempty"`
	Etcd                      kubeadmEtcd       `json:"etcd"`
	FeatureGates              map[string]bool   `json:"featureGates,omitempty"`
	ImageRepository           string            `json:"imageRepository,omitempty"`
	KubernetesVersion         string            `json:"kubernetesVersion,omitempty"`
	Networking                kubeadmNetworking `json:"networking"`
	Proxy                     kubeadmProxy      `json:"proxy"`
	Scheduler                 Component         `json:"scheduler"`
}

type kubeadmAPIServer struct {
	Component `json:",inline"`
	CertSANs  []string `json:"certSANs,omitempty"`
}

type kubeadmImage struct {
	ImageRepository string `json:"imageRepository,omitempty"`
	ImageTag        string `json:"imageTag,omitempty"`
}

type kubeadmDNS struct {
	kubeadmImage `json:",inline"`
	Disabled     bool `json:"disabled,omitempty"`
}

type kubeadmProxy struct {
	Disabled bool `json:"disabled,omitempty"`
}

type kubeadmNetworking struct {
	DNSDomain     string `json:"dnsDomain,omitempty"`
	PodSubnet     string `json:"podSubnet,omitempty"`
	ServiceSubnet string `json:"serviceSubnet,omitempty"`
}

type kubeadmEtcd struct {
	Local    *kubeadmLocalEtcd    `json:"local,omitempty"`
	External *kubeadmExternalEtcd `json:"external,omitempty"`
}

type kubeadmLocalEtcd struct {
	kubeadmImage   `json:",inline"`
	DataDir        string          `json:"dataDir"`
	ExtraArgs      []Arg           `json:"extraArgs,omitempty"`
	ExtraEnvs      []corev1.EnvVar `json:"extraEnvs,omitempty"`
	ServerCertSANs []string        `json:"serverCertSANs,omitempty"`
	PeerCertSANs   []string        `json:"peerCertSANs,omitempty"`
}

// kubeadmExternalEtcd names files on the control planes.
type kubeadmExternalEtcd struct {
	Endpoints     []string `json:"endpoints"`
	HTTPEndpoints []string `json:"httpEndpoints,omitempty"`
	CAFile        string   `json:"caFile"`
	CertFile      string   `json:"certFile"`
	KeyFile       string   `json:"keyFile"`
}

// initConfiguration is the first control plane: InitConfiguration.
type initConfiguration struct {
	metav1.TypeMeta  `json:",inline"`
	BootstrapTokens  []kubeadmToken     `json:"bootstrapTokens,omitempty"`
	DryRun           bool               `json:"dryRun,omitempty"`
	NodeRegistration kubeadmNode        `json:"nodeRegistration"`
	LocalAPIEndpoint kubeadmAPIEndpoint `json:"localAPIEndpoint"`
	CertificateKey   string             `json:"certificateKey,omitempty"`
	SkipPhases       []string           `json:"skipPhases,omitempty"`
	Patches          *kubeadmPatches    `json:"patches,omitempty"`
	Timeouts         *kubeadmTimeouts   `json:"timeouts,omitempty"`
}

// joinConfiguration is a node that joins: JoinConfiguration.
type joinConfiguration struct {
	metav1.TypeMeta  `json:",inline"`
	DryRun           bool                 `json:"dryRun,omitempty"`
	NodeRegistration kubeadmNode          `json:"nodeRegistration"`
	CACertPath       string               `json:"caCertPath,omitempty"`
	Discovery        kubeadmDiscovery     `json:"discovery"`
	ControlPlane     *kubeadmControlPlane `json:"controlPlane,omitempty"`
	SkipPhases       []string             `json:"skipPhases,omitempty"`
	Patches          *kubeadmPatches      `json:"patches,omitempty"`
	Timeouts         *kubeadmTimeouts     `json:"timeouts,omitempty"`
}

type kubeadmToken struct {
	Token       string           `json:"token"`
	Description string           `json:"description,omitempty"`
	TTL         *metav1.Duration `json:"ttl,omitempty"`
	Expires     *metav1.Time     `json:"expires,omitempty"`
	Usages      []string         `json:"usages,omitempty"`
	Groups      []string         `json:"groups,omitempty"`
}

type kubeadmNode struct {
	Name                  string         `json:"name,omitempty"`
	CRISocket             string         `json:"criSocket,omitempty"`
	Taints                []corev1.Taint `json:"taints"`
	KubeletExtraArgs      []Arg          `json:"kubeletExtraArgs,omitempty"`
	IgnorePreflightErrors []string       `json:"ignorePreflightErrors,omitempty"`
	ImagePullPolicy       string         `json:"imagePullPolicy,omitempty"`
	ImagePullSerial       *bool          `json:"imagePullSerial,omitempty"`
}

type kubeadmAPIEndpoint struct {
	AdvertiseAddress string `json:"advertiseAddress,omitempty"`
	BindPort         int32  `json:"bindPort,omitempty"`
}

type kubeadmControlPlane struct {
	LocalAPIEndpoint kubeadmAPIEndpoint `json:"localAPIEndpoint"`
	CertificateKey   string             `json:"certificateKey,omitempty"`
}

type kubeadmDiscovery struct {
	BootstrapToken *struct {
		Token                    string   `json:"token"`
		APIServerEndpoint        string   `json:"apiServerEndpoint,omitempty"`
		CACertHashes             []string `json:"caCertHashes,omitempty"`
		UnsafeSkipCAVerification bool     `json:"unsafeSkipCAVerification,omitempty"`
	} `json:"bootstrapToken,omitempty"`
	File *struct {
		KubeConfigPath string `json:"kubeConfigPath"`
	} `json:"file,omitempty"`
	TLSBootstrapToken string `json:"tlsBootstrapToken,omitempty"`
}

type kubeadmPatches struct {
	Directory string `json:"directory,omitempty"`
}

type kubeadmTimeouts struct {
	ControlPlaneComponentHealthCheck *metav1.Duration `json:"controlPlaneComponentHealthCheck,omitempty"`
	KubeletHealthCheck               *metav1.Duration `json:"kubeletHealthCheck,omitempty"`
	KubernetesAPICall                *metav1.Duration `json:"kubernetesAPICall,omitempty"`
	EtcdAPICall                      *metav1.Duration `json:"etcdAPICall,omitempty"`
	TLSBootstrap                     *metav1.Duration `json:"tlsBootstrap,omitempty"`
	Discovery                        *metav1.Duration `json:"discovery,omitempty"`
	UpgradeManifests                 *metav1.Duration `json:"upgradeManifests,omitempty"`
}
