package manifests

import (
	"cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	corev1 "k8s.io/api/core/v1"
)

// ControllerManager is the static pod of a node's controller manager.
func ControllerManager(p Params, n Node) (host.File, error) {
	spec := p.Cluster.Spec.ControllerManager
	return staticPod{
		name:    ControllerManagerName,
		image:   p.Images.ControllerManager,
		command: command(ControllerManagerName, controllerManagerFlags(p.Cluster), spec.ExtraArgs),
		env:     spec.ExtraEnvs,
		mounts: mergeMounts(
			append(caMounts(n.CADirs), pkiMount(), kubeconfigMount(config.ControllerManagerConf)), spec.ExtraVolumes),
		requests: cpu("200m"),
		health: health{
			host: bindAddress(spec), port: 10257, scheme: corev1.URISchemeHTTPS,
			live: "/healthz", startup: "/healthz",
		},
		patch: spec.Patch,
	}.file()
}

// controllerManagerFlags leaves the size of a node's share of the pod subnets to the controller manager (/24 and /64):
// config.Validate refuses subnets for which that does not work.
func controllerManagerFlags(c *config.Cluster) []config.Arg {
	const ca = config.PKIDir + "/ca.crt"
	return []config.Arg{
		{Name: "allocate-node-cidrs", Value: "true"},
		{Name: "authentication-kubeconfig", Value: config.ControllerManagerConf},
		{Name: "authorization-kubeconfig", Value: config.ControllerManagerConf},
		{Name: "bind-address", Value: "127.0.0.1"},
		{Name: "client-ca-file", Value: ca},
		{Name: "cluster-cidr", Value: c.Spec.Networking.PodSubnet},
		{Name: "cluster-name", Value: c.Metadata.Name},
		{Name: "cluster-signing-cert-file", Value: ca},
		{Name: "cluster-signing-key-file", Value: config.PKIDir + "/ca.key"},
		{Name: "controllers", Value: "*,bootstrapsigner,tokencleaner"},
		{Name: "kubeconfig", Value: config.ControllerManagerConf},
		{Name: "leader-elect", Value: "true"},
		{Name: "requestheader-client-ca-file", Value: config.PKIDir + "/front-proxy-ca.crt"},
		{Name: "root-ca-file", Value: ca},
		{Name: "service-account-private-key-file", Value: config.PKIDir + "/sa.key"},
		{Name: "service-cluster-ip-range", Value: c.Spec.Networking.ServiceSubnet},
		{Name: "use-service-account-credentials", Value: "true"},
	}
}

// bindAddress is where the component answers probes.
func bindAddress(c config.Component) string {
	address, _ := lastArg(c.ExtraArgs, "bind-address")
	return probeHost(cmp.Or(address, "127.0.0.1"))
}
