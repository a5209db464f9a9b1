package cmd

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/workflow"
)

func TestWorkView(t *testing.T) {
	var events []workflow.Event
	view := newWorkView(func(e workflow.Event) { events = append(events, e) }, "push", "sent", 3)
	view.progress("a", 1, 2)
	view.ended("a", workflow.Change{Action: workflow.Create, Object: "image a"})
	view.ended("b")
	view.failed("c")
	view.end()
	want := []workflow.Event{
		{Kind: workflow.PhaseStarted, Phase: "push", Hosts: 3},
		{Kind: workflow.Progress, Phase: "push", Host: "a", Message: "sent", Done: 1, Total: 2},
		{Kind: workflow.Applied, Phase: "push", Host: "a", Changes: []workflow.Change{{Action: workflow.Create, Object: "image a"}}},
		{Kind: workflow.Unchanged, Phase: "push", Host: "b"},
		{Kind: workflow.Failed, Phase: "push", Host: "c"},
		{Kind: workflow.PhaseEnded, Phase: "push"},
	}
	if diff := cmp.Diff(want, events, cmpopts.IgnoreFields(workflow.Event{}, "Time", "Elapsed")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, e := range events {
		if e.Time.IsZero() {
			t.Errorf("%+v has no time", e)
		}
	}
}

// What a bundle has is told as it is verified, up to its end.
func TestVerifyIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle")
	if err := makeBundle(path, "v1.37.2"); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var last workflow.Event
	kinds := map[workflow.Kind]int{}
	report := func(e workflow.Event) {
		kinds[e.Kind]++
		if e.Kind == workflow.Progress {
			last = e
		}
	}
	if err := verifyBundle(t.Context(), report, b); err != nil {
		t.Fatal(err)
	}
	if last.Host != "bundle" || last.Done != 7 || last.Total != 7 || kinds[workflow.Unchanged] != 1 || kinds[workflow.PhaseEnded] != 1 {
		t.Errorf("last %+v, %v", last, kinds)
	}
}
