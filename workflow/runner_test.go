package workflow_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

func TestRunIsCheckApplyCheck(t *testing.T) {
	w := newWorld()
	steps := []workflow.Step{w.phase("a", hosts(t, "h1")...), w.phase("b")}
	var runner workflow.Runner

	summary, err := runner.Run(t.Context(), steps...)
	if err != nil || summary.Changes != 2 {
		t.Errorf("first run: %+v, %v", summary, err)
	}
	want := []string{"check a@h1", "apply a@h1", "check a@h1", "check b@", "apply b@", "check b@"}
	if diff := cmp.Diff(want, w.log); diff != "" {
		t.Errorf("first run (-want +got):\n%s", diff)
	}

	w.log = nil
	summary, err = runner.Run(t.Context(), steps...)
	if err != nil || summary.Changes != 0 {
		t.Errorf("second run: %+v, %v", summary, err)
	}
	if diff := cmp.Diff([]string{"check a@h1", "check b@"}, w.log); diff != "" {
		t.Errorf("second run (-want +got):\n%s", diff)
	}
}

// A phase on workers in a cluster without workers is none on the cluster.
func TestPhaseOnNoHostsDoesNotRun(t *testing.T) {
	w := newWorld()
	steps := []workflow.Step{w.phase("a", []host.Host{}...), workflow.Parallel(w.phase("b", []host.Host{}...)), w.phase("c")}
	var told []string
	runner := workflow.Runner{Report: func(e workflow.Event) { told = append(told, e.Phase) }}
	plan, err := runner.Plan(t.Context(), steps...)
	if err != nil || len(plan.Phases) != 1 || plan.Phases[0].Name != "c" {
		t.Errorf("planned %+v, %v, want only c", plan, err)
	}
	if _, err := runner.Run(t.Context(), steps...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c@"}, w.applied()); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	if slices.Contains(told, "a") || slices.Contains(told, "b") {
		t.Errorf("reported %q", told)
	}
}

func TestApplyIsGivenWhatCheckFound(t *testing.T) {
	found := []workflow.Change{{Action: workflow.Update, Object: "x", Detail: "mode"}, {Action: workflow.Run, Object: "y"}}
	var given []workflow.Change
	p := workflow.Phase{
		Name: "p",
		Check: func(context.Context, host.Reader) ([]workflow.Change, error) {
			if given != nil {
				return nil, nil
			}
			return found, nil
		},
		Apply: func(_ context.Context, _ host.Host, changes []workflow.Change) error {
			given = changes
			return nil
		},
	}
	summary, err := new(workflow.Runner).Run(t.Context(), p)
	if err != nil || summary.Changes != 2 {
		t.Errorf("%+v, %v", summary, err)
	}
	if diff := cmp.Diff(found, given); diff != "" {
		t.Errorf("(-found +given):\n%s", diff)
	}
}

func TestRunRefusesChangesThatDoNotLast(t *testing.T) {
	w := newWorld()
	p := w.phase("p", hosts(t, "h1")...)
	p.Check = func(context.Context, host.Reader) ([]workflow.Change, error) {
		return []workflow.Change{{Action: workflow.Update, Object: "/etc/x", Detail: "content"}}, nil
	}
	summary, err := new(workflow.Runner).Run(t.Context(), p)
	var leftover *workflow.LeftoverError
	if !errors.As(err, &leftover) || len(leftover.Changes) != 1 {
		t.Fatalf("%v, want a LeftoverError", err)
	}
	for _, part := range []string{"h1: p: ", "update /etc/x (content)", "; hint: "} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not hold %q", err, part)
		}
	}
	if summary.Changes != 0 {
		t.Errorf("%d changes count as made", summary.Changes)
	}
}

func TestErrorsNamePhaseAndHost(t *testing.T) {
	tests := []struct {
		name  string
		build func(w *world) workflow.Phase
		want  string
	}{
		{"check", func(w *world) workflow.Phase {
			p := w.phase("p", hosts(t, "h1")...)
			p.Check = func(context.Context, host.Reader) ([]workflow.Change, error) { return nil, errBroken }
			return p
		}, "h1: p: broken"},
		{"apply", func(w *world) workflow.Phase { return failing(w.phase("p", hosts(t, "h1")...), "h1") }, "h1: p: broken"},
		{"check after apply", func(w *world) workflow.Phase {
			p := w.phase("p", hosts(t, "h1")...)
			check, checks := p.Check, 0
			p.Check = func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
				if checks++; checks == 2 {
					return nil, errBroken
				}
				return check(ctx, r)
			}
			return p
		}, "h1: p: check what was applied: broken"},
		{"on the cluster", func(w *world) workflow.Phase { return failing(w.phase("p"), "") }, "p: broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := new(workflow.Runner).Run(t.Context(), tt.build(newWorld()))
			if err == nil || err.Error() != tt.want || !errors.Is(err, errBroken) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestOnlyAndSkip(t *testing.T) {
	h := hosts(t, "h1")
	tests := []struct {
		name       string
		only, skip []string
		applied    []string
		unknown    []string
	}{
		{name: "all", applied: []string{"a@h1", "b@", "c@h1"}},
		{name: "only", only: []string{"c", "a"}, applied: []string{"a@h1", "c@h1"}},
		{name: "skip", skip: []string{"b"}, applied: []string{"a@h1", "c@h1"}},
		{name: "skip wins", only: []string{"a", "b"}, skip: []string{"a"}, applied: []string{"b@"}},
		{name: "unknown", only: []string{"a", "x"}, skip: []string{"y"}, unknown: []string{"x", "y"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			steps := []workflow.Step{w.phase("a", h...), workflow.Parallel(w.phase("b"), workflow.Sequence(w.phase("c", h...)))}
			runner := workflow.Runner{Only: tt.only, Skip: tt.skip}
			_, err := runner.Run(t.Context(), steps...)
			checkUnknown(t, err, tt.unknown)
			if diff := cmp.Diff(tt.applied, w.applied()); diff != "" {
				t.Errorf("applied (-want +got):\n%s", diff)
			}
			if tt.unknown != nil && len(w.log) > 0 {
				t.Errorf("%v was done although names are unknown", w.log)
			}

			w = newWorld()
			plan, err := runner.Plan(t.Context(), w.phase("a", h...), w.phase("b"), w.phase("c", h...))
			checkUnknown(t, err, tt.unknown)
			if len(plan.Phases) != len(tt.applied) {
				t.Errorf("the plan has %+v, want the phases of %v", plan.Phases, tt.applied)
			}
		})
	}
}

// checkUnknown looks for one UnknownPhaseError for each name, each with a hint that lists the phases in order.
func checkUnknown(t *testing.T, err error, names []string) {
	t.Helper()
	if len(names) == 0 {
		if err != nil {
			t.Errorf("unexpected: %v", err)
		}
		return
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != len(names) {
		t.Fatalf("%v, want an error for each of %v", err, names)
	}
	for i, e := range joined.Unwrap() {
		var unknown *workflow.UnknownPhaseError
		if !errors.As(e, &unknown) || unknown.Name != names[i] || !strings.Contains(e.Error(), "hint: the phases are a, b, c") {
			t.Errorf("%v, want an UnknownPhaseError of %s", e, names[i])
		}
	}
}

func TestPhasesAreListedAsWritten(t *testing.T) {
	w := newWorld()
	step := workflow.Sequence(w.phase("a"), workflow.Parallel(w.phase("b"), workflow.Sequence(w.phase("c"), w.phase("d"))), w.phase("e"))
	var names []string
	for _, p := range step.Phases() {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
