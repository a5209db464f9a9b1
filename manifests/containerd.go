package manifests

import (
	"fmt"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
)

// ContainerdConfigPath is where containerd looks without being told.
const ContainerdConfigPath = "/etc/containerd/config.toml"

// ContainerdConfig is the configuration of a containerd 2.x that myadm brings: only what Kubernetes needs to differ from
// containerd's defaults or relies on. An administrator's settings go into conf.d, where each file is merged over this
// one table by table and which reset leaves alone.
func ContainerdConfig(p Params) host.File {
	data := fmt.Sprintf(MarkComment+`put settings of your own into /etc/containerd/conf.d/*.toml.
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

[grpc]
  address = %q

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %q

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [%q]
  conf_dir = %q

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = %q

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = %t
`, p.Cluster.Spec.Runtime.Socket, p.Images.Pause, config.CNIBinDir, config.CNIConfDir, RegistriesDir, CgroupDriver(p.Cluster.Spec) == defaultCgroupDriver)
	return host.File{Path: ContainerdConfigPath, Mode: fileMode, Data: []byte(data)}
}

// CgroupDriver is the kubelet's. The runtime must use the same one, or two managers write to one tree of cgroups.
func CgroupDriver(spec config.Spec) string {
	if driver, ok := spec.Kubelet["cgroupDriver"].(string); ok && driver != "" {
		return driver
	}
	return defaultCgroupDriver
}
