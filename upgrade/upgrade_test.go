package upgrade

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
)

func TestMaxUnavailable(t *testing.T) {
	for _, tt := range []struct {
		value   string
		workers int
		want    int // 0: it is refused
	}{
		{"1", 10, 1}, {"3", 10, 3}, {"30", 10, 30},
		{"25%", 10, 2}, {"25%", 3, 1}, {"1%", 10, 1}, {"100%", 10, 10}, {"100%", 0, 1},
		{"0", 10, 0}, {"-1", 10, 0}, {"0%", 10, 0}, {"101%", 10, 0}, {"", 10, 0}, {"%", 10, 0}, {"half", 10, 0}, {"1.5", 10, 0}, {"25%%", 10, 0}, {" 1", 10, 0},
		{"99999999999999999999", 10, 0},
	} {
		if err := CheckMaxUnavailable(tt.value); (err == nil) != (tt.want > 0) {
			t.Errorf("%q: %v", tt.value, err)
		}
		if got := (Options{MaxUnavailable: tt.value}).atOnce(tt.workers); tt.want > 0 && got != tt.want || got < 1 {
			t.Errorf("%q of %d: %d, want %d", tt.value, tt.workers, got, tt.want)
		}
	}
}

// snapshotRig is a rig whose host makes folders, and knows how old its snapshots are.
func snapshotRig(t *testing.T, fresh *bool) (*rig, *rigHost, string) {
	r := newRig(t)
	h := r.hosts["cp-1"]
	file := snapshotFolder + "/etcd-before-" + newVersion + ".db"
	h.On("install", "-d", "-m", "0700", snapshotFolder).Changes().Do(func(f *hosttest.Fake, _ host.Cmd) ([]byte, error) {
		f.Mkdir(snapshotFolder, 0o700)
		return nil, nil
	})
	h.OnPrefix("mv", "-T").Changes().Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		part, _ := f.Get(cmd.Argv[2])
		f.Delete(part.Path)
		f.Put(host.File{Path: cmd.Argv[3], Mode: part.Mode, Data: part.Data})
		return nil, nil
	})
	h.OnPrefix("sh", "-c").Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		if at := cmd.Argv[len(cmd.Argv)-1]; strings.HasSuffix(at, ".myadm-part") { // what is received
			data, err := io.ReadAll(cmd.Stdin)
			f.Put(host.File{Path: at, Mode: 0o600, Data: data})
			return nil, err
		}
		if _, there := f.Get(file); there && *fresh && slices.Contains(cmd.Argv, file) {
			return []byte(file + "\n"), nil
		}
		return nil, nil
	})
	return r, h, file
}

// A snapshot is taken before anything is replaced: that of another day will not do, and an upgrade that is carried on
// keeps the one that it began with.
func TestSnapshot(t *testing.T) {
	fresh := true
	r, h, file := snapshotRig(t, &fresh)
	p := Snapshot(r.Cluster, oldVersion)
	create := []string{"create " + file}
	if diff := cmp.Diff(create, r.check(t, p, "cp-1")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	perform(t, p)
	taken, ok := h.Get(file)
	if !ok || len(taken.Data) < 16<<10 || taken.Mode.Perm()&0o077 != 0 {
		t.Fatalf("the snapshot has %d bytes and mode %v", len(taken.Data), taken.Mode)
	}
	if got := r.check(t, p, "cp-1"); len(got) > 0 {
		t.Errorf("just taken, left to do: %q", got)
	}
	fresh = false
	if diff := cmp.Diff(create, r.check(t, p, "cp-1")); diff != "" {
		t.Errorf("one of another day (-want +got):\n%s", diff)
	}
	next := imagesAt(t, newVersion).APIServer
	h.Put(host.File{Path: manifests.StaticPodPath(manifests.APIServerName), Mode: 0o600, Data: manifestOf(manifests.APIServerName, next)})
	if got := r.check(t, p, "cp-1"); len(got) > 0 {
		t.Errorf("carried on, left to do: %q", got)
	}
	h.Delete(file)
	if diff := cmp.Diff(create, r.check(t, p, "cp-1")); diff != "" {
		t.Errorf("carried on without one (-want +got):\n%s", diff)
	}
}

// Single hosts go by the same rules as a cluster.
func TestCheckNodes(t *testing.T) {
	for _, tt := range []struct {
		from, to, node string
		force          bool
		want           string // part of the refusal; empty: it may go
	}{
		{oldVersion, newVersion, "cp-1", false, ""},
		{"v1.35.6", "v1.35.7", "cp-1", true, "cannot go back"}, // an API server runs oldVersion
		{oldVersion, newVersion, "w-1", false, "newer"},        // no API server is
		{"v1.37.3", newVersion, "cp-1", false, "hint: add --force"},
		{"v1.37.3", newVersion, "cp-1", true, ""},
		{newVersion, oldVersion, "cp-1", true, "cannot go back"},
	} {
		r := newRig(t, "w-1")
		r.Config.Spec.KubernetesVersion = tt.to
		nodes := slices.DeleteFunc(slices.Clone(r.Nodes), func(n *cluster.Node) bool { return n.Spec.Name != tt.node })
		err := CheckNodes(t.Context(), r.Cluster, tt.from, nodes, tt.force)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s from %s to %s: %v", tt.node, tt.from, tt.to, err)
		}
	}
}

// Control planes get their images one after the other, so that etcd's quorum keeps up, and workers all at once.
func TestBringOrder(t *testing.T) {
	r := newRig(t, "w-1", "w-2")
	server := *r.Nodes[0]
	second := server
	var hosts [][]string
	for _, p := range bring(r.Cluster, []*cluster.Node{&server, &second}, r.Workers()).Phases() {
		var names []string
		for _, h := range p.Hosts {
			names = append(names, h.Name())
		}
		hosts = append(hosts, append(names, p.Name))
	}
	want := [][]string{
		{"w-1", "w-2", "images"}, {"w-1", "w-2", "binaries"},
		{"cp-1", "images"}, {"cp-1", "binaries"}, {"cp-1", "images"}, {"cp-1", "binaries"},
	}
	if diff := cmp.Diff(want, hosts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// There is nothing to take where the version stays, or where etcd is somebody else's.
func TestSnapshotIsNotNeeded(t *testing.T) {
	r := newRig(t, "w-1")
	if got := r.check(t, Snapshot(r.Cluster, newVersion), "cp-1"); len(got) > 0 {
		t.Errorf("in the same version: %q", got)
	}
	r.Config.Spec.Etcd.External = &config.ExternalEtcd{Endpoints: []string{"https://etcd.example:2379"}}
	if p := Snapshot(r.Cluster, oldVersion); p.Hosts == nil || len(p.Hosts) > 0 {
		t.Errorf("of an external etcd, hosts %v", p.Hosts)
	}
}

// What was kept goes, of whatever an upgrade that was cut has left, and nothing else.
func TestTidy(t *testing.T) {
	r := newRig(t, "w-1")
	h := r.hosts["cp-1"]
	dir := r.Config.Spec.Etcd.DataDir
	before := h.Paths("/")
	left := []string{folder, dir + "/member.myadm-previous", dir + "/member.myadm-previous.part", dir + "/member.failed"}
	for _, d := range left {
		h.Mkdir(d, 0o700)
	}
	h.Put(host.File{Path: folder + "/previous-etcd.yaml", Mode: 0o600})
	for _, path := range []string{config.StagedBinary(rigKubelet), config.PreviousBinary(rigContainerd)} {
		left = append(left, path)
		h.Put(host.File{Path: path, Mode: 0o755})
	}
	p := Tidy(r.Cluster, r.Nodes)
	var want []string
	for _, path := range left {
		want = append(want, "delete "+path)
	}
	got := r.check(t, p, "cp-1")
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	perform(t, p)
	if diff := cmp.Diff(before, h.Paths("/")); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	r.ends(t, p, "cp-1")
	r.ends(t, p, "w-1")
}
