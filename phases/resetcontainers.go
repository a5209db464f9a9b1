package phases

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// StopContainers ends the pods of a host. The kubelet is stopped by then and starts none anew.
func StopContainers(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	return orRemoved(c, workflow.Phase{
		Name:  "stop-containers",
		Short: "end the pods",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			ids, err := containers(ctx, c, r)
			if err != nil || len(ids) == 0 {
				return nil, err
			}
			return []workflow.Change{{Action: workflow.Delete, Object: "containers", Detail: fmt.Sprint(len(ids))}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			ids, err := containers(ctx, c, h)
			if err != nil {
				return err
			}
			g, ctx := errgroup.WithContext(ctx)
			g.SetLimit(4)
			for _, id := range ids {
				g.Go(func() error {
					// A container without a task has nothing to kill, which ctr calls an error.
					if _, err := h.Run(ctx, ctr(c, "tasks", "rm", "--force", id)); err != nil && !ran(err) {
						return err
					}
					// The runtime may have come to its end by itself meanwhile.
					if _, err := h.Run(ctx, ctr(c, "containers", "rm", id)); err != nil && !strings.Contains(err.Error(), "not found") {
						return fmt.Errorf("remove container %s: %w", id, err)
					}
					return nil
				})
			}
			return g.Wait()
		},
	})
}

// ran tells whether err is of a command that ran and had something to say, and not of the way to the host.
func ran(err error) bool {
	_, ok := host.ExitCode(err)
	return ok
}

// containers lists the containers of the host's pods; none when there is no containerd that answers.
func containers(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]string, error) {
	out, err := r.Query(ctx, ctr(c, "containers", "ls", "-q"))
	if err != nil {
		if ran(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// proxyImage is the image of kube-proxy on the host: it brings the tools that read and write the kernel's packet
// filter, which the host itself need not have. Empty when there is none.
func proxyImage(ctx context.Context, c *cluster.Cluster, r host.Reader) (string, error) {
	out, err := r.Query(ctx, ctr(c, "images", "ls", "-q"))
	if err != nil {
		if ran(err) {
			return "", nil
		}
		return "", fmt.Errorf("list images: %w", err)
	}
	for line := range bytes.Lines(out) {
		name := strings.TrimSpace(string(line))
		if strings.Contains(name, "/kube-proxy:") {
			return name, nil
		}
	}
	return "", nil
}
