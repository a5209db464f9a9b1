package manifests

import (
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	corev1 "k8s.io/api/core/v1"
)

// Scheduler is the static pod of a node's scheduler.
func Scheduler(p Params) (host.File, error) {
	spec := p.Cluster.Spec.Scheduler
	return staticPod{
		name:  SchedulerName,
		image: p.Images.Scheduler,
		command: command(SchedulerName, []config.Arg{
			{Name: "authentication-kubeconfig", Value: config.SchedulerConf},
			{Name: "authorization-kubeconfig", Value: config.SchedulerConf},
			{Name: "bind-address", Value: "127.0.0.1"},
			{Name: "kubeconfig", Value: config.SchedulerConf},
			{Name: "leader-elect", Value: "true"},
		}, spec.ExtraArgs),
		env:      spec.ExtraEnvs,
		mounts:   mergeMounts([]config.HostPathMount{kubeconfigMount(config.SchedulerConf)}, spec.ExtraVolumes),
		requests: cpu("100m"),
		health: health{
			host: bindAddress(spec), port: 10259, scheme: corev1.URISchemeHTTPS,
			live: "/livez", ready: "/readyz", startup: "/livez",
		},
		patch: spec.Patch,
	}.file()
}
