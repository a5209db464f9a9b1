package manifests

import (
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
)

// What a node's kernel is told at boot. Preflight and the runtime phase say the same to the running kernel.
const (
	ModulesPath = "/etc/modules-load.d/k8s.conf"
	SysctlPath  = "/etc/sysctl.d/99-kubernetes.conf"
)

// Sysctl is a kernel setting.
type Sysctl struct{ Name, Value string }

// Modules are the kernel modules that a node needs. The sysctls for bridges exist only once br_netfilter is there.
func Modules(p Params) []string {
	modules := []string{"overlay", "br_netfilter"}
	if p.Cluster.Spec.Networking.Plugin == config.PluginFlannel {
		modules = append(modules, "vxlan")
	}
	return modules
}

// Sysctls are the settings that pod traffic needs: it is forwarded, and seen by the rules of services also when it only
// crosses the bridge of one node.
func Sysctls(p Params) []Sysctl {
	settings := []Sysctl{
		{"net.ipv4.ip_forward", "1"},
		{"net.bridge.bridge-nf-call-iptables", "1"},
		{"net.bridge.bridge-nf-call-ip6tables", "1"},
	}
	for _, pod := range p.Cluster.PodSubnets() {
		if pod.Addr().Is6() {
			settings = append(settings, Sysctl{"net.ipv6.conf.all.forwarding", "1"})
		}
	}
	return settings
}

// ModulesFile has systemd load the modules at boot.
func ModulesFile(p Params) host.File {
	return host.File{Path: ModulesPath, Mode: fileMode, Data: lines(Modules(p))}
}

// SysctlFile has systemd make the settings at boot.
func SysctlFile(p Params) host.File {
	var assignments []string
	for _, s := range Sysctls(p) {
		assignments = append(assignments, s.Name+" = "+s.Value)
	}
	return host.File{Path: SysctlPath, Mode: fileMode, Data: lines(assignments)}
}

func lines(list []string) []byte {
	return []byte(MarkComment + "Kubernetes needs these.\n" + strings.Join(list, "\n") + "\n")
}
