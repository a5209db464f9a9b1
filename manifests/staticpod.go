package manifests

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The static pods: the names of their pods, containers, binaries and manifest files.
const (
	EtcdName              = "etcd"
	APIServerName         = "kube-apiserver"
	ControllerManagerName = "kube-controller-manager"
	SchedulerName         = "kube-scheduler"
	HAProxyName           = "haproxy"
	KeepalivedName        = "keepalived"
)

// The annotations by which kubeadm and myadm find the addresses of the other control planes.
const (
	EtcdURLsAnnotation          = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
	APIServerEndpointAnnotation = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"
)

// StaticPodPath is where the component's manifest stands.
func StaticPodPath(component string) string { return config.ManifestsDir + "/" + component + ".yaml" }

// staticPod is a component of the control plane, as data.
type staticPod struct {
	name, image string
	annotations map[string]string
	command     []string
	env         []corev1.EnvVar
	mounts      []config.HostPathMount
	requests    corev1.ResourceList
	health      health
	patch       map[string]any // a strategic merge patch of all this
}

// health is where a component says how it is. An empty path is a probe that the pod has not.
type health struct {
	host                 string // empty: the pod's own address
	port                 int32
	scheme               corev1.URIScheme
	live, ready, startup string // paths
}

// file renders the pod. Mode and place are part of the contract: the kubelet reads them as root.
func (s staticPod) file() (host.File, error) {
	pod, err := patched(s.pod(), s.patch)
	if err != nil {
		return host.File{}, fmt.Errorf("patch of %s: %w", s.name, err)
	}
	return podFile(pod)
}

func podFile(pod *corev1.Pod) (host.File, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return host.File{}, err
	}
	delete(content, "status")
	return yamlFile(StaticPodPath(pod.Name), secretMode, content)
}

func (s staticPod) pod() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        s.name,
			Namespace:   metav1.NamespaceSystem,
			Labels:      map[string]string{"component": s.name, "tier": "control-plane"},
			Annotations: withFilesSum(s.annotations, s.mounts),
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name:            s.name,
				Image:           s.image,
				ImagePullPolicy: corev1.PullIfNotPresent,
				Command:         s.command,
				Env:             mergeEnv(s.env),
				Ports:           []corev1.ContainerPort{{Name: probePort, ContainerPort: s.health.port, Protocol: corev1.ProtocolTCP}},
				VolumeMounts:    volumeMounts(s.mounts),
				Resources:       corev1.ResourceRequirements{Requests: s.requests},
				LivenessProbe:   s.health.probe(s.health.live, 10, 8, 10),
				ReadinessProbe:  s.health.probe(s.health.ready, 0, 3, 1),
				StartupProbe:    s.health.probe(s.health.startup, 10, 24, 10),
			}},
			HostNetwork:       true,
			Priority:          new(int32(2000001000)), // of system-node-critical: no admission plugin fills it in for a static pod
			PriorityClassName: "system-node-critical",
			SecurityContext: &corev1.PodSecurityContext{
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Volumes: volumes(s.mounts),
		},
	}
}

const probePort = "probe-port"

// probe asks path; delay and period are seconds, failures how many in a row count.
func (h health) probe(path string, delay, failures, period int32) *corev1.Probe {
	if path == "" {
		return nil
	}
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Host: h.host, Path: path, Port: intstr.FromString(probePort), Scheme: h.scheme,
		}},
		InitialDelaySeconds: delay,
		TimeoutSeconds:      15,
		FailureThreshold:    failures,
		PeriodSeconds:       period,
	}
}

// probeHost is where a component that binds to the address answers. One that binds to every address answers at the
// pod's own, which an empty host means.
func probeHost(bind string) string {
	if bind == "0.0.0.0" || bind == "::" {
		return ""
	}
	return bind
}

func cpu(quantity string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(quantity)}
}

// mergeMounts is kubeadm's rule: an extra volume replaces one of ours of the same name, and all are in order of name.
func mergeMounts(own, extra []config.HostPathMount) []config.HostPathMount {
	byName := map[string]config.HostPathMount{}
	for _, m := range slices.Concat(own, extra) {
		byName[m.Name] = m
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b config.HostPathMount) int { return cmp.Compare(a.Name, b.Name) })
}

// mergeEnv keeps the last value of each name, in order of name.
func mergeEnv(env []corev1.EnvVar) []corev1.EnvVar {
	byName := map[string]corev1.EnvVar{}
	for _, e := range env {
		byName[e.Name] = e
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b corev1.EnvVar) int { return cmp.Compare(a.Name, b.Name) })
}

func volumeMounts(mounts []config.HostPathMount) []corev1.VolumeMount {
	out := make([]corev1.VolumeMount, 0, len(mounts))
	for _, m := range mounts {
		out = append(out, corev1.VolumeMount{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly})
	}
	return out
}

// volumes are in order of name, whatever the order of the mounts is.
func volumes(mounts []config.HostPathMount) []corev1.Volume {
	out := make([]corev1.Volume, 0, len(mounts))
	for _, m := range mounts {
		out = append(out, corev1.Volume{Name: m.Name, VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: m.HostPath, Type: new(m.PathType)},
		}})
	}
	slices.SortFunc(out, func(a, b corev1.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
