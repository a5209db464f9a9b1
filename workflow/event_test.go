package workflow_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []workflow.Event
}

func (r *recorder) report(e workflow.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// of are the events of a host in their order; "" is the phase itself, or the cluster.
func (r *recorder) of(host string) []workflow.Event {
	var events []workflow.Event
	for _, e := range r.events {
		if e.Host == host {
			events = append(events, e)
		}
	}
	return events
}

// ticking is a clock that goes on by a second whenever it is read.
func ticking() func() time.Time {
	var mu sync.Mutex
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second)
		return now
	}
}

func TestEventsTellAPhaseInOrder(t *testing.T) {
	w := newWorld()
	p := w.phase("p", hosts(t, "h1")...)
	check, apply := p.Check, p.Apply
	p.Check = func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
		workflow.Warn(ctx, "old kernel")
		return check(ctx, r)
	}
	p.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
		workflow.ReportProgress(ctx, "sent", 1, 2)
		return apply(ctx, h, changes)
	}
	var r recorder
	runner := workflow.Runner{Report: r.report, Now: ticking()}
	summary, err := runner.Run(t.Context(), p, p)
	if err != nil {
		t.Fatal(err)
	}
	changes := []workflow.Change{{Action: workflow.Create, Object: "p@h1"}}
	on := func(kind workflow.Kind) workflow.Event { return workflow.Event{Kind: kind, Phase: "p", Host: "h1"} }
	warning, applying, applied, progress := on(workflow.Warning), on(workflow.Applying), on(workflow.Applied), on(workflow.Progress)
	warning.Message, applying.Changes, applied.Changes = "old kernel", changes, changes
	progress.Message, progress.Done, progress.Total = "sent", 1, 2
	started := workflow.Event{Kind: workflow.PhaseStarted, Phase: "p", Short: "make p", Hosts: 1}
	ended := workflow.Event{Kind: workflow.PhaseEnded, Phase: "p"}
	want := []workflow.Event{
		started, on(workflow.Checking), warning, applying, progress, warning, applied, ended,
		started, on(workflow.Checking), warning, on(workflow.Unchanged), ended,
	}
	last := time.Time{}
	got := make([]workflow.Event, len(r.events))
	for i, e := range r.events {
		if !e.Time.After(last) {
			t.Errorf("event %d is of %s, not after %s", i, e.Time, last)
		}
		if e.Kind != workflow.PhaseStarted && e.Elapsed <= 0 {
			t.Errorf("%s has no elapsed time", e.Kind)
		}
		last = e.Time
		e.Time, e.Elapsed = time.Time{}, 0
		got[i] = e
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if summary.Elapsed <= 0 {
		t.Errorf("the run took %s", summary.Elapsed)
	}
}

func TestEventsOfFailures(t *testing.T) {
	w := newWorld()
	all := hosts(t, "h1", "h2")
	var r recorder
	runner := workflow.Runner{Report: r.report}
	_, err := runner.Run(t.Context(), failing(w.phase("a", all...), "h2"), w.phase("b", all...), failing(w.phase("c"), ""))
	if err == nil {
		t.Fatal("no error")
	}
	kinds := func(host string) []string {
		var all []string
		for _, e := range r.of(host) {
			all = append(all, e.Phase+" "+string(e.Kind))
			if (e.Kind == workflow.Failed) != errors.Is(e.Err, errBroken) {
				t.Errorf("%s of %s on %q has the error %v", e.Kind, e.Phase, e.Host, e.Err)
			}
		}
		return all
	}
	for host, want := range map[string][]string{
		"h1": {"a checking", "a applying", "a applied", "b checking", "b applying", "b applied"},
		"h2": {"a checking", "a applying", "a failed"},
		"": {
			"a phase-started", "a phase-ended", "b phase-started", "b phase-ended",
			"c phase-started", "c checking", "c applying", "c failed", "c phase-ended",
		},
	} {
		if diff := cmp.Diff(want, kinds(host)); diff != "" {
			t.Errorf("events of %q (-want +got):\n%s", host, diff)
		}
	}
}

// Outside of a run there is nobody to tell, which is no error.
func TestReportingOutsideOfARun(t *testing.T) {
	checked := false
	p := workflow.Phase{Name: "p", Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
		workflow.Warn(ctx, "nobody listens")
		workflow.ReportProgress(ctx, "sent", 1, 2)
		checked = true
		return nil, nil
	}}
	if _, err := new(workflow.Runner).Plan(t.Context(), p); err != nil || !checked {
		t.Errorf("checked %t, %v", checked, err)
	}
}
