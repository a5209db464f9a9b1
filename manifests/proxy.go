package manifests

import (
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
)

// The drop-ins that give containerd and the kubelet their proxy. The kubelet's comes after kubeadm's.
const (
	ContainerdProxyPath = ContainerdUnitPath + ".d/20-myadm-proxy.conf"
	KubeletProxyPath    = KubeletUnitPath + ".d/20-myadm-proxy.conf"
)

// ProxyEnv is the environment that a proxy takes, in a file that root alone can read: what stands in a unit, systemd shows
// to every user. Without a proxy the file sets nothing.
func ProxyEnv(p Params) host.File {
	var b strings.Builder
	b.WriteString(MarkComment + "containerd and the kubelet have this in their environment.\n")
	if proxy := p.Cluster.Spec.Proxy; proxy.Given() {
		for _, v := range []struct{ name, value string }{
			{"HTTP_PROXY", string(proxy.HTTPProxy)},
			{"HTTPS_PROXY", string(proxy.HTTPSProxy)},
			{"NO_PROXY", strings.Join(config.NoProxyOf(p.Cluster), ",")},
		} {
			if v.value != "" {
				b.WriteString(v.name + "=" + environmentQuote(v.value) + "\n")
			}
		}
	}
	return host.File{Path: config.ProxyEnv, Mode: secretMode, Data: []byte(b.String())}
}

// ProxyDropIn has the unit whose drop-in stands at path read that file. A unit starts without it, too.
func ProxyDropIn(path string) host.File {
	return host.File{Path: path, Mode: fileMode, Data: []byte(MarkComment + `the proxy itself is for root alone to read.
[Service]
EnvironmentFile=-` + config.ProxyEnv + "\n")}
}

// environmentQuote writes a value for an EnvironmentFile: in double quotes, where a backslash is before what means something
// there, as in a shell. The value has no line break.
// Source: systemd.exec(5), EnvironmentFile=
func environmentQuote(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(value) + `"`
}
