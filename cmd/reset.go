package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/phases"
)

// resetFlags are reset's.
type resetFlags struct {
	target
	selection
	lockFlags
	yes         bool
	all         bool
	force       bool
	unreachable bool
}

func newResetCommand(streams Streams) *cobra.Command {
	var flags resetFlags
	cmd := &cobra.Command{
		Use:   "reset [NAME...]",
		Short: "Take hosts out of the cluster, and leave them as they were found",
		Long: `Take hosts out of the cluster, and leave them as they were found: units, files, mounts, network links and addresses,
packet filter rules, and the data of the containerd that myadm brought.

With a document, the named hosts of it are taken out of the cluster and cleaned, or, with --all, every one. With --host
it is those hosts, and otherwise this machine. Kernel settings that are in force stay until the next boot.

The cluster goes on without them, as long as a control plane of the document stays: the load balancers of the other nodes
stop leading to a control plane that leaves, its Node is deleted and its member of etcd removed, before anything on its
host ends. Where etcd would have no quorum afterwards, or has none, nothing is done; --force cleans the host all the same.

With --unreachable only the cluster's side of this is done, for hosts that are gone for good. They must not come back with
their old disks.`,
		Example: `  # take a worker or a control plane out of the cluster and clean it
  myadm reset w-1 -f cluster.yaml

  # a control plane that is lost; then let the host that is now in its place in the document join
  myadm reset cp-3 --unreachable -f cluster.yaml
  myadm join -f cluster.yaml

  # everything
  myadm reset --all -f cluster.yaml --yes

  # this machine
  myadm reset`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return runReset(cmd.Context(), streams, flags, args) },
	}
	keep(cmd)
	flags.target.register(cmd)
	flags.selection.registerNames(cmd)
	flags.registerLock(cmd)
	f := cmd.Flags()
	f.BoolVar(&flags.yes, "yes", false, "do not ask")
	f.BoolVar(&flags.all, "all", false, "every host of the document")
	f.BoolVar(&flags.force, "force", false, "clean the hosts also when etcd loses its quorum with them, or the cluster does not answer")
	f.BoolVar(&flags.unreachable, "unreachable", false, "the hosts are gone for good: take them out of the cluster without them")
	return cmd
}

func runReset(ctx context.Context, streams Streams, flags resetFlags, names []string) error {
	cfg, err := flags.loadRunning(config.RoleWorker)
	if err != nil {
		return err
	}
	config.SetDefaults(cfg)
	if err := config.ValidateJoin(cfg); err != nil {
		return err
	}
	chosen, err := flags.choose(cfg, names)
	if err != nil {
		return err
	}
	if err := flags.confirm(ctx, streams, chosen); err != nil {
		return err
	}
	if flags.file != "" && !serves(without(cfg.Spec.Hosts, chosen)) {
		return flags.end(ctx, streams, cfg, chosen)
	}
	return flags.leave(ctx, streams, cfg, chosen)
}

// end cleans hosts whose cluster ends with them.
func (f *resetFlags) end(ctx context.Context, streams Streams, cfg *config.Cluster, hosts []config.Host) (err error) {
	cfg.Spec.Hosts = hosts // nobody else is needed
	c, unreached := f.open(ctx, cfg, nil, streams)
	defer c.Close() //nolint:staticcheck // there is a cluster also when hosts are missing in it
	ctx, unlock, err := f.lock(ctx, streams, c)
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer unlock(&err)
	_, err = runSteps(ctx, streams, f.selection, f.verbose, phases.Reset(c, c.Nodes))
	return errors.Join(unreached, err)
}

// leave takes hosts out of a cluster that goes on.
func (f *resetFlags) leave(ctx context.Context, streams Streams, cfg *config.Cluster, chosen []config.Host) (err error) {
	if f.unreachable {
		if err := f.wantGone(ctx, cfg, chosen); err != nil {
			return err
		}
		cfg.Spec.Hosts = without(cfg.Spec.Hosts, chosen)
	}
	c, openErr := f.open(ctx, cfg, nil, streams)
	defer c.Close() //nolint:staticcheck // there is a cluster also when hosts are missing in it
	leaving, unreached := f.reached(c, chosen)
	if f.unreachable {
		leaving = chosen
	}
	if len(leaving) == 0 {
		return unreached
	}
	if len(c.Nodes) == 0 {
		return openErr
	}
	ctx, unlock, err := f.lock(ctx, streams, c)
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer unlock(&err)
	l, err := phases.NewLeave(ctx, c, leaving, f.force)
	if err != nil {
		return errors.Join(unreached, err)
	}
	for _, w := range l.Warnings {
		streams.note(slog.LevelWarn, w)
	}
	_, err = runSteps(ctx, streams, f.selection, f.verbose, l.Steps())
	return errors.Join(unreached, err)
}

// reached are those of the chosen hosts that were, as they call themselves. The error tells of the others.
func (f *resetFlags) reached(c *cluster.Cluster, chosen []config.Host) (hosts []config.Host, unreached error) {
	for _, n := range c.Nodes {
		if isOne(chosen, n.Spec) {
			hosts = append(hosts, n.Spec)
		}
	}
	var errs []error
	for _, m := range c.Missing {
		if !isOne(chosen, m.Spec) {
			continue
		}
		err := m.Err
		if f.file != "" {
			hint := "; hint: "
			if strings.Contains(err.Error(), hint) {
				hint = ", or: "
			}
			err = fmt.Errorf("%w%sif %s is gone for good, take it out of the cluster with --unreachable", err, hint, m.Spec.Name)
		}
		errs = append(errs, err)
	}
	return hosts, errors.Join(errs...)
}

// goneTimeout is how long a host may take to prove that it is not gone.
const goneTimeout = 2 * time.Second

// wantGone refuses hosts that answer: they would go on, and do not know that they are out.
func (f *resetFlags) wantGone(ctx context.Context, cfg *config.Cluster, hosts []config.Host) error {
	probe := f.target
	probe.connectTimeout, probe.retryFor, probe.acceptNewHostKeys = goneTimeout, 0, false
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	asked := *cfg
	asked.Spec.Hosts = slices.Clone(hosts)
	c, _ := probe.open(ctx, &asked, nil, Streams{Err: io.Discard}) // without anybody to ask for passwords
	defer c.Close()
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, fmt.Errorf("%s answers; hint: leave --unreachable out, and it is cleaned as well", n.Name()))
	}
	return errors.Join(errs...)
}

// serves tells whether one of the hosts is a control plane.
func serves(hosts []config.Host) bool {
	return slices.ContainsFunc(hosts, func(h config.Host) bool { return h.HasRole(config.RoleControlPlane) })
}

func without(hosts, others []config.Host) []config.Host {
	return slices.DeleteFunc(slices.Clone(hosts), func(h config.Host) bool { return isOne(others, h) })
}

// isOne tells whether a host is among others, whose names may not be known yet.
func isOne(others []config.Host, h config.Host) bool {
	return slices.ContainsFunc(others, func(o config.Host) bool { return o.Address == h.Address && (o.Name == "" || o.Name == h.Name) })
}

// choose picks the hosts that are to be cleaned.
func (f *resetFlags) choose(cfg *config.Cluster, names []string) ([]config.Host, error) {
	if f.all || f.file == "" {
		switch {
		case len(names) > 0:
			return nil, usageError{errors.New("names are of a document's hosts; hint: -f cluster.yaml, and no --all")}
		case f.unreachable:
			return nil, usageError{errors.New("nobody would be left to take unreachable hosts out of the cluster; hint: -f with a document of the whole cluster, and the names of those that are gone")}
		}
		return cfg.Spec.Hosts, nil
	}
	if len(names) == 0 {
		return nil, usageError{errors.New("which hosts? hint: name them, or give --all")}
	}
	var chosen []config.Host
	for _, name := range names {
		i := slices.IndexFunc(cfg.Spec.Hosts, func(h config.Host) bool { return h.Name == name })
		if i < 0 {
			return nil, usageError{fmt.Errorf("the document has no host %s", name)}
		}
		chosen = append(chosen, cfg.Spec.Hosts[i])
	}
	if f.unreachable && !serves(without(cfg.Spec.Hosts, chosen)) {
		return nil, usageError{errors.New("no control plane of the document would be left; hint: where all are gone, so is the cluster")}
	}
	return chosen, nil
}

// confirm asks before anything is lost.
func (f *resetFlags) confirm(ctx context.Context, streams Streams, hosts []config.Host) error {
	if f.yes {
		return nil
	}
	var names []string
	for _, h := range hosts {
		names = append(names, cmp.Or(h.Name, h.Address, "this machine"))
	}
	what := "remove Kubernetes and its data from "
	if f.unreachable {
		what = "take out of the cluster for good: "
	}
	return ask(ctx, streams, what+strings.Join(names, ", "))
}
