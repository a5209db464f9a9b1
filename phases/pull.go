package phases

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// Pull is the list of phases that brings images to hosts ahead of time: each goes its own way.
func Pull(c *cluster.Cluster, nodes []*cluster.Node) []workflow.Step {
	return []workflow.Step{workflow.Pipeline(presentRuntime(c, nodes), Images(c, nodes))}
}

// presentRuntime asks for a container runtime, be it myadm's or the user's, and brings none.
func presentRuntime(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	if c.Config.Spec.Runtime.Type == config.RuntimeExisting {
		return existingRuntime(c, nodes)
	}
	socket := c.Config.Spec.Runtime.Socket
	return workflow.Phase{
		Name:  "runtime",
		Short: "look for the container runtime",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			infos, err := r.Stat(ctx, socket)
			if err == nil && infos[0].Mode.Type() != fs.ModeSocket {
				err = fmt.Errorf("no container runtime listens at %s; hint: `myadm apply --only registries,proxy,runtime` brings containerd to all hosts of a document, `myadm init phase runtime` to one host", socket)
			}
			return nil, err
		},
	}
}
