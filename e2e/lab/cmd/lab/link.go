package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/e2e/lab"
)

// linkOptions are what lab link is told.
type linkOptions struct {
	dir     string
	latency time.Duration
	rate    int64
}

func newLinkCommand() *cobra.Command {
	var o linkOptions
	cmd := &cobra.Command{
		Use:   "link --dir DIR",
		Short: "Put the hosts far away: proxies for SSH, and a Cluster document that names them, until Ctrl-C",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runLink(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	dirFlag(cmd, &o.dir)
	cmd.Flags().DurationVar(&o.latency, "latency", 100*time.Millisecond, "how much longer a round trip takes")
	cmd.Flags().Int64Var(&o.rate, "rate", 0, "`bytes` per second in each direction, on all connections together; 0 for as fast as it goes")
	return cmd
}

func runLink(ctx context.Context, o linkOptions, out, log io.Writer) (err error) {
	if o.latency < 0 || o.rate < 0 {
		return errors.New("--latency and --rate are not less than 0")
	}
	l, err := lab.Open(ctx, o.dir)
	if err != nil {
		return err
	}
	link, err := l.OpenLink(ctx, o.rate)
	if err != nil {
		return err
	}
	defer link.Close()
	link.SetLatency(o.latency)
	document, err := os.ReadFile(l.Path(lab.ClusterFile))
	if err != nil {
		return err
	}
	if document, err = link.Document(document); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lab-link-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, lab.ClusterFile)
	if err := os.WriteFile(path, document, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(log, "round trips to %d hosts take %s more for whoever uses this document, until Ctrl-C\n", len(l.Hosts), o.latency)
	if _, err := fmt.Fprintln(out, path); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
