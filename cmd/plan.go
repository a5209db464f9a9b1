package cmd

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/apply"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/workflow"
)

// planFlags are plan's.
type planFlags struct {
	target
	selection
	output   outputFlag
	diff     bool
	exitCode bool
}

func newPlanCommand(streams Streams) *cobra.Command {
	var flags planFlags
	cmd := &cobra.Command{
		Use:   "plan -f DOCUMENT",
		Short: "Say what apply would change, host by host and object by object",
		Long: `Say what apply would change, host by host and object by object. Nothing is changed.

With --diff it shows how each file and object would change, in the format of diff -u. What is secret is never shown, only
that it changes. A host that cannot be looked at does not keep the plan from telling of the others.

The form of -o json is described in docs/plan.md and docs/plan.schema.json.`,
		Example: `  myadm plan -f cluster.yaml

  # how files and objects would change
  myadm plan -f cluster.yaml --diff

  # for a script: 4 is the exit code while there is something to do
  myadm plan -f cluster.yaml -o json --exit-code`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPlan(cmd.Context(), streams, flags) },
	}
	flags.target.register(cmd)
	flags.registerArtifacts(cmd)
	flags.selection.register(cmd)
	flags.output.register(cmd)
	cmd.Flags().BoolVar(&flags.diff, "diff", false, "show how files and objects would change")
	cmd.Flags().BoolVar(&flags.exitCode, "exit-code", false, "end with 4 when there is something to do")
	return cmd
}

func runPlan(ctx context.Context, streams Streams, flags planFlags) error {
	if flags.file == "" {
		return usageError{errors.New("there is no document; hint: -f cluster.yaml, as `myadm config defaults` prints one")}
	}
	cfg, err := flags.load(config.RoleControlPlane)
	if err != nil {
		return err
	}
	b, err := openBundle(cfg)
	if err != nil {
		return err
	}
	config.SetDefaults(cfg)
	if err := cmp.Or(config.Validate(cfg), config.ValidateFiles(cfg)); err != nil {
		return err
	}
	if err := resolveVersion(ctx, streams, cfg); err != nil {
		return err
	}
	c, unreached := flags.open(ctx, cfg, b, streams)
	defer c.Close() //nolint:staticcheck // there is a cluster also when hosts are missing in it
	if len(c.ControlPlanes()) == 0 {
		return unreached
	}
	founder, err := apply.Founder(ctx, c)
	if err == nil {
		err = errors.Join(apply.CheckVersion(ctx, c, founder), apply.Learn(ctx, c))
	}
	if err != nil {
		return errors.Join(unreached, err)
	}
	release, err := flags.provide(ctx, streams, c, 0, flags.sends()) // nothing is sent: the index says what hosts lack
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer release()
	checking := ctx
	if flags.diff {
		checking = workflow.WithDiffs(ctx)
	}
	runner := workflow.Runner{Only: flags.only, Skip: flags.skip}
	plan, err := runner.Plan(checking, apply.Steps(c, founder, apply.Options{
		IgnorePreflight: flags.ignorePreflight, Patience: flags.timeout, TokenTTL: kube.DefaultTokenTTL,
	})...)
	if ctx.Err() != nil {
		return err
	}
	return flags.tell(streams, newPlanDocument(c, plan, errors.Join(unreached, err)), errors.Join(unreached, err))
}

// tell writes a plan, and ends as it asks for: with failed, what kept it from being whole, or with --exit-code.
func (f *planFlags) tell(streams Streams, d planDocument, failed error) error {
	if f.output.json() {
		if err := writeJSON(streams.Out, d); err != nil {
			return errors.Join(err, failed)
		}
	} else {
		if err := writePlan(streams.Out, d, planViewOptions{Diff: f.diff, Verbose: f.verbose, Color: colorful(streams.Out)}); err != nil {
			return errors.Join(err, failed)
		}
		if failed != nil {
			return toldError{failed}
		}
	}
	if failed == nil && f.exitCode && d.Changes > 0 {
		return errChanges
	}
	return failed
}
