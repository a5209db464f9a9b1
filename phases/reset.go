package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// Reset is the list of phases that leaves hosts as they were found. It takes away what is ours or kubeadm's; a runtime that
// the user installed stays, without its pods. Hosts of a cluster that goes on are to leave it first, see Leave.
func Reset(c *cluster.Cluster, nodes []*cluster.Node) []workflow.Step {
	return []workflow.Step{quiet(nodes), clean(c, nodes)}
}

// quiet keeps hosts from doing anything more by themselves. Their pods run on.
func quiet(nodes []*cluster.Node) workflow.Step {
	return workflow.Pipeline(
		StopService(nodes, "stop-kubelet", "kubelet.service"),
		VirtualIP(nodes),
	)
}

// clean ends what runs on quiet hosts and removes what is there.
func clean(c *cluster.Cluster, nodes []*cluster.Node) workflow.Step {
	return workflow.Pipeline(
		StopContainers(c, nodes),
		Firewall(c, nodes),
		StopRuntime(nodes),
		Mounts(nodes),
		Links(nodes),
		RemoveFiles(c, nodes),
	)
}

// StopService stops and disables a unit.
func StopService(nodes []*cluster.Node, name, unit string) workflow.Phase {
	return stopUnit(nodes, name, unit, func(context.Context, host.Reader) (bool, error) { return true, nil })
}

// StopRuntime stops containerd where myadm brought it, with its shims: those that miss the end of their pods outlive it.
func StopRuntime(nodes []*cluster.Node) workflow.Phase {
	const unit = "containerd.service"
	p := stopUnit(nodes, "stop-runtime", unit, ownRuntime)
	stop := p.Apply
	p.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
		if _, err := h.Run(ctx, host.Command("systemctl", "kill", "--signal=KILL", unit)); err != nil && !ran(err) { // it may not run
			return fmt.Errorf("end %s: %w", unit, err)
		}
		return stop(ctx, h, changes)
	}
	return p
}

// ownRuntime tells whether myadm brought the host's containerd.
func ownRuntime(ctx context.Context, r host.Reader) (bool, error) {
	unit, err := r.ReadFile(ctx, manifests.ContainerdUnitPath)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return manifests.Marked(unit), err
}

func stopUnit(nodes []*cluster.Node, name, unit string, ours func(context.Context, host.Reader) (bool, error)) workflow.Phase {
	return workflow.Phase{
		Name:  name,
		Short: "stop and disable " + unit,
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			mine, err := ours(ctx, r)
			if err != nil || !mine {
				return nil, err
			}
			state, err := readUnit(ctx, r, unit)
			if err != nil {
				return nil, err
			}
			running := state.active != "inactive" && state.active != "failed"
			if state.load != "loaded" || !running && state.file != "enabled" {
				return nil, nil
			}
			return []workflow.Change{{Action: workflow.Run, Object: "unit " + unit, Detail: "stop and disable"}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			if _, err := h.Run(ctx, host.Command("systemctl", "disable", "--now", unit)); err != nil {
				return fmt.Errorf("stop %s: %w", unit, err)
			}
			return nil
		},
	}
}
