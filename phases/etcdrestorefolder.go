package phases

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/myadm/myadm/host"
)

// restoreFolder is a folder beside the target's data, which holds what a restore makes:
//
//	snapshot.db   the snapshot, or the copy of a member's database
//	new/          there once the new data is whole
//	new/member    the new data, until it takes its place
//
// A folder new without member says that the data is in place; by then the other control planes have lost theirs.
type restoreFolder struct {
	dataDir string
	path    string
}

const (
	restorePrefix = "myadm-restore-"
	asidePrefix   = "member.before-restore-"
)

// newRestoreFolder names the folder after the data, so that only a restore of the same goes on with it.
func newRestoreFolder(dataDir string, source EtcdSource) restoreFolder {
	name := "member-" + source.Member
	if source.Snapshot != nil {
		name = source.Snapshot.SHA256[:16]
	}
	return restoreFolder{dataDir: dataDir, path: dataDir + "/" + restorePrefix + name}
}

func (f restoreFolder) member() string   { return f.dataDir + "/member" }
func (f restoreFolder) database() string { return f.member() + "/snap/db" }
func (f restoreFolder) snapshot() string { return f.path + "/snapshot.db" }
func (f restoreFolder) made() string     { return f.path + "/new" }
func (f restoreFolder) newMember() string {
	return f.made() + "/member"
}

// part is where data is made before it is whole. It has another name each time: what a killed run has started may still
// be writing to its own.
func (f restoreFolder) part() string { return f.path + "/part-" + rand.Text() }

// aside is where a member's data goes, for good.
func aside(dataDir string, now time.Time) string {
	return dataDir + "/" + asidePrefix + now.UTC().Format("20060102T150405Z")
}

// restoreState is how far a restore got on the target.
type restoreState struct {
	database bool // there is a member's data
	made     bool // the new data is whole
	swapped  bool // it is in place
}

func (f restoreFolder) read(ctx context.Context, r host.Reader) (restoreState, error) {
	infos, err := r.Stat(ctx, f.database(), f.made(), f.newMember())
	if err != nil {
		return restoreState{}, err
	}
	return restoreState{database: infos[0].Exists, made: infos[1].Exists, swapped: infos[1].Exists && !infos[2].Exists}, nil
}
