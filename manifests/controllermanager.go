package manifests

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

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
	}.file()
}

func controllerManagerFlags(c *config.Cluster) []config.Arg {
	const ca = config.PKIDir + "/ca.crt"
	flags := []config.Arg{
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
	return append(flags, nodeMasks(c.PodSubnets(), c.Spec.ControllerManager.ExtraArgs)...)
}

// nodeMasks are the flags for the size of a node's share of the pod subnets. The controller manager's own sizes, /24 and
// /64, are left alone wherever it accepts them: it wants a share to lie inside the subnet and to be at most 16 bits
// longer. A user who sets a size sets them all, because the flag for one family excludes the flag for both.
func nodeMasks(pods []netip.Prefix, extra []config.Arg) []config.Arg {
	const name = "node-cidr-mask-size"
	if slices.ContainsFunc(extra, func(a config.Arg) bool { return strings.HasPrefix(a.Name, name) }) {
		return nil
	}
	var flags []config.Arg
	for _, pod := range pods {
		family, size := "-ipv4", 24
		if pod.Addr().Is6() {
			family, size = "-ipv6", 64
		}
		switch bits := pod.Bits(); {
		case size < bits:
			size = min(bits+4, pod.Addr().BitLen()) // 16 nodes
		case size > bits+16:
			size = bits + 16
		default:
			continue
		}
		flags = append(flags, config.Arg{Name: name + family, Value: strconv.Itoa(size)})
	}
	return flags
}

// bindAddress is where the component answers probes.
func bindAddress(c config.Component) string {
	address, _ := lastArg(c.ExtraArgs, "bind-address")
	return probeHost(cmp.Or(address, "127.0.0.1"))
}
