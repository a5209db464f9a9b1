package manifests

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The ConfigMaps that describe the cluster, and the key of each that holds it.
const (
	KubeadmConfigName = "kubeadm-config"
	KubeadmConfigKey  = "ClusterConfiguration"
	KubeletConfigName = "kubelet-config"
	KubeletConfigKey  = "kubelet"
	KubeadmCertsName  = "kubeadm-certs" // a Secret: what control planes share, encrypted
	ClusterInfoName   = "cluster-info"  // in kube-public
	ClusterInfoKey    = "kubeconfig"
)

// ComponentConfigHash is the annotation with which kubeadm signs a ConfigMap of component configuration that nobody but
// kubeadm has touched, and which it may therefore replace by a newer version's defaults when it upgrades.
const ComponentConfigHash = "kubeadm.kubernetes.io/component-config.hash"

// ConfigHash is the annotation of pods by which they are replaced when the configuration that they read once changes.
const ConfigHash = "myadm.dev/config-hash"

// sign makes kubeadm take the ConfigMap for generated.
func sign(cm *corev1.ConfigMap) {
	metav1.SetMetaDataAnnotation(&cm.ObjectMeta, ComponentConfigHash, dataHash(cm.Data))
}

// dataHash is kubeadm's checksum of a ConfigMap: the SHA-256 of its values in the order of their keys, one after the other
// without separators.
func dataHash(data map[string]string) string {
	hash := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		hash.Write([]byte(data[key]))
	}
	return fmt.Sprintf("sha256:%x", hash.Sum(nil))
}

// KubeadmConfig is the ConfigMap from which kubeadm, and myadm's join, learn how the cluster is made.
// clusterConfiguration is config.ToKubeadm's result.
func KubeadmConfig(clusterConfiguration []byte) ([]*unstructured.Unstructured, error) {
	return objects(&corev1.ConfigMap{
		ObjectMeta: meta(metav1.NamespaceSystem, KubeadmConfigName),
		Data:       map[string]string{KubeadmConfigKey: string(clusterConfiguration)},
	})
}

// KubeletConfigMap is the ConfigMap from which joining nodes take the kubelet's configuration. What the user has set makes
// it the user's: then it is not signed, so that a kubeadm upgrade keeps it.
func KubeletConfigMap(p Params) ([]*unstructured.Unstructured, error) {
	data, err := KubeletConfig(p)
	if err != nil {
		return nil, err
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: meta(metav1.NamespaceSystem, KubeletConfigName),
		Data:       map[string]string{KubeletConfigKey: string(data)},
	}
	if len(p.Cluster.Spec.Kubelet) == 0 {
		sign(cm)
	}
	return objects(cm)
}

// ClusterInfo is the ConfigMap that a joining node reads before it can trust anything: a kubeconfig with nothing but the
// API's address and its CA. The controller manager adds a signature for each token under keys of its own, so this is to be
// applied server-side, where other keys stay their owners'. Endpoint is host:port, caPEM one or more certificates.
func ClusterInfo(endpoint string, caPEM []byte) ([]*unstructured.Unstructured, error) {
	kubeconfig, err := clientcmd.Write(clientcmdapi.Config{Clusters: map[string]*clientcmdapi.Cluster{
		"": {Server: "https://" + endpoint, CertificateAuthorityData: caPEM},
	}})
	if err != nil {
		return nil, fmt.Errorf("render the kubeconfig of %s: %w", ClusterInfoName, err)
	}
	return objects(&corev1.ConfigMap{
		ObjectMeta: meta(metav1.NamespacePublic, ClusterInfoName),
		Data:       map[string]string{ClusterInfoKey: string(kubeconfig)},
	})
}
