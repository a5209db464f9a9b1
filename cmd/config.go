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
		Short: "Write, check and convert Cluster documents",
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
		newConfigSchemaCommand(streams),
		newConfigMigrateCommand(streams),
		newConfigFromKubeadmCommand(streams),
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
		return errNoDocument
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

var errNoDocument = usageError{errors.New("there is no document; hint: -f cluster.yaml")}

func newConfigSchemaCommand(streams Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the document, for editors",
		Long: `Print the JSON Schema (draft 2020-12) of the document. An editor that knows it completes fields, shows what they mean and
marks what is wrong. Those with yaml-language-server, such as VS Code, find it by a comment in the document.`,
		Example: `  myadm config schema > cluster.schema.json

  # then, as the first line of cluster.yaml:
  # yaml-language-server: $schema=cluster.schema.json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(streams.Out, config.Schema)
			return err
		},
	}
}
