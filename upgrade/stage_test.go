package upgrade

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// Binaries are brought beside those that run, which stay as they are, and nothing is sent twice.
func TestStage(t *testing.T) {
	r := newRig(t, "w-1")
	h := r.hosts["w-1"]
	p := Stage(r.Cluster, r.Workers())
	before := h.files()
	staged := []string{config.StagedBinary(rigKubelet), config.StagedBinary(rigContainerd), config.StagedBinary("/usr/local/bin/kubectl")}
	var want []string
	for _, path := range staged {
		want = append(want, "create "+path+": "+newVersion)
		before[path] = newVersion
	}
	slices.Sort(want)
	got := r.check(t, p, "w-1")
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	perform(t, p)
	if diff := cmp.Diff(before, h.files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.ends(t, p, "w-1")
	// Another one is brought again, one with another mode gets the right one, and what is in place already stays.
	h.Put(host.File{Path: staged[0], Mode: 0o755, Data: []byte(oldVersion)})
	h.Delete(staged[1])
	h.Put(host.File{Path: rigContainerd, Mode: 0o755, Data: []byte(newVersion)})
	h.Put(host.File{Path: staged[2], Mode: 0o644, Data: []byte(newVersion)})
	perform(t, p)
	if writes := h.Writes(); !slices.Equal(writes, staged[:1]) {
		t.Errorf("sent %q, want %q", writes, staged[:1])
	}
	if f, _ := h.Get(staged[2]); f.Mode != 0o755 {
		t.Errorf("%s has %v", staged[2], f.Mode)
	}
	r.ends(t, p, "w-1")
}

// How far it is counts the bytes of all binaries, up to the last.
func TestStageTellsHowFarItIs(t *testing.T) {
	r := newRig(t, "w-1")
	var last, total int64
	runner := workflow.Runner{Report: func(e workflow.Event) {
		if e.Kind == workflow.Progress {
			last, total = e.Done, e.Total
		}
	}}
	if _, err := runner.Run(t.Context(), Stage(r.Cluster, r.Workers())); err != nil {
		t.Fatal(err)
	}
	if want := int64(3 * len(newVersion)); last != want || total != want {
		t.Errorf("%d of %d bytes, want %d", last, total, want)
	}
}

func TestStageFails(t *testing.T) {
	r := newRig(t, "w-1")
	r.hosts["w-1"].FailWrites(config.StagedBinary(rigKubelet), errNoSpace)
	fails(t, Stage(r.Cluster, r.Workers()), "send kubelet", errNoSpace.Error())
	if left := r.check(t, Stage(r.Cluster, r.Workers()), "w-1"); !slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, "kubelet") }) {
		t.Errorf("left to do: %q", left)
	}
}
