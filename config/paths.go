package config

import "path"

// Places on a host, as kubeadm has them (KUBEADM-CONTRACT). They are not configurable: other tools rely on them.
const (
	KubernetesDir = "/etc/kubernetes"
	PKIDir        = KubernetesDir + "/pki"
	ManifestsDir  = KubernetesDir + "/manifests"
	HAProxyDir    = KubernetesDir + "/haproxy"    // not kubeadm's: the load balancer's configuration
	KeepalivedDir = KubernetesDir + "/keepalived" // likewise
	ProxyEnv      = KubernetesDir + "/proxy.env"  // likewise: the proxy in the environment of containerd and the kubelet
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

// StagedBinary is where an upgrade brings a binary, beside the one that runs at target. Hidden names with .myadm- in them
// are myadm's: reset removes what has one.
func StagedBinary(target string) string { return besideBinary(target, "staged") }

// PreviousBinary is where an upgrade keeps the binary that it has replaced at target, until it is over.
func PreviousBinary(target string) string { return besideBinary(target, "previous") }

func besideBinary(target, what string) string {
	return path.Join(path.Dir(target), "."+path.Base(target)+".myadm-"+what)
}
