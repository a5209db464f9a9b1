package upgrade

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/manifests"
)

// TestRecoverBringsTheAPIBack: wherever a run is killed that replaces the API server of a lone control plane by one that
// does not run, the API answers again, with the manifest from before.
func TestRecoverBringsTheAPIBack(t *testing.T) {
	q := newQuorum(t, "cp-1")
	whole := newFleet(t, q, nil)
	whole.sicken(0)
	if _, err := whole.runCut(rigOptions()); err == nil {
		t.Fatal("it is no error")
	}
	silent := 0
	for cut := range whole.done {
		t.Run(strconv.Itoa(cut), func(t *testing.T) {
			f := newFleet(t, q, nil)
			f.sicken(0)
			h, path := f.host("cp-1"), manifests.StaticPodPath(manifests.APIServerName)
			before, _ := h.Get(path)
			f.left, f.kill = cut, true
			if ended, err := f.runCut(rigOptions()); !ended || err == nil {
				t.Fatalf("it did not end: %v", err)
			}
			if !h.serves(manifests.APIServerName) {
				silent++
			}
			at := len(f.done)
			f.again()
			answers, err := Recover(t.Context(), f.Cluster, true)
			if err != nil || !answers {
				t.Errorf("it answers: %t, %v", answers, err)
			}
			after, _ := h.Get(path)
			if diff := cmp.Diff(string(before.Data), string(after.Data)); diff != "" {
				t.Errorf("it runs with (-before +after):\n%s", diff)
			}
			if t.Failed() {
				t.Logf("the runs did\n%s", f.log(at))
			}
		})
	}
	if silent == 0 {
		t.Error("no cut has left the API silent")
	}
}

// TestInterruptedTellsOfReplacementsAlone: from when a run has begun to replace what a control plane runs, and until one
// has ended that, it is told.
func TestInterruptedTellsOfReplacementsAlone(t *testing.T) {
	q := newQuorum(t, "cp-1")
	f := newFleet(t, q, nil)
	muchDiffers(f)
	want := func(want bool, when string) {
		t.Helper()
		if got, err := Interrupted(t.Context(), f.Cluster); err != nil || got != want {
			t.Errorf("%s: %t, %v; want %t", when, got, err, want)
		}
	}
	want(false, "before")
	whole := newFleet(t, q, nil)
	muchDiffers(whole)
	perform(t, whole.converge(rigOptions())...)
	f.left, f.kill = len(whole.done)/2, true
	if ended, err := f.runCut(rigOptions()); !ended || err == nil {
		t.Fatalf("it did not end: %v", err)
	}
	f.again()
	want(true, "after a cut")
	perform(t, f.converge(rigOptions())...)
	want(false, "after the next run")
}
