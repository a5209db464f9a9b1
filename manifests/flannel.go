package manifests

import (
	"bytes"
	"encoding/json"
	"net"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Flannel's names in the cluster and on the hosts.
const (
	FlannelNamespace    = "kube-flannel"
	FlannelDaemonSet    = "kube-flannel-ds"
	FlannelConflistPath = config.CNIConfDir + "/10-flannel.conflist"

	flannelAccount = "flannel"
	flannelConfig  = "kube-flannel-cfg"

	// flannelNetwork is the CNI network's name. It is ours alone, so that reset knows our conflist, as JSON has no comments.
	flannelNetwork = "myadm-flannel"
)

// FlannelConflist tells the container runtime how to join a pod to the network: flannel's plugin reads the node's subnet
// and delegates to the bridge plugin.
func FlannelConflist() (host.File, error) {
	data, err := indented(map[string]any{
		"name":       flannelNetwork,
		"cniVersion": "1.0.0",
		"plugins": []any{
			map[string]any{"type": "flannel", "delegate": map[string]any{"hairpinMode": true, "isDefaultGateway": true}},
			map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}},
		},
	})
	return host.File{Path: FlannelConflistPath, Mode: fileMode, Data: data}, err
}

// Flannel is the overlay network between the nodes: VXLAN, with the subnets that the controller manager gives to nodes.
// The DaemonSet has no init containers, because the CNI plugin and the conflist are already on the hosts.
func Flannel(p Params) ([]*unstructured.Unstructured, error) {
	conflist, err := FlannelConflist()
	if err != nil {
		return nil, err
	}
	network, err := indented(flannelNet(p.Cluster))
	if err != nil {
		return nil, err
	}
	account, subject := serviceAccount(labelled(FlannelNamespace, flannelAccount, flannelLabels()))
	access := grant{name: flannelAccount, subjects: []rbacv1.Subject{subject}, rules: []rbacv1.PolicyRule{
		may("pods", "get"), may("nodes", "get", "list", "watch"), may("nodes/status", "patch"),
	}}
	return objects(append(append([]runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: FlannelNamespace, Labels: map[string]string{
			"k8s-app": "flannel", "pod-security.kubernetes.io/enforce": "privileged", // hostNetwork and NET_ADMIN need it
		}}}, account}, access.objects()...),
		&corev1.ConfigMap{
			ObjectMeta: labelled(FlannelNamespace, flannelConfig, flannelLabels()),
			Data:       map[string]string{"cni-conf.json": string(conflist.Data), "net-conf.json": string(network)},
		},
		flannelDaemonSet(p))...)
}

// flannelNet is flanneld's net-conf.json.
func flannelNet(c *config.Cluster) map[string]any {
	conf := map[string]any{"Backend": map[string]any{"Type": "vxlan"}, "EnableIPv4": false, "EnableIPv6": false}
	for _, pods := range c.PodSubnets() {
		if pods.Addr().Is6() {
			conf["IPv6Network"], conf["EnableIPv6"] = pods.String(), true
		} else {
			conf["Network"], conf["EnableIPv4"] = pods.String(), true
		}
	}
	return conf
}

func flannelLabels() map[string]string {
	return map[string]string{"app": "flannel", "k8s-app": "flannel", "tier": "node"}
}

func flannelDaemonSet(p Params) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: labelled(FlannelNamespace, FlannelDaemonSet, flannelLabels()),
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "flannel", "k8s-app": "flannel"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: flannelLabels()},
				Spec: corev1.PodSpec{
					PriorityClassName:  "system-node-critical",
					ServiceAccountName: flannelAccount,
					HostNetwork:        true,
					// A node without a network has the taint not-ready, and only this pod takes it away.
					Tolerations:  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					NodeSelector: map[string]string{corev1.LabelOSStable: "linux"},
					Containers:   []corev1.Container{flannelContainer(p)},
					Volumes: []corev1.Volume{
						hostPathVolume("run", "/run/flannel", corev1.HostPathDirectoryOrCreate),
						configMapVolume("config", flannelConfig),
						hostPathVolume("xtables-lock", xtablesLock, corev1.HostPathFileOrCreate),
					},
				},
			},
		},
	}
}

func flannelContainer(p Params) corev1.Container {
	apiHost, apiPort, _ := net.SplitHostPort(p.NodeEndpoint)
	return corev1.Container{
		Name:            "kube-flannel",
		Image:           p.Images.Flannel,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/opt/bin/flanneld"},
		// The node's own address says which interface leads to the other nodes, also where there is no default route.
		Args: []string{"--ip-masq", "--kube-subnet-mgr", "--iface=$(HOST_IP)"},
		Env: []corev1.EnvVar{
			fieldEnv("POD_NAME", "metadata.name"),
			fieldEnv("POD_NAMESPACE", "metadata.namespace"),
			fieldEnv("HOST_IP", "status.hostIP"),
			// Not the API's Service: without kube-proxy's rules, which may come later, the first packet to it is lost, and
			// the connection with it.
			{Name: "KUBERNETES_SERVICE_HOST", Value: apiHost},
			{Name: "KUBERNETES_SERVICE_PORT", Value: apiPort},
		},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("100m"),
			corev1.ResourceMemory: resource.MustParse("50Mi"),
		}},
		SecurityContext: &corev1.SecurityContext{
			Privileged:   new(false),
			Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"}},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "run", MountPath: "/run/flannel"},
			{Name: "config", MountPath: "/etc/kube-flannel", ReadOnly: true},
			{Name: "xtables-lock", MountPath: xtablesLock},
		},
	}
}

// indented is JSON as people write it: two blanks, and a newline at the end.
func indented(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(v)
	return out.Bytes(), err
}
