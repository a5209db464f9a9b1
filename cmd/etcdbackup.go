package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// backupFlags are etcd backup's.
type backupFlags struct {
	target
	output outputFlag
	onHost string
}

func newEtcdBackupCommand(streams Streams) *cobra.Command {
	var flags backupFlags
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Take a snapshot of etcd's data",
		Long: `Take a snapshot of etcd's data, to a file of yours or, with --on-host, to one on a control plane.

It is streamed from a healthy member, checked by the hash that etcd appends, and is there as a whole or not at all. The
file holds every Secret of the cluster: only its owner can read it. Certificates and keys are not part of it.`,
		Example: `  myadm etcd backup etcd.db -f cluster.yaml

  # on the control plane itself
  myadm etcd backup /var/backups/etcd.db --on-host cp-1 -f cluster.yaml`,
		Args: asUsage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runEtcdBackup(cmd.Context(), streams, flags, args[0])
		},
	}
	keep(cmd)
	flags.register(cmd)
	flags.output.register(cmd)
	cmd.Flags().StringVar(&flags.onHost, "on-host", "", "`name` of the control plane that FILE is on (an absolute path)")
	return cmd
}

func runEtcdBackup(ctx context.Context, streams Streams, flags backupFlags, file string) error {
	if flags.onHost != "" && (!strings.HasPrefix(file, "/") || filepath.Clean(file) != file) {
		return usageError{fmt.Errorf("%s is no absolute path on %s", file, flags.onHost)}
	}
	c, err := flags.reach(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()
	save := saveLocally(file)
	if flags.onHost != "" {
		n, err := nodeNamed(c, flags.onHost)
		if err != nil {
			return err
		}
		save = phases.SaveOnHost(n, file)
	}
	var info etcd.SnapshotInfo
	phase := phases.EtcdBackup(c, file, save, &info)
	if _, err := runSteps(ctx, streams, selection{}, flags.verbose, []workflow.Step{phase}); err != nil {
		return err
	}
	if flags.output.json() {
		return writeJSON(streams.Out, struct {
			File     string `json:"file"`
			Host     string `json:"host,omitempty"`
			Bytes    int64  `json:"bytes"`
			SHA256   string `json:"sha256"`
			Revision int64  `json:"revision"`
			Version  string `json:"etcdVersion"`
			Member   string `json:"member"`
		}{file, flags.onHost, info.Bytes, info.SHA256, info.Revision, info.Version, info.Member})
	}
	where := file
	if flags.onHost != "" {
		where = flags.onHost + ":" + file
	}
	_, err = fmt.Fprintf(streams.Out, "%s: %s, revision %d of etcd %s at %s\nsha256 %s\n",
		where, formatBytes(info.Bytes), info.Revision, info.Version, info.Member, info.SHA256)
	return err
}

// nodeNamed finds a control plane that was reached.
func nodeNamed(c *cluster.Cluster, name string) (*cluster.Node, error) {
	for _, n := range c.Nodes {
		if n.Spec.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("there is no control plane %s, or it was not reached; hint: those that were are %s", name, strings.Join(names(c.Nodes), ", "))
}

// saveLocally keeps a file of the operator's: readable by its owner alone, and whole or not at all.
func saveLocally(file string) phases.Save {
	return func(_ context.Context, write func(io.Writer) error) error {
		f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // 0600 from the start
		if err != nil {
			return err
		}
		err = write(f)
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(f.Name(), file)
		}
		if err != nil {
			return errors.Join(err, os.Remove(f.Name()))
		}
		return nil
	}
}
