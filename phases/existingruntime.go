package phases

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/cri"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// existingRuntime is a runtime of the user's, used as it is. Preflight has judged it.
func existingRuntime(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	socket := c.Config.Spec.Runtime.Socket
	return workflow.Phase{
		Name:  "runtime",
		Short: "look for the container runtime",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			infos, err := r.Stat(ctx, socket)
			if err != nil {
				return nil, err
			}
			if infos[0].Mode.Type() != fs.ModeSocket {
				return nil, fmt.Errorf("no container runtime listens at %s; hint: start it, set spec.runtime.socket, or leave spec.runtime out to have myadm bring containerd", socket)
			}
			return nil, nil
		},
	}
}

// The names of findings about a runtime of the user's. The first two are kubeadm's.
const (
	findingCRI            = "CRI"
	findingRuntimeVersion = "ContainerRuntimeVersion"
	findingCgroupDriver   = "CgroupDriver"
)

// judgeRuntime asks a runtime of the user's what it is, and tells what keeps it from running this cluster's pods. That it has
// no network yet is no finding: that comes with the pod network.
func judgeRuntime(ctx context.Context, c *cluster.Cluster, n *cluster.Node) []Finding {
	spec := c.Config.Spec
	if spec.Runtime.Type != config.RuntimeExisting {
		return nil
	}
	client, err := cri.Open(ctx, spec.Runtime.Socket, n.Dial)
	if err != nil {
		return fatal(true, findingCRI, "%v", err)
	}
	defer client.Close()
	var all []Finding
	add := func(bad bool, name, format string, args ...any) {
		all = append(all, fatal(bad, name, format, args...)...)
	}
	version := client.Version()
	runs := fmt.Sprintf("%s %s at %s", version.RuntimeName, version.RuntimeVersion, spec.Runtime.Socket)
	if err := cri.Fits(spec.KubernetesVersion, version.RuntimeName, version.RuntimeVersion); err != nil {
		add(true, findingRuntimeVersion, "%v", err)
	}
	conditions, err := client.Conditions(ctx)
	add(err != nil, findingCRI, "%v", err)
	for _, condition := range conditions {
		add(condition.Type == "RuntimeReady" && !condition.Ready, findingCRI, "%s is not ready (%s); hint: see what it logs, and restart it",
			runs, strings.TrimPrefix(condition.Reason+": "+condition.Message, ": "))
	}
	want := manifests.CgroupDriver(spec)
	driver, err := client.CgroupDriver(ctx)
	add(err != nil, findingCRI, "%v", err)
	add(err == nil && driver != "" && driver != want, findingCgroupDriver,
		"%s has the cgroup driver %s, and the kubelet is to have %s; hint: %s, or set spec.kubelet.cgroupDriver: %s",
		runs, driver, want, driverHint(version.RuntimeName, want), driver)
	return all
}

// driverHint tells how a runtime is given a cgroup driver.
func driverHint(runtimeName, driver string) string {
	if runtimeName == cri.CRIO {
		return fmt.Sprintf("set cgroup_manager = %q below [crio.runtime] in /etc/crio/crio.conf and restart it", driver)
	}
	return fmt.Sprintf("set SystemdCgroup = %t in the options of runc in /etc/containerd/config.toml and restart it", driver == "systemd")
}
