package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
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

// memberLine is a member in the list.
type memberLine struct {
	Name        string   `json:"name,omitempty"`
	ID          string   `json:"id"`
	Role        string   `json:"role"` // leader, member or learner
	Healthy     bool     `json:"healthy"`
	Health      string   `json:"health"`
	Version     string   `json:"version,omitempty"`
	DBSize      int64    `json:"dbSize,omitempty"`
	DBSizeInUse int64    `json:"dbSizeInUse,omitempty"`
	Lag         *uint64  `json:"lag,omitempty"` // entries; nil: unknown
	PeerURLs    []string `json:"peerURLs"`
	ClientURLs  []string `json:"clientURLs,omitempty"`
	Error       string   `json:"error,omitempty"`
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
		fmt.Fprintf(streams.Err, "warning: etcd has no quorum: %v\n", noQuorum)
	}
	lines := memberLines(etcd.Observe(ctx, client, members))
	if output.json() {
		return writeJSON(streams.Out, struct {
			Quorum  bool         `json:"quorum"`
			Members []memberLine `json:"members"`
		}{noQuorum == nil, lines})
	}
	w := tabwriter.NewWriter(streams.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tID\tROLE\tVERSION\tDB SIZE\tLAG\tHEALTH")
	for _, l := range lines {
		size, lag := "-", "-"
		if l.DBSize > 0 {
			size = formatBytes(l.DBSize)
		}
		if l.Lag != nil {
			lag = strconv.FormatUint(*l.Lag, 10)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", orDash(l.Name), l.ID, l.Role, orDash(l.Version), size, lag, l.Health)
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// memberLines are the members by name, those without one at the end.
func memberLines(observed []etcd.Observation) []memberLine {
	var committed uint64
	for _, o := range observed {
		if o.Err == nil && o.Status.Leader == o.Status.ID {
			committed = o.Status.RaftIndex
		}
	}
	lines := make([]memberLine, 0, len(observed))
	for _, o := range observed {
		l := memberLine{
			Name: o.Member.Name, ID: etcd.FormatID(o.Member.ID), Role: "member", PeerURLs: o.Member.PeerURLs, ClientURLs: o.Member.ClientURLs,
			Version: o.Status.Version, DBSize: o.Status.DBSize, DBSizeInUse: o.Status.DBSizeInUse,
		}
		switch {
		case o.Member.Learner:
			l.Role = "learner"
		case o.Err == nil && o.Status.Leader == o.Status.ID:
			l.Role = "leader"
		}
		if o.Err == nil && committed > 0 {
			lag := committed - min(o.Status.AppliedIndex, committed)
			l.Lag = &lag
		}
		l.Healthy, l.Health = health(o)
		if o.Err != nil {
			l.Error = o.Err.Error()
		}
		lines = append(lines, l)
	}
	slices.SortStableFunc(lines, func(a, b memberLine) int {
		if (a.Name == "") != (b.Name == "") {
			return strings.Compare(b.Name, a.Name)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return lines
}

// health is a member's health in a few words.
func health(o etcd.Observation) (bool, string) {
	switch {
	case !o.Member.Started():
		return false, "not started"
	case o.Err != nil:
		return false, "no answer"
	case len(o.Status.Errors) > 0:
		return false, strings.Join(o.Status.Errors, ", ")
	case !o.Alive():
		return false, "no leader"
	}
	return true, "ok"
}

// reach connects to the control planes that can be reached, of which there must be one, and warns of the others.
func (t *target) reach(ctx context.Context, streams Streams) (*cluster.Cluster, error) {
	cfg, err := t.load(config.RoleControlPlane)
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
		fmt.Fprintf(streams.Err, "warning: %v\n", unreached)
	}
	return c, nil
}
