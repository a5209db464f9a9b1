package manifests

import (
	"fmt"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"sigs.k8s.io/yaml"
)

// KubeletHealthzPort is where the kubelet answers /healthz, on the loopback address.
const KubeletHealthzPort = 10248

// KubeletConfig is the KubeletConfiguration that all nodes share, as it stands in ConfigMap kubelet-config: what kubeadm
// would set, under what the user sets. What neither sets is left out and gets the kubelet's default.
func KubeletConfig(p Params) ([]byte, error) {
	defaults := map[string]any{
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": config.PKIDir + "/ca.crt"},
		},
		"authorization":      map[string]any{"mode": "Webhook"},
		"cgroupDriver":       defaultCgroupDriver,
		"clusterDNS":         []any{p.Cluster.DNSServiceIP().String()},
		"clusterDomain":      p.Cluster.Spec.Networking.DNSDomain,
		"healthzBindAddress": "127.0.0.1",
		"healthzPort":        int64(KubeletHealthzPort),
		"rotateCertificates": true,
		"staticPodPath":      config.ManifestsDir,
	}
	kubelet := merge(defaults, p.Cluster.Spec.Kubelet)
	kubelet["apiVersion"], kubelet["kind"] = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
	return yaml.Marshal(kubelet)
}

const defaultCgroupDriver = "systemd"

// KubeletConfigFile is the configuration that the node's kubelet reads: shared, which is KubeletConfig's result or the
// data of ConfigMap kubelet-config, with what is the node's own. Socket is the CRI's.
func KubeletConfigFile(shared []byte, n Node, socket string) (host.File, error) {
	kubelet, err := object(shared)
	if err != nil {
		return host.File{}, fmt.Errorf("read the cluster's kubelet configuration: %w", err)
	}
	own := map[string]any{"containerRuntimeEndpoint": endpoint(socket)}
	if _, set := kubelet["resolvConf"]; !set && n.ResolvConf != "" {
		own["resolvConf"] = n.ResolvConf
	}
	return yamlFile(config.KubeletConfigFile, fileMode, merge(kubelet, own))
}

// InstanceConfig is the file in which kubeadm keeps a node's CRI socket, to lay it over kubelet-config when it upgrades.
func InstanceConfig(socket string) host.File {
	return host.File{
		Path: config.KubeletInstanceConfig,
		Mode: fileMode,
		Data: fmt.Appendf(nil, "containerRuntimeEndpoint: %q\n", endpoint(socket)),
	}
}

// endpoint is a socket as the kubelet wants it named.
func endpoint(socket string) string { return "unix://" + socket }
