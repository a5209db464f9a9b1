package config

// Places on a host, as kubeadm has them (KUBEADM-CONTRACT). They are not configurable: other tools rely on them.
const (
	KubernetesDir = "/etc/kubernetes"
	PKIDir        = KubernetesDir + "/pki"
	ManifestsDir  = KubernetesDir + "/manifests"
	HAProxyDir    = KubernetesDir + "/haproxy"    // not kubeadm's: the load balancer's configuration
	KeepalivedDir = KubernetesDir + "/keepalived" // likewise
	UpgradeDir    = KubernetesDir + "/upgrade"    // for the time of an upgrade: what replaces static pods, and what was replaced

	AdminConf             = KubernetesDir + "/admin.conf"
	SuperAdminConf        = KubernetesDir + "/super-admin.conf"
	KubeletConf           = KubernetesDir + "/kubelet.conf"
	BootstrapKubeletConf  = KubernetesDir + "/bootstrap-kubelet.conf"
	ControllerManagerConf = KubernetesDir + "/controller-manager.conf"
	SchedulerConf         = KubernetesDir + "/scheduler.conf"
	EtcdCACert            = PKIDir + "/etcd/ca.crt"
	EtcdClientCert        = PKIDir + "/apiserver-etcd-client.crt"
	EtcdClientKey         = PKIDir + "/apiserver-etcd-client.key"

	KubeletDir             = "/var/lib/kubelet"
	KubeletConfigFile      = KubeletDir + "/config.yaml"
	KubeletInstanceConfig  = KubeletDir + "/instance-config.yaml"
	KubeletFlagsEnv        = KubeletDir + "/kubeadm-flags.env"
	KubeletClientCert      = KubeletDir + "/pki/kubelet-client-current.pem"
	ContainerdSocket       = "/run/containerd/containerd.sock"
	EtcdDataDir            = "/var/lib/etcd"
	CNIConfDir             = "/etc/cni/net.d"
	CNIBinDir              = "/opt/cni/bin"
	DefaultAPIServerPort   = 6443
	EtcdClientPort         = 2379
	EtcdPeerPort           = 2380
	DefaultImageRepository = "registry.k8s.io"
)
