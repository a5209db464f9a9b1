package upgrade

import (
	"context"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// Stage brings the binaries of the new version to the hosts, beside those that run: a kubelet that is started again for
// another reason must not come up newer than the API server.
func Stage(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	return workflow.Phase{
		Name:  "binaries",
		Short: "bring the binaries, beside those that run",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			_, changes, err := unstaged(ctx, c, r)
			return changes, err
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			waiting, changes, err := unstaged(ctx, c, h)
			if err != nil {
				return err
			}
			return phases.SendBinaries(ctx, c, h, waiting, changes)
		},
	}
}

// unstaged are the binaries that are not in place, at the places where they are to wait, and what is still to be done for
// them to wait there.
func unstaged(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]bundle.Artifact, []workflow.Change, error) {
	all, err := binaries(ctx, c, r)
	if err != nil || len(all) == 0 {
		return nil, nil, err
	}
	old, err := stale(ctx, r, all)
	if err != nil || len(old) == 0 {
		return nil, nil, err
	}
	waiting := make([]bundle.Artifact, len(old))
	for i, b := range old {
		waiting[i] = b.Artifact
		waiting[i].Target = b.staged
	}
	changes, err := phases.DiffBinaries(ctx, r, waiting)
	return waiting, changes, err
}
