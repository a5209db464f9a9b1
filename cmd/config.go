package cmd

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/config"
)

func newConfigCommand(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Write and check Cluster documents",
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:     "defaults",
			Short:   "Print a document with every field and its default",
			Example: "  myadm config defaults > cluster.yaml",
			Args:    noArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := io.WriteString(streams.Out, config.DefaultDocument)
				return err
			},
		},
		newConfigValidateCommand(streams),
	)
	return group(cmd)
}

func newConfigValidateCommand(streams Streams) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "validate",
		Short:   "Check a document; every error names its line, and all come at once",
		Example: `  myadm config validate -f cluster.yaml`,
		Args:    noArgs,
		RunE:    func(*cobra.Command, []string) error { return runConfigValidate(streams, file) },
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "Cluster `document` (YAML)")
	return cmd
}

func runConfigValidate(streams Streams, file string) error {
	if file == "" {
		return usageError{errors.New("there is no document; hint: -f cluster.yaml")}
	}
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	config.SetDefaults(cfg)
	if err := config.Validate(cfg); err != nil {
		return err
	}
	_, err = fmt.Fprintf(streams.Out, "%s: cluster %s, %d hosts, Kubernetes %s: ok\n", file, cfg.Metadata.Name, len(cfg.Spec.Hosts), cfg.Spec.KubernetesVersion)
	return err
}
