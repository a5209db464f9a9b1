package workflow_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// onlyOn holds a phase's Apply at the gate on one host.
func onlyOn(name string, g *gate, p workflow.Phase) workflow.Phase {
	free, held := p.Apply, g.hold(p).Apply
	p.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
		if h.Name() == name {
			return held(ctx, h, changes)
		}
		return free(ctx, h, changes)
	}
	return p
}

func TestHostsInAPipelineDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(), newGate()
		two := hosts(t, "slow", "quick")
		var events []string
		var mu sync.Mutex
		runner := workflow.Runner{Report: func(e workflow.Event) {
			if e.Kind == workflow.PhaseStarted || e.Kind == workflow.PhaseEnded {
				mu.Lock()
				events = append(events, fmt.Sprintf("%s %s", e.Kind, e.Phase))
				mu.Unlock()
			}
		}}
		done := make(chan error)
		go func() {
			_, err := runner.Run(t.Context(),
				workflow.Pipeline(
					workflow.Pipeline(workflow.Parallel(onlyOn("slow", g, w.phase("a", two...)), w.phase("b", two...))),
					workflow.Sequence(w.phase("c", two...), w.phase("only-quick", two[1])),
				),
				w.phase("after"))
			done <- err
		}()
		if n := g.held(); n != 1 {
			t.Errorf("%d hosts stand at the gate, want the slow one", n)
		}
		if diff := cmp.Diff([]string{"a@quick", "b@quick", "b@slow", "c@quick", "only-quick@quick"}, w.applied()); diff != "" {
			t.Errorf("while one host stands (-want +got):\n%s", diff)
		}
		close(g.through)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"a@quick", "a@slow", "after@", "b@quick", "b@slow", "c@quick", "c@slow", "only-quick@quick"}, w.applied()); diff != "" {
			t.Errorf("in the end (-want +got):\n%s", diff)
		}
		slices.Sort(events)
		want := []string{
			"phase-ended a", "phase-ended after", "phase-ended b", "phase-ended c", "phase-ended only-quick",
			"phase-started a", "phase-started after", "phase-started b", "phase-started c", "phase-started only-quick",
		}
		if diff := cmp.Diff(want, events); diff != "" {
			t.Errorf("events, one pair for each phase (-want +got):\n%s", diff)
		}
	})
}

func TestAHostThatFailsLeavesThePipelineAlone(t *testing.T) {
	w := newWorld()
	two := hosts(t, "h1", "h2")
	started, ended := 0, 0
	runner := workflow.Runner{Report: func(e workflow.Event) {
		switch e.Kind {
		case workflow.PhaseStarted:
			started++
		case workflow.PhaseEnded:
			ended++
		}
	}}
	_, err := runner.Run(t.Context(),
		workflow.Pipeline(failing(w.phase("a", two...), "h1"), w.phase("b", two...)),
		w.phase("c", two...))
	if diff := cmp.Diff([]string{"h1: a: broken"}, messages(err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a@h2", "b@h2", "c@h2"}, w.applied()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if started != 3 || ended != 3 {
		t.Errorf("%d phases started and %d ended, want 3 of each", started, ended)
	}
}

func TestAPipelineInWhichAllHostsFailIsTheEnd(t *testing.T) {
	w := newWorld()
	two := hosts(t, "h1", "h2")
	_, err := new(workflow.Runner).Run(t.Context(),
		workflow.Pipeline(failing(w.phase("a", two...), "h1", "h2"), w.phase("b", two...)), w.phase("after"))
	if len(messages(err)) != 2 || len(w.applied()) != 0 {
		t.Errorf("%v, applied %v", err, w.applied())
	}
}

func TestPipelineKeepsAPhasesLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := newWorld(), newGate()
		one := g.hold(w.phase("a", hosts(t, "h1", "h2", "h3")...))
		one.Parallel = 1
		done := make(chan error)
		go func() {
			_, err := new(workflow.Runner).Run(t.Context(), workflow.Pipeline(one))
			done <- err
		}()
		for range 3 {
			if n := g.held(); n != 1 {
				t.Errorf("%d hosts are in the phase, want 1", n)
			}
			g.through <- struct{}{}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPipelineOfNoHostsIsDone(t *testing.T) {
	w := newWorld()
	p := w.phase("a", hosts(t, "h1")...)
	p.Hosts = nil
	if _, err := new(workflow.Runner).Run(t.Context(), workflow.Pipeline(p), w.phase("after")); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"after@"}, w.applied()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// messages are the texts of the joined errors.
func messages(err error) []string {
	var texts []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			texts = append(texts, e.Error())
		}
	}
	return texts
}
