package manifests

import (
	"bytes"
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
)

// Where the units and the binaries stand. /etc, not /usr/lib: what is there belongs to the administrator, and no
// distribution's package overwrites it.
const (
	BinDir = "/usr/local/bin"

	unitDir            = "/etc/systemd/system"
	KubeletUnitPath    = unitDir + "/kubelet.service"
	KubeletDropInPath  = unitDir + "/kubelet.service.d/10-kubeadm.conf"
	ContainerdUnitPath = unitDir + "/containerd.service"
)

// The marks of what myadm places on a host. systemd ignores sections that start with X-. A file outside of kubeadm's contract
// begins with MarkComment.
const (
	MarkComment = "# Written by myadm; "
	markSection = "[X-Myadm]"
	markBinary  = "Binaries="
)

// Marked reports whether myadm wrote the file: a unit, a configuration file outside of kubeadm's contract, or flannel's
// conflist. Files of the contract have no mark, since kubeadm writes the same ones.
func Marked(data []byte) bool {
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); string(line) == markSection || bytes.HasPrefix(line, []byte(MarkComment)) {
			return true
		}
	}
	return bytes.Contains(data, []byte(`"name": "`+flannelNetwork+`"`))
}

// MarkedBinaries are the paths of the binaries that came with a unit of ours; none if the unit is not ours.
func MarkedBinaries(unit []byte) []string {
	_, section, ours := strings.Cut("\n"+string(unit), "\n"+markSection+"\n")
	if !ours {
		return nil
	}
	var paths []string
	for line := range strings.Lines(section) {
		if list, ok := strings.CutPrefix(line, markBinary); ok {
			paths = append(paths, strings.Fields(list)...)
		} else if strings.HasPrefix(line, "[") {
			break
		}
	}
	return paths
}

// mark is the section that says that a unit is ours and which binaries came with it.
func mark(binaries []string) string {
	return markSection + "\n" + markBinary + strings.Join(binaries, " ") + "\n"
}

// KubeletUnit runs the kubelet. It is started again whatever it ends with: before join its configuration is missing, and
// a static pod's upgrade may take it down. Binaries are the paths that go when the unit goes.
func KubeletUnit(p Params, binaries []string) host.File {
	needs := "network-online.target"
	if p.Cluster.Spec.Runtime.Type == config.RuntimeContainerd {
		needs += " containerd.service"
	}
	return host.File{Path: KubeletUnitPath, Mode: fileMode, Data: []byte(`[Unit]
Description=kubelet, the Kubernetes node agent
Documentation=https://kubernetes.io/docs/
Wants=` + needs + `
After=` + needs + `
StartLimitIntervalSec=0

[Service]
ExecStart=` + BinDir + `/kubelet
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target

` + mark(binaries))}
}

// KubeletDropIn gives the kubelet its flags. Its name, the variables and the files that they come from are kubeadm's, so
// that what administrators know of them holds: KUBELET_EXTRA_ARGS in /etc/default/kubelet comes last and wins.
func KubeletDropIn() host.File {
	return host.File{Path: KubeletDropInPath, Mode: fileMode, Data: []byte(MarkComment + `kubelet.service and kubeadm-flags.env go with it.
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=` + config.BootstrapKubeletConf + ` --kubeconfig=` + config.KubeletConf + `"
Environment="KUBELET_CONFIG_ARGS=--config=` + config.KubeletConfigFile + `"
EnvironmentFile=-` + config.KubeletFlagsEnv + `
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=` + BinDir + `/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
`)}
}

// ContainerdUnit runs containerd. Stopping it leaves the containers alone (KillMode=process), and their cgroups are its
// own to arrange (Delegate). The limit on open files stays systemd's: containers inherit it, and programs that go through
// all possible descriptors at their start take minutes when there is none.
func ContainerdUnit(binaries []string) host.File {
	return host.File{Path: ContainerdUnitPath, Mode: fileMode, Data: []byte(`[Unit]
Description=containerd, the container runtime
Documentation=https://containerd.io
After=network.target dbus.service

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe overlay
ExecStart=` + BinDir + `/containerd
Delegate=yes
KillMode=process
Restart=always
RestartSec=1
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target

` + mark(binaries))}
}
