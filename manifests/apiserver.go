package manifests

import (
	"strconv"
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	corev1 "k8s.io/api/core/v1"
)

// APIServer is the static pod of the node's API server.
func APIServer(p Params, n Node) (host.File, error) {
	spec := p.Cluster.Spec
	address := n.AdvertiseAddress.String()
	return staticPod{
		name:        APIServerName,
		image:       p.Images.APIServer,
		annotations: map[string]string{APIServerEndpointAnnotation: hostPort(address, spec.APIServerPort)},
		command:     command(APIServerName, apiServerFlags(spec, n), p.Cluster.APIServerArgs()),
		env:         spec.APIServer.ExtraEnvs,
		mounts:      mergeMounts(append(caMounts(n.CADirs), pkiMount()), spec.APIServer.ExtraVolumes),
		requests:    cpu("250m"),
		health: health{
			host: probeHost(address), port: spec.APIServerPort, scheme: corev1.URISchemeHTTPS,
			live: "/livez", ready: "/readyz", startup: "/livez",
		},
		patch: spec.APIServer.Patch,
	}.file()
}

func apiServerFlags(spec config.Spec, n Node) []config.Arg {
	pki := func(name string) string { return config.PKIDir + "/" + name }
	flags := []config.Arg{
		{Name: "advertise-address", Value: n.AdvertiseAddress.String()},
		{Name: "allow-privileged", Value: "true"},
		{Name: "client-ca-file", Value: pki("ca.crt")},
		{Name: "enable-admission-plugins", Value: "NodeRestriction"},
		{Name: "enable-bootstrap-token-auth", Value: "true"},
		{Name: "etcd-cafile", Value: config.EtcdCACert},
		{Name: "etcd-certfile", Value: config.EtcdClientCert},
		{Name: "etcd-keyfile", Value: config.EtcdClientKey},
		{Name: "etcd-servers", Value: etcdServers(spec.Etcd, n)},
		{Name: "kubelet-client-certificate", Value: pki("apiserver-kubelet-client.crt")},
		{Name: "kubelet-client-key", Value: pki("apiserver-kubelet-client.key")},
		{Name: "kubelet-preferred-address-types", Value: "InternalIP,ExternalIP,Hostname"},
		{Name: "proxy-client-cert-file", Value: pki("front-proxy-client.crt")},
		{Name: "proxy-client-key-file", Value: pki("front-proxy-client.key")},
		{Name: "requestheader-allowed-names", Value: "front-proxy-client"},
		{Name: "requestheader-client-ca-file", Value: pki("front-proxy-ca.crt")},
		{Name: "requestheader-extra-headers-prefix", Value: "X-Remote-Extra-"},
		{Name: "requestheader-group-headers", Value: "X-Remote-Group"},
		{Name: "requestheader-username-headers", Value: "X-Remote-User"},
		{Name: "secure-port", Value: strconv.Itoa(int(spec.APIServerPort))},
		{Name: "service-account-issuer", Value: "https://kubernetes.default.svc." + spec.Networking.DNSDomain},
		{Name: "service-account-key-file", Value: pki("sa.pub")},
		{Name: "service-account-signing-key-file", Value: pki("sa.key")},
		{Name: "service-cluster-ip-range", Value: spec.Networking.ServiceSubnet},
		{Name: "tls-cert-file", Value: pki("apiserver.crt")},
		{Name: "tls-private-key-file", Value: pki("apiserver.key")},
	}
	// The API server refuses to start with both a list of modes and a file that configures them.
	if _, structured := lastArg(spec.APIServer.ExtraArgs, "authorization-config"); !structured {
		flags = append(flags, config.Arg{Name: "authorization-mode", Value: "Node,RBAC"})
	}
	return flags
}

// etcdServers are the client URLs of etcd: those of the external one, or the one of the node's own member.
func etcdServers(etcd config.Etcd, n Node) string {
	if etcd.External != nil {
		return strings.Join(etcd.External.Endpoints, ",")
	}
	if urls, moved := lastArg(etcd.ExtraArgs, "advertise-client-urls"); moved {
		return urls
	}
	return "https://" + hostPort(n.loopback(), config.EtcdClientPort)
}

// CADirs are the places where distributions keep the certificates that /etc/ssl/certs links to. A component that sees
// only the links trusts nobody. Those that a host lacks are not mounted, or the kubelet would make them.
func CADirs() []string {
	return []string{
		"/etc/ca-certificates",
		"/etc/pki/ca-trust",
		"/etc/pki/tls/certs",
		"/usr/local/share/ca-certificates",
		"/usr/share/ca-certificates",
	}
}

func caMounts(dirs []string) []config.HostPathMount {
	mounts := []config.HostPathMount{readOnly("ca-certs", "/etc/ssl/certs", corev1.HostPathDirectoryOrCreate)}
	for _, dir := range dirs {
		name := strings.ReplaceAll(strings.TrimPrefix(dir, "/"), "/", "-")
		mounts = append(mounts, readOnly(name, dir, corev1.HostPathDirectoryOrCreate))
	}
	return mounts
}

func pkiMount() config.HostPathMount {
	return readOnly("k8s-certs", config.PKIDir, corev1.HostPathDirectoryOrCreate)
}

func kubeconfigMount(path string) config.HostPathMount {
	return readOnly("kubeconfig", path, corev1.HostPathFileOrCreate)
}

// readOnly is a path that has the same name inside the pod.
func readOnly(name, path string, kind corev1.HostPathType) config.HostPathMount {
	return config.HostPathMount{Name: name, HostPath: path, MountPath: path, ReadOnly: true, PathType: kind}
}
