// Package cmd is myadm's command line: flags, variables, output and exit codes. It translates, and nothing else: what a
// command does is in the packages below.
package cmd

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Streams are where a command reads and writes. Results go to Out, everything else to Err.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	journal *journal // of the command line; NewCommand makes one
}

// Main runs a command line and returns its exit code.
func Main(ctx context.Context, args []string, streams Streams) int {
	streams.journal = newJournal(streams.Err)
	root := NewCommand(streams)
	root.SetArgs(args)
	_ = applyEnvironment(root.PersistentFlags()) // for errors of usage; what is wrong here is told when the command begins
	return streams.journal.end(ctx, streams.Out, root.ExecuteContext(ctx))
}

// NewCommand makes the whole tree of commands.
func NewCommand(streams Streams) *cobra.Command {
	if streams.journal == nil {
		streams.journal = newJournal(streams.Err)
	}
	root := &cobra.Command{
		Use:   "myadm",
		Short: "Take plain Linux hosts to a production Kubernetes cluster, over SSH",
		Long: `myadm takes plain Linux hosts that answer SSH to a production Kubernetes cluster.

Without --host and without a file, init and join act on this machine, as kubeadm does. With --host user@address
(repeatable) or -f cluster.yaml they act over SSH. Every command can be run again: what is done is left alone, and
what is missing is made.

Every flag can also be given as a variable: MYADM_BUNDLE for --bundle, MYADM_TOKEN for --token, and so on.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 refused by preflight, 4 there is something to do
(with --exit-code), 5 somebody else holds the cluster's lock, 130 interrupted.`,
		Example: `  # a cluster from a document: the control plane first, then everything else
  myadm init -f cluster.yaml
  myadm join -f cluster.yaml

  # without a document
  myadm init --host root@10.0.0.1 --bundle kubernetes-v1.37.2
  myadm join 10.0.0.1:6443 --token T --discovery-token-ca-cert-hash H --host root@10.0.0.2`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := applyEnvironment(cmd.Flags()); err != nil {
				return err
			}
			return streams.journal.begin(cmd)
		},
	}
	root.PersistentFlags().Var(&streams.journal.format, "log-format", "how stderr is written: text, or json for machines; see docs/watching.md")
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; hint: %s --help", err, cmd.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: "cluster", Title: "Clusters:"},
		&cobra.Group{ID: "tools", Title: "Tools:"},
	)
	for _, c := range []*cobra.Command{
		newPlanCommand(streams),
		newApplyCommand(streams),
		newInitCommand(streams),
		newJoinCommand(streams),
		newStatusCommand(streams),
		newUpgradeCommand(streams),
		newResetCommand(streams),
		newTokenCommand(streams),
		newKubeconfigCommand(streams),
		newEtcdCommand(streams),
	} {
		c.GroupID = "cluster"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{
		newBundleCommand(streams),
		newImagesCommand(streams),
		newConfigCommand(streams),
		newVersionCommand(streams),
	} {
		c.GroupID = "tools"
		root.AddCommand(c)
	}
	root.SetHelpCommandGroupID("tools")
	root.SetCompletionCommandGroupID("tools")
	return group(root)
}

// group makes of a command one that only holds others: alone it shows its help, and a name that it does not hold is an
// error. By itself cobra would show the help for that too, and a script with a typo would go on.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2 // letters that may be wrong
	cmd.DisableFlagsInUseLine = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := cmd.CommandPath() + " --help"
		if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
			hint = "did you mean " + strings.Join(similar, " or ") + "?"
		}
		return usageError{fmt.Errorf("unknown command %q for %q; hint: %s", args[0], cmd.CommandPath(), hint)}
	}
	return cmd
}

// applyEnvironment gives every flag that is not on the command line the value of its MYADM_ variable.
func applyEnvironment(flags *pflag.FlagSet) error {
	v := viper.New()
	v.SetEnvPrefix("MYADM")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		value := v.GetString(f.Name)
		if f.Changed || value == "" || err != nil {
			return
		}
		if e := flags.Set(f.Name, value); e != nil {
			err = usageError{fmt.Errorf("variable MYADM_%s: %w", strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")), e)}
		}
	})
	return err
}

// noArgs and maxArgs are cobra's, as errors of usage.
func maxArgs(n int) cobra.PositionalArgs { return asUsage(cobra.MaximumNArgs(n)) }
func noArgs(cmd *cobra.Command, args []string) error {
	return asUsage(cobra.NoArgs)(cmd, args)
}

func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; hint: %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}
