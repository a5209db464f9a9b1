package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/config"
)

func newKubeconfigCommand(streams Streams) *cobra.Command {
	var t target
	var out string
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the administrator's kubeconfig",
		Long: `Print the administrator's kubeconfig, or write it to a file that only its owner can read.

It is that of the control plane: the document's, the one of --host, or this machine.`,
		Example: `  myadm kubeconfig -f cluster.yaml --out admin.conf
  kubectl --kubeconfig admin.conf get nodes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runKubeconfig(cmd.Context(), streams, t, out) },
	}
	t.register(cmd)
	cmd.Flags().StringVar(&out, "out", "", "`file` to write it to (0600), instead of printing it")
	return cmd
}

func runKubeconfig(ctx context.Context, streams Streams, t target, out string) error {
	c, _, err := t.connect(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()
	n := c.Nodes[0]
	if out != "" {
		return saveKubeconfig(ctx, n, out)
	}
	data, err := n.ReadFile(ctx, config.AdminConf)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name(), err)
	}
	_, err = streams.Out.Write(data)
	return err
}
