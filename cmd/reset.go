package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/phases"
)

// resetFlags are reset's.
type resetFlags struct {
	target
	selection
	yes bool
	all bool
}

func newResetCommand(streams Streams) *cobra.Command {
	var flags resetFlags
	cmd := &cobra.Command{
		Use:   "reset [NAME...]",
		Short: "Leave hosts as they were found",
		Long: `Leave hosts as they were found: units, files, mounts, network links, packet filter rules, and the data of the
containerd that myadm brought.

With a document, the named hosts of it are taken out of the cluster and cleaned, or, with --all, every one. With --host
it is those hosts, and otherwise this machine. Kernel settings that are in force stay until the next boot.`,
		Example: `  # take one worker out of the cluster and clean it
  myadm reset w-1 -f cluster.yaml

  # everything
  myadm reset --all -f cluster.yaml --yes

  # this machine
  myadm reset`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return runReset(cmd.Context(), streams, flags, args) },
	}
	flags.target.register(cmd)
	flags.selection.registerNames(cmd)
	cmd.Flags().BoolVar(&flags.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&flags.all, "all", false, "every host of the document")
	return cmd
}

func runReset(ctx context.Context, streams Streams, flags resetFlags, names []string) error {
	cfg, err := flags.load(config.RoleWorker)
	if err != nil {
		return err
	}
	config.SetDefaults(cfg)
	if err := config.ValidateJoin(cfg); err != nil {
		return err
	}
	chosen, err := flags.choose(cfg, names)
	if err != nil {
		return err
	}
	if err := flags.confirm(ctx, streams, chosen); err != nil {
		return err
	}
	leaving := func(h config.Host) bool {
		return slices.ContainsFunc(chosen, func(c config.Host) bool { return c.Name == h.Name && c.Address == h.Address })
	}
	goesOn := slices.ContainsFunc(cfg.Spec.Hosts, func(h config.Host) bool {
		return h.HasRole(config.RoleControlPlane) && !leaving(h)
	})
	if !goesOn {
		cfg.Spec.Hosts = chosen // nobody else is needed
	}
	c, unreached := flags.open(ctx, cfg, nil, streams)
	defer c.Close() //nolint:staticcheck // there is a cluster also when hosts are missing in it
	var nodes []*cluster.Node
	for _, n := range c.Nodes {
		if !goesOn || slices.ContainsFunc(chosen, func(h config.Host) bool {
			return h.Address == n.Spec.Address && (h.Name == "" || h.Name == n.Spec.Name)
		}) {
			nodes = append(nodes, n)
		}
	}
	var client *kube.Client
	if goesOn {
		if client, err = c.Kube(ctx); err != nil && !errors.Is(err, cluster.ErrNoCluster) {
			return errors.Join(unreached, err)
		}
	}
	if len(nodes) > 0 {
		_, err = runSteps(ctx, streams, flags.selection, flags.verbose, phases.Reset(c, nodes, client))
	}
	return errors.Join(unreached, err)
}

// choose picks the hosts that are to be cleaned.
func (f *resetFlags) choose(cfg *config.Cluster, names []string) ([]config.Host, error) {
	if f.all || f.file == "" {
		if len(names) > 0 {
			return nil, usageError{errors.New("names are of a document's hosts; hint: -f cluster.yaml, and no --all")}
		}
		return cfg.Spec.Hosts, nil
	}
	if len(names) == 0 {
		return nil, usageError{errors.New("which hosts? hint: name them, or give --all")}
	}
	var chosen []config.Host
	for _, name := range names {
		i := slices.IndexFunc(cfg.Spec.Hosts, func(h config.Host) bool { return h.Name == name })
		if i < 0 {
			return nil, usageError{fmt.Errorf("the document has no host %s", name)}
		}
		chosen = append(chosen, cfg.Spec.Hosts[i])
	}
	return chosen, nil
}

// confirm asks on a terminal, and refuses to guess elsewhere.
func (f *resetFlags) confirm(ctx context.Context, streams Streams, hosts []config.Host) error {
	if f.yes {
		return nil
	}
	var names []string
	for _, h := range hosts {
		switch {
		case h.Name != "":
			names = append(names, h.Name)
		case h.Address != "":
			names = append(names, h.Address)
		default:
			names = append(names, "this machine")
		}
	}
	in, ok := streams.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usageError{fmt.Errorf("this would remove Kubernetes and its data from %s; hint: --yes, since there is no terminal to ask on", strings.Join(names, ", "))}
	}
	fmt.Fprintf(streams.Err, "Remove Kubernetes and its data from %s? [y/N] ", strings.Join(names, ", "))
	answers := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		answers <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answers:
		if a == "y" || a == "yes" {
			return nil
		}
		return errors.New("nothing was done")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
