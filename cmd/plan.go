package cmd

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/workflow"
)

// planFlags are plan's.
type planFlags struct {
	documentFlags
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
	flags.documentFlags.register(cmd)
	flags.output.register(cmd)
	cmd.Flags().BoolVar(&flags.diff, "diff", false, "show how files and objects would change")
	cmd.Flags().BoolVar(&flags.exitCode, "exit-code", false, "end with 4 when there is something to do")
	return cmd
}

func runPlan(ctx context.Context, streams Streams, flags planFlags) error {
	a, err := flags.connect(ctx, streams)
	if a != nil {
		defer a.close()
	}
	if err != nil {
		return err
	}
	if err := flags.survey(ctx, streams, a); err != nil {
		return err
	}
	release, err := flags.provide(ctx, streams, a.c, 0, flags.sends()) // nothing is sent: the index says what hosts lack
	if err != nil {
		return errors.Join(a.unreached, err)
	}
	defer release()
	checking := ctx
	if flags.diff {
		checking = workflow.WithDiffs(ctx)
	}
	runner := workflow.Runner{Only: flags.only, Skip: flags.skip}
	plan, err := runner.Plan(checking, a.steps(flags.options())...)
	if ctx.Err() != nil {
		return err
	}
	err = errors.Join(a.unreached, err)
	return flags.tell(streams, newPlanDocument(a.c, plan, err), err)
}

// tell writes a plan, with its warnings on stderr, and ends as it asks for: with failed, what kept it from being whole, or
// with --exit-code.
func (f *planFlags) tell(streams Streams, d planDocument, failed error) error {
	for _, w := range d.Warnings {
		streams.note(slog.LevelWarn, w.String())
	}
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
