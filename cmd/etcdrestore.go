package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/join"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// restoreFlags are etcd restore's.
type restoreFlags struct {
	target
	lockFlags
	output     outputFlag
	fromMember string
	timeout    time.Duration
	yes        bool
}

func newEtcdRestoreCommand(streams Streams) *cobra.Command {
	var flags restoreFlags
	cmd := &cobra.Command{
		Use:   "restore [FILE]",
		Short: "Go back to a snapshot, or go on with the data of a member that survived",
		Long: `Go back to a snapshot, or go on with the data of a member that survived a loss of quorum (--from-member).

The control planes are stopped. One of them gets the data, and starts etcd anew with itself as the only member; the other
ones that are reached then join it as new ones do. Hosts that are not reached are no members any more: they must not come
back with their old data, so reset them first.

The old data is kept beside the new, as member.before-restore-*. Workloads go on meanwhile. A restore that was stopped half
way carries on when the same command is run again.`,
		Example: `  # all control planes, from a file that myadm etcd backup has made
  myadm etcd restore etcd.db -f cluster.yaml

  # two of three control planes are lost
  myadm etcd restore --from-member cp-1 -f cluster.yaml`,
		Args: maxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runEtcdRestore(cmd.Context(), streams, flags, strings.Join(args, ""))
		},
	}
	keep(cmd)
	flags.register(cmd)
	flags.registerLock(cmd)
	flags.output.register(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.fromMember, "from-member", "", "`name` of the control plane whose data is used")
	f.DurationVar(&flags.timeout, "timeout", 4*time.Minute, "limit for a control plane to become healthy")
	f.BoolVar(&flags.yes, "yes", false, "do not ask")
	return cmd
}

func runEtcdRestore(ctx context.Context, streams Streams, flags restoreFlags, file string) (err error) {
	source, err := flags.source(file)
	if err != nil {
		return err
	}
	start := time.Now()
	c, err := flags.reach(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, unlock, err := flags.lockHosts(ctx, streams, c) // a Lease would be the snapshot's
	if err != nil {
		return err
	}
	defer unlock(&err)
	restore, err := phases.NewEtcdRestore(ctx, c, source)
	if err != nil {
		return err
	}
	if err := flags.confirm(ctx, streams, restore, file); err != nil {
		return err
	}
	if _, err := runSteps(ctx, streams, selection{}, flags.verbose, restore.Steps(flags.timeout)); err != nil {
		return err
	}
	strangers, rejoinErr := flags.rejoin(ctx, streams, c, restore)
	if ctx.Err() != nil {
		return rejoinErr // the next run carries on
	}
	if _, err := runSteps(ctx, streams, selection{}, flags.verbose, []workflow.Step{restore.Finish()}); err != nil {
		return errors.Join(rejoinErr, err)
	}
	kept, err := restore.Kept(ctx)
	if err := errors.Join(rejoinErr, err); err != nil {
		return fmt.Errorf("%w\n%s has its data back and is up; hint: myadm join takes in the other control planes", err, restore.Target.Spec.Name)
	}
	return flags.tell(streams, c, restore, strangers, kept, time.Since(start))
}

// source opens and checks the snapshot, before anything else is touched.
func (f *restoreFlags) source(file string) (phases.EtcdSource, error) {
	if (file == "") == (f.fromMember == "") {
		return phases.EtcdSource{}, usageError{errors.New("from where? hint: a FILE of myadm etcd backup, or --from-member NAME, and not both")}
	}
	if file == "" {
		return phases.EtcdSource{Member: f.fromMember}, nil
	}
	snapshot, err := os.Open(file)
	if err != nil {
		return phases.EtcdSource{}, err
	}
	defer snapshot.Close()
	stat, err := snapshot.Stat()
	if err != nil {
		return phases.EtcdSource{}, err
	}
	info, err := etcd.VerifySnapshot(snapshot, stat.Size())
	if err != nil {
		return phases.EtcdSource{}, fmt.Errorf("%s: %w", file, err)
	}
	return phases.EtcdSource{Snapshot: &host.Blob{Size: info.Bytes, SHA256: info.SHA256, Open: func() (io.ReadSeekCloser, error) { return os.Open(file) }}}, nil
}

func (f *restoreFlags) confirm(ctx context.Context, streams Streams, r *phases.EtcdRestore, file string) error {
	what := fmt.Sprintf("replace etcd's data on %s by %s", r.Target.Spec.Name, cmp.Or(file, "that of the member itself"))
	if len(r.Others) > 0 {
		what += ", and have " + strings.Join(names(r.Others), ", ") + " join again"
	}
	if r.Resume {
		what = fmt.Sprintf("carry on with the restore of %s that an earlier run has begun on %s", cmp.Or(file, "the member's data"), r.Target.Spec.Name)
		streams.note(slog.LevelInfo, "An earlier run has put the data in place already, and this one carries on.")
	}
	if f.yes {
		return nil
	}
	return ask(ctx, streams, what)
}

// rejoin has the other control planes join the new etcd. strangers are those that have come back with old data.
func (f *restoreFlags) rejoin(ctx context.Context, streams Streams, c *cluster.Cluster, r *phases.EtcdRestore) (strangers []*cluster.Node, err error) {
	joiners, strangers, err := r.Rejoin(ctx)
	if err != nil || len(joiners) == 0 {
		return strangers, err
	}
	var present []*cluster.Node
	for _, n := range append([]*cluster.Node{r.Target}, r.Others...) {
		if !slices.Contains(joiners, n) && !slices.Contains(strangers, n) {
			present = append(present, n)
		}
	}
	opts := join.Options{Patience: f.timeout}
	j, err := join.Prepare(ctx, c, present, joiners, opts)
	if err != nil {
		return strangers, err
	}
	_, err = runSteps(ctx, streams, selection{}, f.verbose, join.Steps(c, joiners, present, j, opts))
	// A Ctrl-C does not keep the token from being removed.
	return strangers, errors.Join(err, j.Close(context.WithoutCancel(ctx)))
}

func (f *restoreFlags) tell(streams Streams, c *cluster.Cluster, r *phases.EtcdRestore, strangers []*cluster.Node, kept map[string][]string, elapsed time.Duration) error {
	members := []string{r.Target.Spec.Name}
	for _, n := range r.Others {
		if !slices.Contains(strangers, n) {
			members = append(members, n.Spec.Name)
		}
	}
	var gone []string
	for _, h := range c.Config.Spec.Hosts {
		if name := cmp.Or(h.Name, h.Address); h.HasRole(config.RoleControlPlane) && !slices.Contains(members, name) {
			gone = append(gone, name)
		}
	}
	if f.output.json() {
		return writeJSON(streams.Out, struct {
			Members    []string            `json:"members"`
			NotMembers []string            `json:"notMembers,omitempty"`
			Kept       map[string][]string `json:"kept,omitempty"`
			Seconds    float64             `json:"seconds"`
		}{members, gone, kept, elapsed.Seconds()})
	}
	fmt.Fprintf(streams.Out, "\netcd is restored, in %.1f s. Its members: %s.\n", elapsed.Seconds(), strings.Join(members, ", "))
	if len(kept) > 0 {
		fmt.Fprintln(streams.Out, "\nThe old data is still there; remove it once nobody needs it:")
		for _, name := range slices.Sorted(maps.Keys(kept)) {
			for _, folder := range kept[name] {
				fmt.Fprintf(streams.Out, "  %s: %s\n", name, folder)
			}
		}
	}
	if len(gone) > 0 {
		fmt.Fprintf(streams.Out, "\nNot members any more: %s. Their old data must not come back to life:\n  myadm reset %s%s\nand then, or on new hosts in their place:\n  myadm join%s\n",
			strings.Join(gone, ", "), strings.Join(gone, " "), f.document(), f.document())
	}
	return nil
}

// document is the flag that names the document, as part of a command line.
func (f *restoreFlags) document() string {
	if f.file == "" {
		return ""
	}
	return " -f " + f.file
}
