package phases

import (
	"context"
	"errors"
	"io/fs"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// Runtime brings containerd and starts it. With runtime.type existing it only looks whether the socket is there.
func Runtime(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	if c.Config.Spec.Runtime.Type == config.RuntimeExisting {
		return existingRuntime(c, nodes)
	}
	service := unit{name: "containerd.service", files: []string{
		manifests.ContainerdUnitPath, manifests.ContainerdConfigPath, manifests.ContainerdProxyPath, config.ProxyEnv,
	}}
	return workflow.Phase{
		Name:  "runtime",
		Short: "bring containerd and start it",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			if c.Bundle == nil {
				if err := requirePrepared(ctx, r, manifests.BinDir+"/containerd"); err != nil {
					return nil, err
				}
			}
			binaries, files, err := runtimeFiles(ctx, c, r)
			if err != nil {
				return nil, err
			}
			changes, err := DiffBinaries(ctx, r, binaries)
			if err != nil {
				return nil, err
			}
			more, err := diffFiles(ctx, r, files)
			if err != nil {
				return nil, err
			}
			state, err := diffUnit(ctx, r, service.reading(binaries))
			return append(append(changes, more...), state...), err
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			binaries, files, err := runtimeFiles(ctx, c, h)
			if err != nil {
				return err
			}
			// The unit goes first: it names the binaries, so that reset finds them also when the run is cut now.
			if err := writeChanged(ctx, h, files, changes); err != nil {
				return err
			}
			if err := SendBinaries(ctx, c, h, binaries, changes); err != nil {
				return err
			}
			left, err := diffUnit(ctx, h, service.reading(binaries))
			if err != nil || len(left) == 0 {
				return err
			}
			return startUnit(ctx, h, service)
		},
	}
}

// reading is the unit with the binaries among the files that it reads when it starts.
func (u unit) reading(binaries []bundle.Artifact) unit {
	files := append([]string(nil), u.files...)
	for _, a := range binaries {
		files = append(files, a.Target)
	}
	return unit{name: u.name, files: files}
}

func runtimeFiles(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]bundle.Artifact, []host.File, error) {
	n := c.Node(r)
	binaries, err := artifacts(c, n, bundle.KindBinary, bundle.RoleRuntime)
	if err != nil {
		return nil, nil, err
	}
	targets, err := unitBinaries(ctx, r, binaries, manifests.ContainerdUnitPath)
	if err != nil {
		return nil, nil, err
	}
	return binaries, []host.File{manifests.ContainerdConfig(params(c)), manifests.ContainerdUnit(targets)}, nil
}

// unitBinaries are the paths that go when the unit goes: those of the bundle, or, without one, those that the unit on
// the host names already.
func unitBinaries(ctx context.Context, r host.Reader, binaries []bundle.Artifact, unitPath string) ([]string, error) {
	if len(binaries) > 0 {
		targets := make([]string, len(binaries))
		for i, a := range binaries {
			targets[i] = a.Target
		}
		return targets, nil
	}
	data, err := r.ReadFile(ctx, unitPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return manifests.MarkedBinaries(data), err
}
