package manifests

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	etcdPKI         = config.PKIDir + "/etcd"
	etcdMetricsPort = 2381
)

// Etcd is the static pod of the node's member of the stacked etcd.
func Etcd(p Params, n Node) (host.File, error) {
	spec := p.Cluster.Spec.Etcd
	return staticPod{
		name:        EtcdName,
		image:       p.Images.Etcd,
		annotations: map[string]string{EtcdURLsAnnotation: n.EtcdClientURL()},
		command:     command(EtcdName, etcdFlags(spec.DataDir, n), spec.ExtraArgs),
		env:         spec.ExtraEnvs,
		mounts: []config.HostPathMount{
			{Name: "etcd-data", HostPath: spec.DataDir, MountPath: spec.DataDir, PathType: corev1.HostPathDirectoryOrCreate},
			{Name: "etcd-certs", HostPath: etcdPKI, MountPath: etcdPKI, PathType: corev1.HostPathDirectoryOrCreate},
		},
		requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("100m"),
			corev1.ResourceMemory: resource.MustParse("100Mi"),
		},
		health: etcdHealth(n, spec.ExtraArgs),
		patch:  spec.Patch,
	}.file()
}

func etcdFlags(dataDir string, n Node) []config.Arg {
	members := n.InitialCluster
	if len(members) == 0 {
		members = []Member{{Name: n.Name, PeerURL: n.EtcdPeerURL()}}
	}
	initial := make([]string, 0, len(members))
	for _, m := range members {
		initial = append(initial, m.Name+"="+m.PeerURL)
	}
	flags := []config.Arg{
		{Name: "advertise-client-urls", Value: n.EtcdClientURL()},
		{Name: "cert-file", Value: etcdPKI + "/server.crt"},
		{Name: "client-cert-auth", Value: "true"},
		{Name: "data-dir", Value: dataDir},
		{Name: "feature-gates", Value: "InitialCorruptCheck=true"},
		{Name: "initial-advertise-peer-urls", Value: n.EtcdPeerURL()},
		{Name: "initial-cluster", Value: strings.Join(initial, ",")},
		{Name: "key-file", Value: etcdPKI + "/server.key"},
		{Name: "listen-client-urls", Value: "https://" + hostPort(n.loopback(), config.EtcdClientPort) + "," + n.EtcdClientURL()},
		{Name: "listen-metrics-urls", Value: "http://" + hostPort(n.loopback(), etcdMetricsPort)},
		{Name: "listen-peer-urls", Value: n.EtcdPeerURL()},
		{Name: "name", Value: n.Name},
		{Name: "peer-cert-file", Value: etcdPKI + "/peer.crt"},
		{Name: "peer-client-cert-auth", Value: "true"},
		{Name: "peer-key-file", Value: etcdPKI + "/peer.key"},
		{Name: "peer-trusted-ca-file", Value: etcdPKI + "/ca.crt"},
		{Name: "snapshot-count", Value: "10000"},
		{Name: "trusted-ca-file", Value: etcdPKI + "/ca.crt"},
		{Name: "watch-progress-notify-interval", Value: "5s"},
	}
	if len(n.InitialCluster) > 0 {
		flags = append(flags, config.Arg{Name: "initial-cluster-state", Value: "existing"})
	}
	return flags
}

// EtcdClientURL is where the node's member serves clients.
func (n Node) EtcdClientURL() string {
	return "https://" + hostPort(n.AdvertiseAddress.String(), config.EtcdClientPort)
}

// EtcdPeerURL is where the other members reach the node's.
func (n Node) EtcdPeerURL() string {
	return "https://" + hostPort(n.AdvertiseAddress.String(), config.EtcdPeerPort)
}

// etcdHealth follows the first URL of the user's listen-metrics-urls, which is where etcd then answers probes. What
// cannot be read of it stays as it is: etcd itself refuses a URL that it cannot read.
func etcdHealth(n Node, extra []config.Arg) health {
	h := health{
		host: n.loopback(), port: etcdMetricsPort, scheme: corev1.URISchemeHTTP,
		live: "/livez", ready: "/readyz", startup: "/readyz",
	}
	urls, _ := lastArg(extra, "listen-metrics-urls")
	first, _, _ := strings.Cut(urls, ",")
	u, err := url.Parse(first)
	if err != nil {
		return h
	}
	if u.Scheme == "https" {
		h.scheme = corev1.URISchemeHTTPS
	}
	if u.Hostname() != "" {
		h.host = probeHost(u.Hostname())
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && port > 0 {
		h.port = int32(port)
	}
	return h
}
