package workflow_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// Where nothing is to be done, no Check waits for another one, and none is made twice.
func TestAheadLooksAtAllAtOnce(t *testing.T) {
	h := hosts(t, "a", "b")
	var all sync.WaitGroup // gone through when every Check has begun
	var checks atomic.Int64
	phase := func(name string, on ...host.Host) workflow.Phase {
		all.Add(max(len(on), 1))
		return workflow.Phase{Name: name, Hosts: on, Check: func(context.Context, host.Reader) ([]workflow.Change, error) {
			checks.Add(1)
			all.Done()
			all.Wait()
			return nil, nil
		}}
	}
	turns := phase("turns", h...)
	turns.Parallel = 1
	var kinds []workflow.Kind
	var mu sync.Mutex
	runner := workflow.Runner{Report: func(e workflow.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Phase == "last" {
			kinds = append(kinds, e.Kind)
		}
	}}
	sum, err := runner.Run(t.Context(), workflow.Ahead(
		phase("first", h...),
		workflow.Parallel(phase("second", h...), workflow.Sequence(phase("third"))),
		workflow.Pipeline(phase("fourth", h...), workflow.Leading(phase("fifth", h[0]))),
		turns,
		workflow.Ahead(phase("last")),
	))
	if err != nil || sum.Changes != 0 || checks.Load() != 11 {
		t.Errorf("%d changes and %d checks, %v", sum.Changes, checks.Load(), err)
	}
	if want := []workflow.Kind{workflow.PhaseStarted, workflow.Checking, workflow.Unchanged, workflow.PhaseEnded}; !slices.Equal(kinds, want) {
		t.Errorf("the last one gives %v, want %v", kinds, want)
	}
}

// What was seen before something was applied counts for nothing after it.
func TestAheadLooksAgainAfterAnApply(t *testing.T) {
	for _, limit := range []int{0, 1} {
		w := newWorld()
		h := hosts(t, "a", "b")
		w.made["first@a"], w.made["first@b"], w.made["second@a"] = true, true, true
		// What follows was there, and goes with the second phase.
		w.made["third@a"], w.made["third@b"] = true, true
		second := w.phase("second", h...)
		apply := second.Apply
		second.Apply = func(ctx context.Context, to host.Host, changes []workflow.Change) error {
			w.mu.Lock()
			delete(w.made, "third@b")
			w.mu.Unlock()
			return apply(ctx, to, changes)
		}
		runner := workflow.Runner{Concurrency: limit}
		steps := []workflow.Step{workflow.Ahead(w.phase("first", h...), workflow.Pipeline(second), w.phase("third", h...), w.phase("fourth"))}
		if sum, err := runner.Run(t.Context(), steps...); err != nil || sum.Changes != 3 {
			t.Fatalf("limit %d: %d changes, %v", limit, sum.Changes, err)
		}
		var applied []string
		for _, what := range w.log {
			if what[:5] == "apply" {
				applied = append(applied, what[6:])
			}
		}
		if want := []string{"second@b", "third@b", "fourth@"}; !slices.Equal(applied, want) {
			t.Errorf("limit %d: applied %q, want %q", limit, applied, want)
		}
		if sum, err := runner.Run(t.Context(), steps...); err != nil || sum.Changes != 0 {
			t.Errorf("limit %d: again: %d changes, %v", limit, sum.Changes, err)
		}
	}
}

// A look that fails is taken again in its turn, when the reason may be gone; what a look tells is told once.
func TestAheadKeepsErrorsForTheirTurn(t *testing.T) {
	var looks atomic.Int64
	var warned []string
	var mu sync.Mutex
	runner := workflow.Runner{Report: func(e workflow.Event) {
		if e.Kind == workflow.Warning {
			mu.Lock()
			defer mu.Unlock()
			warned = append(warned, e.Phase+": "+e.Message)
		}
	}}
	late := errors.New("not yet")
	_, err := runner.Run(t.Context(), workflow.Ahead(
		workflow.Phase{Name: "warns", Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			workflow.Warn(ctx, "seen")
			return nil, nil
		}},
		workflow.Phase{Name: "late", Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			if looks.Add(1) == 1 {
				workflow.Warn(ctx, "of a look that has failed")
				return nil, late
			}
			return nil, nil
		}},
		workflow.Phase{Name: "fails", Check: func(context.Context, host.Reader) ([]workflow.Change, error) { return nil, errBroken }},
	))
	if got := phaseErrors(t, err); looks.Load() != 2 || !slices.Equal(got, []string{"fails@"}) || errors.Is(err, late) {
		t.Errorf("%d looks, %v", looks.Load(), err)
	}
	if !slices.Equal(warned, []string{"warns: seen"}) {
		t.Errorf("warned of %q", warned)
	}
}
