package phases

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// revisionBump is added to the revision of the restored data: more than the cluster can have gone on since the snapshot.
// Clients of the API that have seen a revision later than the snapshot's are then told that it is gone, and list anew.
const revisionBump = "1000000000"

func (r *EtcdRestore) swapped(ctx context.Context) (bool, error) {
	state, err := r.folder.read(ctx, r.Target)
	return state.swapped, err
}

// putSnapshot sends the snapshot to the target.
func (r *EtcdRestore) putSnapshot() workflow.Phase {
	return workflow.Phase{
		Name:  "put-snapshot",
		Short: "send the snapshot",
		Hosts: cluster.Hosts([]*cluster.Node{r.Target}),
		Check: func(ctx context.Context, reader host.Reader) ([]workflow.Change, error) {
			state, err := r.folder.read(ctx, reader)
			if err != nil || state.made {
				return nil, err
			}
			infos, err := reader.Sums(ctx, r.folder.snapshot())
			if err != nil {
				return nil, err
			}
			change, differs := diffFile(infos[0], r.folder.snapshot(), snapshotMode, r.source.Snapshot.SHA256)
			if !differs {
				return nil, nil
			}
			return []workflow.Change{change}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			if err := r.begin(ctx, h); err != nil {
				return err
			}
			blob := *r.source.Snapshot
			blob.Path, blob.Mode = r.folder.snapshot(), snapshotMode
			return h.Upload(ctx, blob, func(n int64) { workflow.ReportProgress(ctx, "sent", n, blob.Size) })
		},
	}
}

// snapshotMode keeps the cluster's Secrets to root.
const snapshotMode = 0o600

// begin makes the restore's folder.
func (r *EtcdRestore) begin(ctx context.Context, h host.Host) error {
	if _, err := h.Run(ctx, host.Command("install", "-d", "-m", "0700", r.folder.path)); err != nil {
		return fmt.Errorf("make %s: %w", r.folder.path, err)
	}
	return nil
}

// makeData makes a data folder of the snapshot, beside the one in use, with the etcdutl of the etcd that will read it.
func (r *EtcdRestore) makeData() workflow.Phase {
	return workflow.Phase{
		Name:  "make-data",
		Short: "make a member's data of the snapshot",
		Hosts: cluster.Hosts([]*cluster.Node{r.Target}),
		Check: func(ctx context.Context, reader host.Reader) ([]workflow.Change, error) {
			state, err := r.folder.read(ctx, reader)
			// A member that still has its data may have gone on since an earlier run has copied it.
			stale := r.source.Member != "" && !r.made && state.database
			if err != nil || state.swapped || state.made && !stale {
				return nil, err
			}
			return []workflow.Change{{Action: workflow.Create, Object: r.folder.newMember()}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			if r.source.Member != "" {
				if err := r.copyDatabase(ctx, h); err != nil {
					return err
				}
			}
			part := r.folder.part()
			if _, err := h.Run(ctx, r.etcdutl(part)); err != nil {
				return fmt.Errorf("restore %s: %w", r.folder.snapshot(), err)
			}
			r.made = true
			return move(ctx, h, part, r.folder.made())
		},
	}
}

// copyDatabase copies the database of a member that has stopped.
func (r *EtcdRestore) copyDatabase(ctx context.Context, h host.Host) error {
	if err := h.Remove(ctx, r.folder.made()); err != nil {
		return err
	}
	if err := r.begin(ctx, h); err != nil {
		return err
	}
	if _, err := h.Run(ctx, host.Command("cp", "--reflink=auto", r.folder.database(), r.folder.snapshot())); err != nil {
		return fmt.Errorf("copy %s: %w", r.folder.database(), err)
	}
	return nil
}

// etcdutl is the command that makes a member's data in a folder. The token makes the cluster another one than that of
// the members that may come back.
func (r *EtcdRestore) etcdutl(dataDir string) host.Cmd {
	name := restorePrefix + rand.Text()
	args := []string{"run", "--rm", "--mount", fmt.Sprintf("type=bind,src=%s,dst=%s,options=rbind:rw", r.pod.dataDir, r.pod.dataDir), r.pod.image, name,
		"etcdutl", "snapshot", "restore", r.folder.snapshot(),
		"--data-dir=" + dataDir,
		"--name=" + r.pod.name,
		"--initial-advertise-peer-urls=" + r.pod.peerURLs,
		"--initial-cluster=" + r.pod.initialCluster(),
		"--initial-cluster-token=" + name,
		"--bump-revision=" + revisionBump,
		"--mark-compacted",
	}
	if r.source.Member != "" {
		args = append(args, "--skip-hash-check") // only a snapshot ends with its hash
	}
	return ctr(r.c, args...)
}

// swap puts the new data in the place of the old, which is kept, and has the static pod name the only member.
func (r *EtcdRestore) swap() workflow.Phase {
	return workflow.Phase{
		Name:  "swap-data",
		Short: "put the new data in place",
		Hosts: cluster.Hosts([]*cluster.Node{r.Target}),
		Check: func(ctx context.Context, reader host.Reader) ([]workflow.Change, error) {
			state, err := r.folder.read(ctx, reader)
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			if !state.swapped {
				changes = append(changes, workflow.Change{Action: workflow.Update, Object: r.folder.member(), Detail: "move the old data to " + asidePrefix + "..."})
			}
			manifest, err := r.manifest(ctx, reader)
			if err != nil {
				return nil, err
			}
			files, err := diffFiles(ctx, reader, []host.File{manifest})
			return append(changes, files...), err
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			manifest, err := r.manifest(ctx, h)
			if err != nil {
				return err
			}
			if err := writeChanged(ctx, h, []host.File{manifest}, changes); err != nil {
				return err
			}
			if !hasObject(changes, r.folder.member()) {
				return nil
			}
			infos, err := h.Stat(ctx, r.folder.member())
			if err != nil {
				return err
			}
			if infos[0].Exists { // else an earlier run was cut here
				if err := move(ctx, h, r.folder.member(), aside(r.folder.dataDir, r.c.Now())); err != nil {
					return err
				}
			}
			return move(ctx, h, r.folder.newMember(), r.folder.member())
		},
	}
}

// manifest is the target's static pod of etcd, with the target as the only member of a cluster that there is. etcd reads
// that only without data: then it must not start an empty cluster.
func (r *EtcdRestore) manifest(ctx context.Context, reader host.Reader) (host.File, error) {
	path := manifests.StaticPodPath(manifests.EtcdName)
	data, err := reader.ReadFile(ctx, path)
	if err != nil {
		return host.File{}, err
	}
	return host.File{Path: path, Mode: 0o600, Data: setInitialCluster(data, r.pod.initialCluster())}, nil
}

// move renames a path, never over another, and has it on the disk before it returns.
func move(ctx context.Context, h host.Host, from, to string) error {
	if _, err := h.Run(ctx, host.Command("sh", "-c", moveScript, "sh", from, to)); err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}
	return nil
}

// moveScript renames $1 to $2.
const moveScript = `
set -e
if [ -e "$2" ]; then echo "$2 is there already" >&2; exit 1; fi
mv -T "$1" "$2"
sync -f "$2"
`
