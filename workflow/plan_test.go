package workflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

func TestPlanTellsAllAndChangesNothing(t *testing.T) {
	w := newWorld()
	all := hosts(t, "h1", "h2")
	steps := []workflow.Step{
		w.phase("a", all...),
		workflow.Parallel(w.phase("b"), workflow.Sequence(w.phase("c", all[1]), w.phase("d"))),
	}
	w.made["a@h1"] = true
	plan, err := new(workflow.Runner).Plan(t.Context(), steps...)
	if err != nil {
		t.Fatal(err)
	}
	create := func(object string) []workflow.Change {
		return []workflow.Change{{Action: workflow.Create, Object: object}}
	}
	want := workflow.Plan{Phases: []workflow.PhasePlan{
		{Name: "a", Hosts: []workflow.HostPlan{{Host: "h1", Changes: []workflow.Change{}}, {Host: "h2", Changes: create("a@h2")}}},
		{Name: "b", Hosts: []workflow.HostPlan{{Changes: create("b@")}}},
		{Name: "c", Hosts: []workflow.HostPlan{{Host: "h2", Changes: create("c@h2")}}},
		{Name: "d", Hosts: []workflow.HostPlan{{Changes: create("d@")}}},
	}}
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if plan.Changes() != 4 {
		t.Errorf("%d changes are counted, want 4", plan.Changes())
	}
	if diff := cmp.Diff([]string{"a@h1"}, w.applied()); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
}

// A warning that a run would tell, a plan tells, too, also of a phase that then fails.
func TestPlanKeepsWarnings(t *testing.T) {
	w := newWorld()
	warns := func(p workflow.Phase, err error) workflow.Phase {
		p.Check = func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			where := "the cluster"
			if r != nil {
				where = r.Name()
			}
			var all sync.WaitGroup
			for range 2 {
				all.Go(func() { workflow.Warn(ctx, where+" is slow") })
			}
			workflow.Tell(ctx, "looking")
			workflow.ReportProgress(ctx, "looking", 1, 2)
			all.Wait()
			return nil, err
		}
		return p
	}
	plan, err := new(workflow.Runner).Plan(t.Context(), warns(w.phase("a", hosts(t, "h1", "h2")...), errBroken), warns(w.phase("b"), nil))
	if !errors.Is(err, errBroken) {
		t.Error(err)
	}
	want := workflow.Plan{Phases: []workflow.PhasePlan{
		{Name: "a", Hosts: []workflow.HostPlan{
			{Host: "h1", Changes: []workflow.Change{}, Warnings: []string{"h1 is slow", "h1 is slow"}},
			{Host: "h2", Changes: []workflow.Change{}, Warnings: []string{"h2 is slow", "h2 is slow"}},
		}},
		{Name: "b", Hosts: []workflow.HostPlan{{Changes: []workflow.Change{}, Warnings: []string{"the cluster is slow", "the cluster is slow"}}}},
	}}
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is planned is what a run then does.
func TestPlanIsEmptyAfterARun(t *testing.T) {
	w := newWorld()
	steps := []workflow.Step{w.phase("a", hosts(t, "h1", "h2")...), w.phase("b")}
	var runner workflow.Runner
	before, err := runner.Plan(t.Context(), steps...)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := runner.Run(t.Context(), steps...)
	if err != nil || summary.Changes != before.Changes() {
		t.Errorf("%d changes made, %v; %d planned", summary.Changes, err, before.Changes())
	}
	after, err := runner.Plan(t.Context(), steps...)
	if err != nil || after.Changes() != 0 {
		t.Errorf("after the run %d changes are planned, %v", after.Changes(), err)
	}
}

func TestPlanGathersErrorsInOrder(t *testing.T) {
	w := newWorld()
	all := hosts(t, "h1", "h2")
	broken := func(p workflow.Phase) workflow.Phase {
		p.Check = func(context.Context, host.Reader) ([]workflow.Change, error) { return nil, errBroken }
		return p
	}
	plan, err := new(workflow.Runner).Plan(t.Context(), broken(w.phase("a", all...)), w.phase("b", all...), broken(w.phase("c")))
	want := "h1: a: broken\nh2: a: broken\nc: broken"
	if err == nil || err.Error() != want || !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %s", err, want)
	}
	if plan.Changes() != 2 {
		t.Errorf("%d changes are planned, want those of b", plan.Changes())
	}
}

func TestPlanGivesTheCauseOfItsEnd(t *testing.T) {
	cause := errors.New("the operator said stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	p := newWorld().phase("p")
	p.Check = func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
		cancel(cause)
		return nil, ctx.Err()
	}
	plan, err := new(workflow.Runner).Plan(ctx, p)
	if err != cause || len(plan.Phases) != 0 { //nolint:errorlint // nothing but the cause is wanted
		t.Errorf("%+v, %v, want only the cause", plan, err)
	}
}

// Tools read a plan as JSON: a host without changes has an empty list, not null.
func TestPlanAsJSON(t *testing.T) {
	w := newWorld()
	w.made["a@h1"] = true
	plan, err := new(workflow.Runner).Plan(t.Context(), w.phase("a", hosts(t, "h1")...), w.phase("b"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"phases":[{"name":"a","hosts":[{"host":"h1","changes":[]}]},` +
		`{"name":"b","hosts":[{"changes":[{"action":"create","object":"b@"}]}]}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
