package cmd

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/upgrade"
)

// upgradeDiffFlags are upgrade diff's.
type upgradeDiffFlags struct {
	upgradeTarget
	output   outputFlag
	exitCode bool
}

func newUpgradeDiffCommand(streams Streams) *cobra.Command {
	var flags upgradeDiffFlags
	cmd := &cobra.Command{
		Use:   "diff [VERSION]",
		Short: "Show what an upgrade would write differently",
		Long: `Show in the format of diff -u what an upgrade to a version would write differently: the static pods of each control plane,
the images of CoreDNS and kube-proxy, and the configuration that the cluster keeps. Nothing is changed.

The version is the argument's, or else the bundle's or the document's.`,
		Example: `  myadm upgrade diff v1.37.2 -f cluster.yaml

  # 4 is the exit code while something differs
  myadm upgrade diff v1.37.2 --host root@10.0.0.1 --exit-code`,
		Args: maxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runUpgradeDiff(cmd.Context(), streams, flags, strings.Join(args, ""))
		},
	}
	flags.register(cmd)
	flags.output.register(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.bundle, "bundle", "", "bundle of the version's binaries and images, whose version counts: a folder or a file")
	f.BoolVar(&flags.exitCode, "exit-code", false, "end with 4 when something differs")
	return cmd
}

func runUpgradeDiff(ctx context.Context, streams Streams, flags upgradeDiffFlags, version string) error {
	c, state, err := flags.survey(ctx, streams, version, false)
	if c != nil {
		defer c.Close()
	}
	if err != nil {
		return err
	}
	to, err := upgrade.TargetOf(c, c.Config.Spec.KubernetesVersion, true)
	if err != nil {
		return err
	}
	changed, unknown := upgrade.Diff(state, to)
	if flags.output.json() {
		err = writeJSON(streams.Out, struct {
			From string `json:"from"`
			To   string `json:"to"`
			Diff string `json:"diff"`
		}{state.From(), to.Version, string(changed)})
	} else {
		_, err = streams.Out.Write(changed)
	}
	if err := errors.Join(err, unknown); err != nil {
		return err
	}
	if flags.exitCode && len(changed) > 0 {
		return errChanges
	}
	return nil
}
