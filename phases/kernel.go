package phases

import (
	"context"
	"fmt"
	"strings"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// moduleSigns tell that a module is in the kernel, whether it was loaded or built in: a file that it alone brings, or a
// file system that it alone provides. Whether a built-in module shows in /sys/module depends on the module.
var moduleSigns = map[string]string{
	"overlay":      "grep -qw overlay /proc/filesystems",
	"br_netfilter": "[ -e /proc/sys/net/bridge ]",
	"vxlan":        "[ -e /sys/module/vxlan ]",
}

// Kernel loads the modules and makes the settings that pod traffic needs, now and at every boot.
func Kernel(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	p := params(c)
	files := []host.File{manifests.ModulesFile(p), manifests.SysctlFile(p)}
	return workflow.Phase{
		Name:  "kernel",
		Short: "load kernel modules and make settings",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			changes, err := diffFiles(ctx, r, files)
			if err != nil {
				return nil, err
			}
			out, err := r.Query(ctx, host.Command("sh", "-c", kernelScript(p)))
			if err != nil {
				return nil, fmt.Errorf("read the kernel's settings: %w", err)
			}
			return append(changes, diffKernel(p, out)...), nil
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			if err := writeChanged(ctx, h, files, changes); err != nil {
				return err
			}
			for _, m := range manifests.Modules(p) {
				if !hasObject(changes, "module "+m) {
					continue
				}
				if _, err := h.Run(ctx, host.Command("modprobe", m)); err != nil {
					return fmt.Errorf("load module %s: %w; hint: install the kernel's modules on the host", m, err)
				}
			}
			for _, s := range manifests.Sysctls(p) {
				if !hasObject(changes, "sysctl "+s.Name) {
					continue
				}
				if _, err := h.Run(ctx, host.Command("sysctl", "-w", s.Name+"="+s.Value)); err != nil {
					return fmt.Errorf("set %s: %w", s.Name, err)
				}
			}
			return nil
		},
	}
}

// kernelScript prints module=NAME for what is in the kernel and sysctl=NAME VALUE for every setting.
func kernelScript(p manifests.Params) string {
	var b strings.Builder
	b.WriteString("exec 2>/dev/null\n")
	for _, m := range manifests.Modules(p) {
		fmt.Fprintf(&b, "if %s; then echo module=%s; fi\n", moduleSigns[m], m)
	}
	for _, s := range manifests.Sysctls(p) {
		fmt.Fprintf(&b, "echo sysctl=%s $(cat /proc/sys/%s)\n", s.Name, strings.ReplaceAll(s.Name, ".", "/"))
	}
	return b.String()
}

func diffKernel(p manifests.Params, out []byte) []workflow.Change {
	loaded, settings := map[string]bool{}, map[string]string{}
	for name, value := range answer(out) {
		switch name {
		case "module":
			loaded[value] = true
		case "sysctl":
			key, v, _ := strings.Cut(value, " ")
			settings[key] = v
		}
	}
	var changes []workflow.Change
	for _, m := range manifests.Modules(p) {
		if !loaded[m] {
			changes = append(changes, workflow.Change{Action: workflow.Run, Object: "module " + m, Detail: "load"})
		}
	}
	for _, s := range manifests.Sysctls(p) {
		if settings[s.Name] != s.Value {
			changes = append(changes, workflow.Change{Action: workflow.Update, Object: "sysctl " + s.Name, Detail: s.Value})
		}
	}
	return changes
}
