package phases

import (
	"context"
	"fmt"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/cri"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// orRemoved is a phase that ends containers, except where a runtime stays that is not ours: that one removes its pods itself,
// since it would go on counting them, and their mounts and networks are its own.
func orRemoved(c *cluster.Cluster, ended workflow.Phase) workflow.Phase {
	phase := ended
	phase.Check = func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
		client, err := stayingRuntime(ctx, c, r)
		if err != nil {
			return nil, err
		}
		if client == nil {
			return ended.Check(ctx, r)
		}
		defer client.Close()
		pods, err := client.Pods(ctx)
		if err != nil || len(pods) == 0 {
			return nil, err
		}
		return []workflow.Change{{Action: workflow.Delete, Object: "pods", Detail: fmt.Sprint(len(pods))}}, nil
	}
	phase.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
		client, err := stayingRuntime(ctx, c, h)
		if err != nil {
			return err
		}
		if client == nil {
			return ended.Apply(ctx, h, changes)
		}
		defer client.Close()
		pods, err := client.Pods(ctx)
		if err != nil {
			return err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(4)
		for _, id := range pods {
			g.Go(func() error { return client.RemovePod(ctx, id) })
		}
		return g.Wait()
	}
	return phase
}

// stayingRuntime is a host's runtime that reset leaves; nil when there is none that answers by CRI.
func stayingRuntime(ctx context.Context, c *cluster.Cluster, r host.Reader) (*cri.Client, error) {
	own, err := ownRuntime(ctx, r)
	if err != nil || own {
		return nil, err
	}
	socket := c.Config.Spec.Runtime.Socket
	infos, err := r.Stat(ctx, socket)
	if err != nil || infos[0].Mode.Type() != fs.ModeSocket {
		return nil, err
	}
	client, err := cri.Open(ctx, socket, c.Node(r).Dial)
	if err != nil {
		return nil, ctx.Err() // it is down, or serves no CRI
	}
	return client, nil
}
