package manifests

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// kube-proxy, and the key of its ConfigMap that holds its configuration.
const (
	KubeProxyName       = "kube-proxy"
	kubeProxyDir        = "/var/lib/kube-proxy"
	KubeProxyConfigKey  = "config.conf"
	kubeProxyKubeconfig = "kubeconfig.conf"
)

// KubeProxy is kube-proxy with its configuration. Bootstrap tokens may read the latter, as kubeadm has it.
func KubeProxy(p Params) ([]*unstructured.Unstructured, error) {
	config, err := kubeProxyConfigMap(p)
	if err != nil {
		return nil, err
	}
	account, subject := serviceAccount(meta(metav1.NamespaceSystem, KubeProxyName))
	proxier := grant{name: "kubeadm:node-proxier", role: "system:node-proxier", subjects: []rbacv1.Subject{subject}}
	reader := grant{name: KubeProxyName, namespace: metav1.NamespaceSystem, subjects: []rbacv1.Subject{group(NodeBootstrapGroup)},
		rules: []rbacv1.PolicyRule{mayGet("configmaps", KubeProxyName)}}

	all := append([]runtime.Object{account}, proxier.objects()...)
	all = append(all, reader.objects()...)
	pods := kubeProxyDaemonSet(p.Images.Proxy)
	metav1.SetMetaDataAnnotation(&pods.Spec.Template.ObjectMeta, ConfigHash, dataHash(config.Data)) // kubeadm has no such thing
	return objects(append(all, config, pods)...)
}

func kubeProxyConfigMap(p Params) (*corev1.ConfigMap, error) {
	config, err := kubeProxyConfig(p)
	if err != nil {
		return nil, err
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: labelled(metav1.NamespaceSystem, KubeProxyName, map[string]string{"app": KubeProxyName}),
		Data: map[string]string{
			KubeProxyConfigKey: string(config),
			kubeProxyKubeconfig: fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: https://%s
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
`, p.NodeEndpoint),
		},
	}
	if len(p.Cluster.Spec.KubeProxy) == 0 {
		sign(cm)
	}
	return cm, nil
}

// kubeProxyConfig is the KubeProxyConfiguration: what kubeadm would set, under what the user sets.
func kubeProxyConfig(p Params) ([]byte, error) {
	bind := "0.0.0.0"
	if p.Cluster.APIServerServiceIP().Is6() { // the primary family, which is also the advertise addresses'
		bind = "::"
	}
	defaults := map[string]any{
		"bindAddress":      bind,
		"clientConnection": map[string]any{"kubeconfig": kubeProxyDir + "/" + kubeProxyKubeconfig},
		"clusterCIDR":      p.Cluster.Spec.Networking.PodSubnet,
		"mode":             "iptables",
	}
	proxy := merge(defaults, p.Cluster.Spec.KubeProxy)
	proxy["apiVersion"], proxy["kind"] = "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"
	return yaml.Marshal(proxy)
}

func kubeProxyDaemonSet(image string) *appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": KubeProxyName}
	return &appsv1.DaemonSet{
		ObjectMeta: labelled(metav1.NamespaceSystem, KubeProxyName, labels),
		Spec: appsv1.DaemonSetSpec{
			Selector:       &metav1.LabelSelector{MatchLabels: labels},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					PriorityClassName:  "system-node-critical",
					ServiceAccountName: KubeProxyName,
					HostNetwork:        true,
					Tolerations:        []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					NodeSelector:       map[string]string{corev1.LabelOSStable: "linux"},
					Containers: []corev1.Container{{
						Name:            KubeProxyName,
						Image:           image,
						ImagePullPolicy: corev1.PullIfNotPresent,
						Command: []string{
							"/usr/local/bin/kube-proxy",
							"--config=" + kubeProxyDir + "/" + KubeProxyConfigKey,
							"--hostname-override=$(NODE_NAME)",
						},
						Env:             []corev1.EnvVar{fieldEnv("NODE_NAME", "spec.nodeName")},
						SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
						VolumeMounts: []corev1.VolumeMount{
							{Name: KubeProxyName, MountPath: kubeProxyDir},
							{Name: "xtables-lock", MountPath: xtablesLock},
							{Name: "lib-modules", MountPath: "/lib/modules", ReadOnly: true},
						},
					}},
					Volumes: []corev1.Volume{
						configMapVolume(KubeProxyName, KubeProxyName),
						hostPathVolume("xtables-lock", xtablesLock, corev1.HostPathFileOrCreate),
						hostPathVolume("lib-modules", "/lib/modules", corev1.HostPathUnset),
					},
				},
			},
		},
	}
}

// xtablesLock is shared by all that change iptables on a host.
const xtablesLock = "/run/xtables.lock"

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}

func configMapVolume(name, configMap string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: configMap}},
	}}
}

func hostPathVolume(name, path string, kind corev1.HostPathType) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}}
}
