package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/status"
)

func newEtcdCommand(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "etcd",
		Short: "Look at etcd's members, back its data up and restore it",
		Long: `Look at etcd's members, back its data up and restore it.

etcd is reached through the connections to the control planes: those of the document, the ones of --host, or this machine.`,
	}
	cmd.AddCommand(newEtcdMembersCommand(streams), newEtcdBackupCommand(streams), newEtcdRestoreCommand(streams))
	return group(cmd)
}

func newEtcdMembersCommand(streams Streams) *cobra.Command {
	var t target
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List etcd's members and how they are",
		Long: `List etcd's members and how they are.

LAG is by how many entries a member is behind of what the leader knows to be agreed on. Without a quorum the list is what
the members that are left remember.`,
		Example: "  myadm etcd members -f cluster.yaml",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runEtcdMembers(cmd.Context(), streams, t, output) },
	}
	t.register(cmd)
	output.register(cmd)
	return cmd
}

func runEtcdMembers(ctx context.Context, streams Streams, t target, output outputFlag) error {
	c, err := t.reach(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()
	client, err := c.Etcd(ctx)
	if err != nil {
		return err
	}
	members, noQuorum := client.Members(ctx)
	if noQuorum != nil {
		if members, err = client.KnownMembers(ctx); err != nil {
			return err
		}
		streams.note(slog.LevelWarn, fmt.Sprintf("etcd has no quorum: %v", noQuorum))
	}
	lines := status.Members(etcd.Observe(ctx, client, members))
	if output.json() {
		return writeJSON(streams.Out, struct {
			Quorum  bool            `json:"quorum"`
			Members []status.Member `json:"members"`
		}{noQuorum == nil, lines})
	}
	w := tabwriter.NewWriter(streams.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tID\tROLE\tVERSION\tDB SIZE\tLAG\tHEALTH")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", orDash(l.Name), l.ID, l.Role, orDash(l.Version), dbSize(l), lag(l), l.Health)
	}
	return w.Flush()
}

// dbSize and lag are what a table has for a member.
func dbSize(m status.Member) string {
	if m.DBSize == 0 {
		return "-"
	}
	return formatBytes(m.DBSize)
}

func lag(m status.Member) string {
	if m.Lag == nil {
		return "-"
	}
	return strconv.FormatUint(*m.Lag, 10)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// reach connects to the control planes that can be reached, of which there must be one, and warns of the others.
func (t *target) reach(ctx context.Context, streams Streams) (*cluster.Cluster, error) {
	cfg, err := t.loadRunning(config.RoleControlPlane)
	if err != nil {
		return nil, err
	}
	cfg.Spec.Hosts = slices.DeleteFunc(cfg.Spec.Hosts, func(h config.Host) bool { return !h.HasRole(config.RoleControlPlane) })
	config.SetDefaults(cfg)
	if err := config.Validate(cfg); err != nil {
		return nil, err
	}
	c, unreached := t.open(ctx, cfg, nil, streams)
	if len(c.Nodes) == 0 || ctx.Err() != nil {
		return nil, errors.Join(unreached, c.Close())
	}
	if unreached != nil {
		streams.note(slog.LevelWarn, unreached.Error())
	}
	return c, nil
}
