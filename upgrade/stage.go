package upgrade

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
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
			missing, err := unstaged(ctx, c, r)
			var changes []workflow.Change
			for _, b := range missing {
				changes = append(changes, workflow.Change{Action: workflow.Create, Object: b.staged, Detail: b.Version})
			}
			return changes, err
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			missing, err := unstaged(ctx, c, h)
			if err != nil {
				return err
			}
			var total, sent int64
			for _, b := range missing {
				total += b.Size
			}
			progress := make(chan int64)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for n := range progress {
					sent += n
					workflow.ReportProgress(ctx, "sent", sent, total)
				}
			}()
			g, sending := errgroup.WithContext(ctx)
			g.SetLimit(3) // as many as fill a connection
			for _, b := range missing {
				g.Go(func() error { return b.send(sending, c, h, progress) })
			}
			err = g.Wait()
			close(progress)
			<-done
			return err
		},
	}
}

// unstaged are the binaries that are neither in place nor staged.
func unstaged(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]binary, error) {
	all, err := binaries(ctx, c, r)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	old, err := stale(ctx, r, all, inPlace)
	if err != nil || len(old) == 0 {
		return nil, err
	}
	return stale(ctx, r, old, staged)
}

func (b binary) send(ctx context.Context, c *cluster.Cluster, h host.Host, progress chan<- int64) error {
	var before int64
	blob := host.Blob{
		Path: b.staged, Mode: fs.FileMode(b.Mode), Size: b.Size, SHA256: b.SHA256,
		Open: func() (io.ReadSeekCloser, error) { return c.Bundle.Open(ctx, b.Artifact) },
	}
	err := h.Upload(ctx, blob, func(onHost int64) {
		progress <- onHost - before
		before = onHost
	})
	if err != nil {
		return fmt.Errorf("send %s: %w", b.Name, err)
	}
	return nil
}
