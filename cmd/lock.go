package cmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/lock"
)

// lockFlags are those of commands that change a cluster, of which one runs at a time.
type lockFlags struct {
	cmd      *cobra.Command
	take     bool
	patience time.Duration
}

func (f *lockFlags) registerLock(cmd *cobra.Command) {
	f.cmd = cmd
	flags := cmd.Flags()
	flags.BoolVar(&f.take, "break-lock", false, "take the cluster's lock from whoever has it: their run stops")
	flags.DurationVar(&f.patience, "lock-timeout", 0, "how long to wait for somebody else who changes the cluster (default: not at all)")
}

// lock takes the lock of a cluster, or, where none of its control planes was reached, of the hosts that were. What changes
// the cluster has to run in the context that it returns, and whoever calls it defers release.
func (f *lockFlags) lock(ctx context.Context, streams Streams, c *cluster.Cluster) (locked context.Context, release func(*error), err error) {
	opts := lock.Options{Holder: f.holder(), Break: f.take, Patience: f.patience, Waiting: announce(streams)}
	nodes := c.ControlPlanes()
	if len(nodes) > 0 {
		opts.API = c.FreshKube
	} else if nodes = c.Nodes; len(nodes) == 1 {
		opts.What = nodes[0].Name()
	} else {
		opts.What = "one of the hosts"
	}
	return acquire(ctx, nodes, opts)
}

// lockUnless is lock, unless the command only looks.
func (f *lockFlags) lockUnless(ctx context.Context, streams Streams, c *cluster.Cluster, looks bool) (locked context.Context, release func(*error), err error) {
	if looks {
		return ctx, func(*error) {}, nil
	}
	return f.lock(ctx, streams, c)
}

// lockHosts is lock without a Lease: for a run that replaces the data of the API itself.
func (f *lockFlags) lockHosts(ctx context.Context, streams Streams, c *cluster.Cluster) (locked context.Context, release func(*error), err error) {
	opts := lock.Options{Holder: f.holder(), Break: f.take, Patience: f.patience, Waiting: announce(streams)}
	return acquire(ctx, c.Nodes, opts)
}

func acquire(ctx context.Context, nodes []*cluster.Node, opts lock.Options) (context.Context, func(*error), error) {
	hosts := make([]lock.Host, len(nodes))
	for i, n := range nodes {
		id := n.Facts.MachineID
		if id == "" {
			id = n.Spec.Name
		}
		hosts[i] = lock.Host{ID: id, Host: n.Host}
	}
	held, locked, err := lock.Acquire(ctx, hosts, opts)
	if err != nil {
		return nil, nil, err
	}
	return locked, func(err *error) {
		*err = lostLock(locked, *err)
		held.Release(ctx)
	}, nil
}

// lostLock is err, or that the lock was lost in the meantime: then errors are of what was stopped for it.
func lostLock(ctx context.Context, err error) error {
	var lost *lock.LostError
	if !errors.As(context.Cause(ctx), &lost) || errors.Is(err, lost) { // it tells of it already
		return err
	}
	if lost.Taken() {
		return lost
	}
	return errors.Join(err, lost)
}

// announce tells once for each holder that it is waited for.
func announce(streams Streams) func(*lock.HeldError) {
	told := ""
	return func(held *lock.HeldError) {
		if held.By.ID != told {
			told = held.By.ID
			fmt.Fprintf(streams.Err, "Waiting: %s is locked by %s.\n", held.What, held.By)
		}
	}
}

func (f *lockFlags) holder() lock.Record {
	r := lock.Record{ID: rand.Text(), User: "somebody", PID: os.Getpid(), Command: f.cmd.CommandPath()}
	if u, err := user.Current(); err == nil {
		r.User = u.Username
	}
	if r.User == "root" && os.Getenv("SUDO_USER") != "" {
		r.User = os.Getenv("SUDO_USER")
	}
	if machine, err := os.Hostname(); err == nil {
		r.User += "@" + machine
	}
	return r
}
