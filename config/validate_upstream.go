package config

import (
	kubeproxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// fixed is a field of upstream's configuration that may be given, but only with the value that it has anyway.
type fixed struct{ name, want, hint string }

func (v *validator) kubelet() { v.fixed("spec.kubelet", v.c.Spec.Kubelet, kubeletFixed(v.c.Spec)...) }

// kubeletFixed are the fields of KubeletConfiguration that follow from the rest of a spec that has its defaults.
func kubeletFixed(s Spec) []fixed {
	return []fixed{
		{"apiVersion", kubeletv1beta1.SchemeGroupVersion.String(), "remove it"},
		{"kind", "KubeletConfiguration", "remove it"},
		{"staticPodPath", ManifestsDir, "remove it: the control plane's manifests are there"},
		{"clusterDomain", s.Networking.DNSDomain, "set spec.networking.dnsDomain"},
		{"containerRuntimeEndpoint", "unix://" + s.Runtime.Socket, "set spec.runtime.socket"},
	}
}

func (v *validator) kubeProxy() {
	v.fixed("spec.kubeProxy", v.c.Spec.KubeProxy, kubeProxyFixed(v.c.Spec)...)
	connection, _ := v.c.Spec.KubeProxy["clientConnection"].(map[string]any)
	v.fixed("spec.kubeProxy.clientConnection", connection, connectionFixed...)
}

// kubeProxyFixed are those of KubeProxyConfiguration, and connectionFixed those of its clientConnection.
func kubeProxyFixed(s Spec) []fixed {
	return []fixed{
		{"apiVersion", kubeproxyv1alpha1.SchemeGroupVersion.String(), "remove it"},
		{"kind", "KubeProxyConfiguration", "remove it"},
		{"clusterCIDR", s.Networking.PodSubnet, "set spec.networking.podSubnet"},
	}
}

var connectionFixed = []fixed{{"kubeconfig", "/var/lib/kube-proxy/kubeconfig.conf", "remove it"}}

func (v *validator) fixed(path string, given map[string]any, fields ...fixed) {
	for _, f := range fields {
		if got, ok := given[f.name]; ok && got != f.want {
			v.errorf(path+"."+f.name, f.hint, "%v contradicts what the cluster has, %v", got, f.want)
		}
	}
}
