package phases

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/delivery"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// leftFiles are the files and folders of a node, whoever made it one. In this order, so that what tells where the rest
// lies goes last.
var leftFiles = []string{
	keptRules,
	delivery.Dir,
	"/var/lib/cni",
	"/run/flannel",
	"/var/log/pods",
	"/var/log/containers",
	"/usr/libexec/kubernetes/kubelet-plugins",
	config.KubeletDir,
	config.KubernetesDir,
}

// runtimeLeft are those of the containerd that myadm brought.
var runtimeLeft = []string{"/var/lib/containerd", "/run/containerd", "/run/nri"}

// markedFiles are removed when they carry myadm's mark: somebody else's have the same names.
var markedFiles = []string{
	config.CNIConfDir + "/10-flannel.conflist",
	manifests.ContainerdConfigPath,
	manifests.ModulesPath,
	manifests.SysctlPath,
	manifests.KubeletProxyPath,
	manifests.ContainerdProxyPath,
	manifests.KubeletDropInPath,
	manifests.KubeletUnitPath,
	manifests.ContainerdUnitPath,
}

// emptyFolders go when nothing is left in them.
var emptyFolders = []string{
	config.CNIBinDir, "/opt/cni", "/etc/systemd/system/kubelet.service.d", "/usr/libexec/kubernetes", "/run/netns",
	"/lib/modules", // the runtime makes it for kube-proxy's mount on hosts without modules
}

// runtimeFolders go likewise with the containerd that myadm brought. One that stays makes them and watches them: it ends when
// the folder of network configurations goes (cni_conf_syncer.go in internal/cri/server of github.com/containerd/containerd).
var runtimeFolders = []string{
	config.CNIConfDir, "/etc/cni", "/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd",
	"/etc/systemd/system/containerd.service.d", manifests.RegistriesDir, "/etc/containerd",
}

// RemoveFiles removes what the phases and the components have put on the host. Folders that are file systems of their
// own are emptied.
func RemoveFiles(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	return workflow.Phase{
		Name:  "remove-files",
		Short: "remove files and folders",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			paths, err := removable(ctx, c, r)
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			for _, p := range paths {
				changes = append(changes, workflow.Change{Action: workflow.Delete, Object: p})
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			paths, err := removable(ctx, c, h)
			if err != nil {
				return err
			}
			files, units := splitUnits(paths)
			if err := h.Remove(ctx, files...); err != nil {
				return err
			}
			folders := emptyFolders
			if own, err := ownRuntime(ctx, h); err != nil {
				return err
			} else if own {
				folders = slices.Concat(emptyFolders, runtimeFolders)
			}
			if _, err := h.Run(ctx, host.Command(append([]string{"sh", "-c", tidyScript, "sh"}, folders...)...)); err != nil {
				return fmt.Errorf("remove empty folders: %w", err)
			}
			if err := h.Remove(ctx, units...); err != nil {
				return err
			}
			if _, err := h.Run(ctx, host.Command("sh", "-c", forgetScript)); err != nil {
				return fmt.Errorf("have systemd forget the units: %w", err)
			}
			return nil
		},
	}
}

// splitUnits tells the units among paths from the other files. As long as a unit is there, an interrupted reset is seen to
// be unfinished, and so everything else goes first, empty folders too.
func splitUnits(paths []string) (files, units []string) {
	for _, p := range paths {
		if p == manifests.KubeletUnitPath || p == manifests.ContainerdUnitPath {
			units = append(units, p)
		} else {
			files = append(files, p)
		}
	}
	return files, units
}

// tidyScript removes those of its arguments that are empty folders, registries' empty folders before them, and the pods'
// cgroups: the kubelet leaves them.
const tidyScript = `
for d in ` + manifests.RegistriesDir + `/* "$@"; do rmdir "$d" 2>/dev/null; done
find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null
true
`

// forgetScript has systemd forget units whose files are gone.
const forgetScript = `systemctl daemon-reload && { systemctl reset-failed kubelet.service containerd.service 2>/dev/null || true; }`

// removable is what there is to remove on a host now, in the order in which it goes. The units come last: they name the
// binaries, and so an interrupted reset still finds those.
func removable(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]string, error) {
	contents, err := ReadFiles(ctx, r, append(slices.Clone(markedFiles), manifests.StaticPodPath("etcd")))
	if err != nil {
		return nil, err
	}
	candidates := slices.Clone(leftFiles)
	if manifest, ok := contents[manifests.StaticPodPath("etcd")]; ok {
		candidates = slices.Insert(candidates, 0, etcdDataDirs(manifest)...)
	}
	candidates = append([]string{c.Config.Spec.Etcd.DataDir}, candidates...)
	if manifests.Marked(contents[manifests.ContainerdUnitPath]) {
		candidates = append(candidates, runtimeLeft...)
	}
	marked, err := ourRegistries(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, path := range markedFiles {
		if data, ok := contents[path]; ok && manifests.Marked(data) {
			marked = append(marked, path)
			candidates = append(candidates, manifests.MarkedBinaries(data)...)
		}
	}
	return present(ctx, r, append(candidates, marked...))
}

// present leaves those of the paths that are there. A folder that is a file system of its own counts when it holds
// anything: it is emptied, and stays.
func present(ctx context.Context, r host.Reader, paths []string) ([]string, error) {
	out, err := r.Query(ctx, host.Command(append([]string{"sh", "-c", presentScript, "sh"}, paths...)...))
	if err != nil {
		return nil, fmt.Errorf("look for what is left: %w", err)
	}
	var left []string
	for line := range strings.Lines(string(out)) {
		p := strings.TrimSuffix(line, "\n")
		asked := slices.Contains(paths, p) || strings.HasPrefix(p, podNetworks) || isBeside(p) // or else half of a name with a line break
		if asked && !slices.Contains(left, p) {
			left = append(left, p)
		}
	}
	return left, nil
}

// besideName is the pattern of what myadm puts beside a file for a time: what a write leaves that was cut, and the binaries
// that an upgrade has brought or replaced.
const besideName = ".*.myadm-*"

// besides are the patterns of these in folders that are not ours to remove. The kubelet's folder is one more: where kubeadm
// made the node, the kubelet is a package's.
var besides = []string{
	manifests.BinDir + "/" + besideName, "/usr/local/sbin/" + besideName, config.CNIBinDir + "/" + besideName,
	config.CNIConfDir + "/" + besideName, "/etc/containerd/" + besideName, "/etc/modules-load.d/" + besideName, "/etc/sysctl.d/" + besideName,
	"/etc/systemd/system/" + besideName, "/etc/systemd/system/kubelet.service.d/" + besideName,
	"/etc/systemd/system/containerd.service.d/" + besideName, manifests.RegistriesDir + "/*/" + besideName,
}

func isBeside(p string) bool {
	matches, err := path.Match(besideName, path.Base(p))
	return err == nil && matches && path.IsAbs(p)
}

// packagedBin is where packages of distributions have the kubelet.
const packagedBin = "/usr/bin"

// presentScript prints those of its arguments that are there, the network namespaces of pods, and what is beside files. The
// kubelet is where its unit runs it.
var presentScript = `
kubelet=$(systemctl show -p ExecStart kubelet.service 2>/dev/null | sed -n 's/^ExecStart={ path=\([^;]*\) ;.*/\1/p')
bin=${kubelet%/*}
for p in "$@" ` + podNetworks + `* ` + strings.Join(besides, " ") + ` "${bin:-` + packagedBin + `}"/` + besideName + `; do
	[ -e "$p" ] || [ -L "$p" ] || continue
	if mountpoint -q "$p" && [ -z "$(ls -A "$p")" ]; then continue; fi
	echo "$p"
done
`

// etcdDataDirs are the folders in which the etcd of a static pod keeps its data. A manifest that cannot be read names
// none; the document's folder is removed all the same.
func etcdDataDirs(manifest []byte) []string {
	var pod corev1.Pod
	if err := yaml.Unmarshal(manifest, &pod); err != nil {
		return nil
	}
	var dirs []string
	for _, v := range pod.Spec.Volumes {
		if v.Name != "etcd-data" || v.HostPath == nil {
			continue
		}
		if dir := path.Clean(v.HostPath.Path); host.CheckRemove(dir) == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
