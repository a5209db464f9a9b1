package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/upgrade"
	"github.com/myadm/myadm/workflow"
)

// upgradeFlags are those of the commands that upgrade.
type upgradeFlags struct {
	upgradeTarget
	selection
	lockFlags
	output         outputFlag
	force          bool
	dryRun         bool
	maxUnavailable string
	drain          upgrade.DrainOptions
}

func (f *upgradeFlags) register(cmd *cobra.Command) {
	keep(cmd)
	f.target.register(cmd)
	f.registerSource(cmd.Flags())
	f.selection.registerNames(cmd)
	cmd.Flags().DurationVar(&f.timeout, "timeout", 4*time.Minute, "limit for each component to become healthy, and for each node to become Ready")
	f.registerLock(cmd)
	f.output.register(cmd)
	cmd.Flags().BoolVar(&f.force, "force", false, "go to an older patch release")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and change nothing")
	registerDrain(cmd.Flags(), &f.drain)
}

// check refuses what would put every component back as soon as it has started.
func (f *upgradeFlags) check() error {
	if f.timeout <= 0 {
		return usageError{fmt.Errorf("--timeout %s: it is more than zero, such as 4m", f.timeout)}
	}
	return nil
}

func newUpgradeApplyCommand(streams Streams) *cobra.Command {
	var flags upgradeFlags
	cmd := &cobra.Command{
		Use:   "apply [VERSION]",
		Short: "Upgrade all hosts of a cluster",
		Long: `Upgrade all hosts of a cluster to a version: the argument's, or else the bundle's or the document's.

Binaries and images are brought to all hosts before anything stops, and a snapshot of etcd is kept on the first control
plane (/var/backups/myadm). Then the control planes follow each other: each is drained, taken out of the endpoint, and has
etcd, API server, controller manager, scheduler and kubelet replaced at once. What does not become healthy is put back as
it was, and the command ends with the reason. Then come the cluster's configuration, the addons, and the workers,
--max-unavailable at a time. Addons with an image of your own, or a newer one, stay as they are; upgrade plan names them.

Running it again carries on where it was stopped, and changes nothing when there is nothing left to do.`,
		Example: `  myadm upgrade apply v1.37.2 -f cluster.yaml --bundle kubernetes-v1.37.2.tar

  # a cluster that kubeadm made
  myadm upgrade apply --bundle kubernetes-v1.37.2.tar --host root@10.0.0.1 --host root@10.0.0.4

  # a quarter of the workers at a time; what it did, for a script
  myadm upgrade apply -f cluster.yaml --bundle kubernetes-v1.37.2.tar --max-unavailable 25% -o json`,
		Args: maxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runUpgradeApply(cmd.Context(), streams, flags, strings.Join(args, ""))
		},
	}
	flags.register(cmd)
	flags.registerIgnore(cmd)
	flags.registerConcurrency(cmd)
	cmd.Flags().StringVar(&flags.maxUnavailable, "max-unavailable", upgrade.DefaultMaxUnavailable, "how many workers are upgraded at a time: a `number`, or a percentage such as 25%")
	return cmd
}

func runUpgradeApply(ctx context.Context, streams Streams, flags upgradeFlags, version string) (err error) {
	if err := upgrade.CheckMaxUnavailable(flags.maxUnavailable); err != nil {
		return usageError{fmt.Errorf("--max-unavailable: %w", err)}
	}
	if err := flags.check(); err != nil {
		return err
	}
	flags.mend, flags.dials = !flags.dryRun, flags.concurrency
	c, to, unreached, err := flags.openHosts(ctx, streams, version)
	if c != nil {
		defer c.Close()
	}
	if err != nil {
		return errors.Join(unreached, err)
	}
	ctx, unlock, err := flags.lockUnless(ctx, streams, c, flags.dryRun)
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer unlock(&err)
	from, err := flags.ask(ctx, c, to)
	if err != nil {
		return errors.Join(unreached, err)
	}
	to = c.Config.Spec.KubernetesVersion
	if flags.passesPreflight() {
		if err := upgrade.CheckVersion(ctx, c, from, flags.force); err != nil {
			return errors.Join(unreached, err)
		}
	}
	release, err := flags.provide(ctx, streams, c, len(c.Nodes), true)
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer release()
	opts := flags.options(from)
	if err := flags.upgrade(ctx, streams, from, to, upgrade.Steps(c, opts)); err != nil {
		return err
	}
	return unreached // a worker that was not there stays behind
}

// passesPreflight tells whether the version is still to be checked: only some phases are to run, and preflight, which has
// more to say of it, is none of them.
func (f *upgradeFlags) passesPreflight() bool {
	runner := workflow.Runner{Only: f.only, Skip: f.skip}
	return !runner.Selected("preflight") && !phases.Ignored(upgrade.FindingVersion, f.ignorePreflight)
}

// settleTime is how long what is not well may take to become so before an upgrade is refused: the run before may have been
// ended by a host's loss of power, which is back now.
const settleTime = time.Minute

func (f *upgradeFlags) options(from string) upgrade.Options {
	opts := upgrade.Options{From: from, IgnorePreflight: f.ignorePreflight, Force: f.force, Patience: f.timeout, MaxUnavailable: f.maxUnavailable, Drain: f.drain}
	if !f.dryRun {
		opts.Settle = min(settleTime, opts.Patience)
	}
	return opts
}

// upgrade runs or plans the steps and tells of it.
func (f *upgradeFlags) upgrade(ctx context.Context, streams Streams, from, to string, steps []workflow.Step) error {
	if f.dryRun {
		return f.tellPlan(ctx, streams, steps)
	}
	began := time.Now()
	summary, err := runSteps(ctx, streams, f.selection, f.verbose, steps)
	if err != nil {
		return err
	}
	if f.output.json() {
		return writeJSON(streams.Out, struct {
			From    string  `json:"from"`
			To      string  `json:"to"`
			Changes int     `json:"changes"`
			Seconds float64 `json:"seconds"`
		}{from, to, summary.Changes, time.Since(began).Seconds()})
	}
	_, err = fmt.Fprintf(streams.Out, "\nThe cluster runs Kubernetes %s, after %.1f s with %d changes.\n", to, summary.Elapsed.Seconds(), summary.Changes)
	return err
}

// tellPlan prints what the steps would change now. Steps that wait for others see the cluster as it is.
func (f *upgradeFlags) tellPlan(ctx context.Context, streams Streams, steps []workflow.Step) error {
	runner := workflow.Runner{Only: f.only, Skip: f.skip, Concurrency: int(f.concurrency)}
	plan, err := runner.Plan(ctx, steps...)
	if err != nil {
		return err
	}
	for _, p := range plan.Phases {
		for _, h := range p.Hosts {
			for _, text := range h.Warnings {
				streams.note(slog.LevelWarn, planWarning{h.Host, p.Name, text}.String())
			}
		}
	}
	if f.output.json() {
		return writeJSON(streams.Out, plan)
	}
	for _, p := range plan.Phases {
		for _, h := range p.Hosts {
			for _, change := range h.Changes {
				if _, err := fmt.Fprintf(streams.Out, "%-12s %-16s %s\n", cmp.Or(h.Host, "cluster"), p.Name, describe(change)); err != nil {
					return err
				}
			}
		}
	}
	if plan.Changes() == 0 {
		_, err = fmt.Fprintln(streams.Out, "There is nothing to do.")
	}
	return err
}

func newUpgradeNodeCommand(streams Streams) *cobra.Command {
	var flags upgradeFlags
	cmd := &cobra.Command{
		Use:   "node HOST...",
		Short: "Upgrade single hosts",
		Long: `Upgrade single hosts of a cluster, by name or address: what apply does to them, and nothing else. No findings are
looked for, no snapshot of etcd is taken, and addons and the cluster's configuration are left to apply. A worker can be
upgraded when the API servers run its minor version already.

On a control plane itself no document is needed: HOST is then its own name.`,
		Example: `  myadm upgrade node w-1 -f cluster.yaml --bundle kubernetes-v1.37.2.tar

  # on a control plane itself
  sudo myadm upgrade node "$(hostname)" --bundle kubernetes-v1.37.2.tar`,
		Args: asUsage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runUpgradeNode(cmd.Context(), streams, flags, args)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&flags.version, "kubernetes-version", "", "Kubernetes `version`, or a label: stable, stable-1.37, latest-1.37 (default: the bundle's)")
	return cmd
}

func runUpgradeNode(ctx context.Context, streams Streams, flags upgradeFlags, names []string) (err error) {
	if err := flags.check(); err != nil {
		return err
	}
	flags.mend = !flags.dryRun
	c, to, unreached, err := flags.openHosts(ctx, streams, flags.version)
	if c != nil {
		defer c.Close()
	}
	if err != nil {
		return errors.Join(unreached, err)
	}
	ctx, unlock, err := flags.lockUnless(ctx, streams, c, flags.dryRun)
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer unlock(&err)
	from, err := flags.ask(ctx, c, to)
	if err != nil {
		return errors.Join(unreached, err)
	}
	nodes, err := named(c, names)
	if err != nil {
		return errors.Join(unreached, usageError{err})
	}
	to = c.Config.Spec.KubernetesVersion
	if err := upgrade.CheckNodes(ctx, c, from, nodes, flags.force); err != nil {
		return err
	}
	release, err := flags.provide(ctx, streams, c, len(nodes), true)
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer release()
	return flags.upgrade(ctx, streams, from, to, upgrade.NodeSteps(c, nodes, flags.options(from)))
}

// named are the nodes of these names, or addresses.
func named(c *cluster.Cluster, names []string) ([]*cluster.Node, error) {
	var nodes []*cluster.Node
	for _, name := range names {
		i := slices.IndexFunc(c.Nodes, func(n *cluster.Node) bool {
			return name == n.Spec.Name || name == n.Spec.Address || name == n.Spec.AdvertiseAddress
		})
		if i < 0 {
			return nil, fmt.Errorf("%s is none of the hosts; hint: they are those of -f or --host, or else this machine", name)
		}
		nodes = append(nodes, c.Nodes[i])
	}
	return nodes, nil
}
