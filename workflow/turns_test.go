package workflow_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/workflow"
)

// Hosts with nothing to do do not wait for the turn of those that have: they are asked at once, and once.
func TestTurnsAreForHostsWithChanges(t *testing.T) {
	all := hosts(t, "h1", "h2", "h3")
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(), newGate()
		p := g.hold(w.phase("p", all...))
		p.Parallel = 1
		w.made["p@h2"] = true
		var ended []string
		runner := workflow.Runner{Report: func(e workflow.Event) {
			if e.Kind == workflow.Unchanged {
				ended = append(ended, e.Host)
			}
		}}
		done := make(chan error)
		go func() {
			_, err := runner.Run(t.Context(), p)
			done <- err
		}()
		if g.held() != 1 || !slices.Equal(ended, []string{"h2"}) {
			t.Errorf("%d hosts are at work, and %q have ended", g.held(), ended)
		}
		close(g.through)
		if err := <-done; err != nil {
			t.Error(err)
		}
		asked := 0
		for _, line := range w.log {
			if line == "check p@h2" {
				asked++
			}
		}
		if asked != 1 || len(w.applied()) != 3 {
			t.Errorf("h2 was asked %d times in %s", asked, strings.Join(w.log, ", "))
		}
	})
}

// What two phases find to do is told with the first, which will have done it.
func TestPlanTellsAChangeOnce(t *testing.T) {
	w := newWorld()
	all := hosts(t, "h1", "h2")
	first, second := w.phase("p", all...), w.phase("p", all[0])
	second.Name = "q"
	plan, err := new(workflow.Runner).Plan(t.Context(), first, second)
	if err != nil {
		t.Fatal(err)
	}
	create := func(object string) []workflow.Change {
		return []workflow.Change{{Action: workflow.Create, Object: object}}
	}
	want := workflow.Plan{Phases: []workflow.PhasePlan{
		{Name: "p", Hosts: []workflow.HostPlan{{Host: "h1", Changes: create("p@h1")}, {Host: "h2", Changes: create("p@h2")}}},
		{Name: "q", Hosts: []workflow.HostPlan{{Host: "h1", Changes: []workflow.Change{}}}},
	}}
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
