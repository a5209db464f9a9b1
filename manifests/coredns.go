package manifests

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const coreDNSName = "coredns"

// CoreDNS is the cluster's DNS. The Service is called kube-dns, as it has been since before CoreDNS.
func CoreDNS(p Params) ([]*unstructured.Unstructured, error) {
	m := meta(metav1.NamespaceSystem, coreDNSName)
	account, subject := serviceAccount(m)
	access := grant{name: "system:coredns", subjects: []rbacv1.Subject{subject}, rules: []rbacv1.PolicyRule{
		mayWatch("", "endpoints", "services", "pods", "namespaces"),
		mayWatch("discovery.k8s.io", "endpointslices"),
	}}
	config := &corev1.ConfigMap{ObjectMeta: m, Data: map[string]string{"Corefile": corefile(p.Cluster.Spec.Networking.DNSDomain)}}
	return objects(append(append([]runtime.Object{account}, access.objects()...),
		config, coreDNSDeployment(p), coreDNSService(p))...)
}

// corefile answers for the cluster's domain and forwards the rest to the node's own nameservers. Answers for the cluster
// are not cached: they are local, and a stale one would point to a pod that is gone.
func corefile(domain string) string {
	return fmt.Sprintf(`.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes %[1]s in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success %[1]s
       disable denial %[1]s
    }
    loop
    reload
    loadbalance
}
`, domain)
}

func coreDNSLabels() map[string]string { return map[string]string{"k8s-app": "kube-dns"} }

func coreDNSDeployment(p Params) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: labelled(metav1.NamespaceSystem, coreDNSName, coreDNSLabels()),
		Spec: appsv1.DeploymentSpec{
			Replicas: p.Cluster.Spec.DNS.Replicas,
			Selector: &metav1.LabelSelector{MatchLabels: coreDNSLabels()},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: new(intstr.FromInt32(1))},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: coreDNSLabels()},
				Spec: corev1.PodSpec{
					PriorityClassName:  "system-cluster-critical",
					ServiceAccountName: coreDNSName,
					Affinity:           &corev1.Affinity{PodAntiAffinity: spread(coreDNSLabels())},
					Tolerations: []corev1.Toleration{
						{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists},
						{Key: ControlPlaneLabel, Effect: corev1.TaintEffectNoSchedule},
					},
					NodeSelector: map[string]string{corev1.LabelOSStable: "linux"},
					DNSPolicy:    corev1.DNSDefault,
					Containers:   []corev1.Container{coreDNSContainer(p.Images.CoreDNS)},
					Volumes: []corev1.Volume{{Name: "config-volume", VolumeSource: corev1.VolumeSource{
						ConfigMap: &corev1.ConfigMapVolumeSource{
							LocalObjectReference: corev1.LocalObjectReference{Name: coreDNSName},
							Items:                []corev1.KeyToPath{{Key: "Corefile", Path: "Corefile"}},
						},
					}}},
				},
			},
		},
	}
}

func coreDNSContainer(image string) corev1.Container {
	return corev1.Container{
		Name:            coreDNSName,
		Image:           image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args:            []string{"-conf", "/etc/coredns/Corefile"},
		Resources: corev1.ResourceRequirements{
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("170Mi")},
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("100m"),
				corev1.ResourceMemory: resource.MustParse("70Mi"),
			},
		},
		Ports: []corev1.ContainerPort{
			{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP},
			{Name: "dns-tcp", ContainerPort: 53, Protocol: corev1.ProtocolTCP},
			{Name: "metrics", ContainerPort: 9153, Protocol: corev1.ProtocolTCP},
			{Name: "liveness-probe", ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
			{Name: "readiness-probe", ContainerPort: 8181, Protocol: corev1.ProtocolTCP},
		},
		LivenessProbe: &corev1.Probe{
			ProbeHandler:        httpGet("/health", "liveness-probe"),
			InitialDelaySeconds: 60, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 5,
		},
		ReadinessProbe: &corev1.Probe{ProbeHandler: httpGet("/ready", "readiness-probe")},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities: &corev1.Capabilities{
				Add:  []corev1.Capability{"NET_BIND_SERVICE"},
				Drop: []corev1.Capability{"ALL"},
			},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "config-volume", MountPath: "/etc/coredns", ReadOnly: true}},
	}
}

func httpGet(path, port string) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString(port), Scheme: corev1.URISchemeHTTP}}
}

// spread asks for another node for each pod, where there is one.
func spread(labels map[string]string) *corev1.PodAntiAffinity {
	var match []metav1.LabelSelectorRequirement
	for key, value := range labels {
		match = append(match, metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{value}})
	}
	return &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
		Weight: 100,
		PodAffinityTerm: corev1.PodAffinityTerm{
			LabelSelector: &metav1.LabelSelector{MatchExpressions: match},
			TopologyKey:   corev1.LabelHostname,
		},
	}}}
}

func coreDNSService(p Params) *corev1.Service {
	m := meta(metav1.NamespaceSystem, "kube-dns")
	m.Labels = map[string]string{"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
	m.Annotations = map[string]string{"prometheus.io/port": "9153", "prometheus.io/scrape": "true"}
	return &corev1.Service{
		ObjectMeta: m,
		Spec: corev1.ServiceSpec{
			ClusterIP: p.Cluster.DNSServiceIP().String(),
			Selector:  coreDNSLabels(),
			Ports: []corev1.ServicePort{
				servicePort("dns", 53, corev1.ProtocolUDP),
				servicePort("dns-tcp", 53, corev1.ProtocolTCP),
				servicePort("metrics", 9153, corev1.ProtocolTCP),
			},
		},
	}
}

func servicePort(name string, port int32, protocol corev1.Protocol) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, Protocol: protocol, TargetPort: intstr.FromInt32(port)}
}
