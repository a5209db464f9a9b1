package workflow_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

func TestOutcomes(t *testing.T) {
	all := hosts(t, "h1", "h2", "h3")
	w := newWorld()
	tests := []struct {
		name   string
		runner workflow.Runner
		steps  []workflow.Step
		want   []workflow.Outcome
	}{
		{"everything is done", workflow.Runner{}, []workflow.Step{w.phase("a", all[:2]...), w.phase("b")}, []workflow.Outcome{
			{Host: "h1", State: workflow.Finished, Phases: 1, Left: []string{}},
			{Host: "h2", State: workflow.Finished, Phases: 1, Left: []string{}},
			{State: workflow.Finished, Phases: 1, Left: []string{}},
		}},
		{"one host fails", workflow.Runner{}, []workflow.Step{w.phase("c", all...), failing(w.phase("d", all...), "h2"), w.phase("e", all...)}, []workflow.Outcome{
			{Host: "h1", State: workflow.Finished, Phases: 3, Left: []string{}},
			{Host: "h2", State: workflow.Broken, Phase: "d", Error: "broken", Phases: 3, Left: []string{"d", "e"}},
			{Host: "h3", State: workflow.Finished, Phases: 3, Left: []string{}},
		}},
		{"the cluster fails", workflow.Runner{}, []workflow.Step{w.phase("f", all[0]), failing(w.phase("g"), ""), w.phase("h", all[:2]...)}, []workflow.Outcome{
			{Host: "h1", State: workflow.Unfinished, Phases: 2, Left: []string{"h"}},
			{State: workflow.Broken, Phase: "g", Error: "broken", Phases: 1, Left: []string{"g"}},
			{Host: "h2", State: workflow.Unfinished, Phases: 1, Left: []string{"h"}},
		}},
		{"what is skipped is not left", workflow.Runner{Skip: []string{"j"}}, []workflow.Step{w.phase("i", all[0]), w.phase("j", all[:2]...)}, []workflow.Outcome{
			{Host: "h1", State: workflow.Finished, Phases: 1, Left: []string{}},
		}},
		{"no host", workflow.Runner{}, []workflow.Step{workflow.Phase{Name: "k", Hosts: []host.Host{}}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r recorder
			tt.runner.Report = r.report
			_, _ = tt.runner.Run(t.Context(), tt.steps...) // what fails is in the outcomes
			if diff := cmp.Diff(tt.want, tt.runner.Outcomes(r.events, tt.steps...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A run that was stopped leaves what it did not come to, and fails where it was at work.
func TestOutcomesOfAStoppedRun(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	all := hosts(t, "h1")
	w := newWorld()
	p := w.phase("b", all...)
	p.Apply = func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
		stop()
		<-ctx.Done()
		return ctx.Err()
	}
	var r recorder
	runner := workflow.Runner{Report: r.report}
	steps := []workflow.Step{w.phase("a", all...), p, w.phase("c", all...)}
	if _, err := runner.Run(ctx, steps...); err == nil {
		t.Fatal("no error")
	}
	want := []workflow.Outcome{{Host: "h1", State: workflow.Broken, Phase: "b", Error: "context canceled", Phases: 3, Left: []string{"b", "c"}}}
	if diff := cmp.Diff(want, runner.Outcomes(r.events, steps...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
