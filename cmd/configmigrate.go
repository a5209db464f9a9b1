package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/config"
)

func newConfigMigrateCommand(streams Streams) *cobra.Command {
	var file, out string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Rewrite a document of an older version to the newest",
		Long: `Rewrite a document of an older apiVersion to ` + config.APIVersion + `, the newest that this myadm knows. Comments and the
order of fields survive. A document of the newest version stays as it is.

--out may be the document itself. Relative paths in the document start at its folder: keep the new one in the same.`,
		Example: `  myadm config migrate -f cluster.yaml
  myadm config migrate -f cluster.yaml -o cluster.yaml`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return runConfigMigrate(streams, file, out) },
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "Cluster `document` of any version (YAML)")
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` to write (default stdout)")
	return cmd
}

func runConfigMigrate(streams Streams, file, out string) error {
	if file == "" {
		return errNoDocument
	}
	old, err := config.ReadFile(file)
	if err != nil {
		return err
	}
	migrated, from, err := config.Migrate(file, old)
	if err != nil {
		return err
	}
	if from == config.APIVersion {
		fmt.Fprintf(streams.Err, "%s is of %s already, the newest version\n", file, from)
	} else {
		fmt.Fprintf(streams.Err, "%s: from %s to %s\n", file, from, config.APIVersion)
	}
	if out == "" {
		_, err := streams.Out.Write(migrated)
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return replaceFile(out, migrated, info.Mode().Perm()) // who can read the old one can read the new one
}

// replaceFile writes a file in one go: whoever reads it sees the old one or the new one.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600 from the start
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
