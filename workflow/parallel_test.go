package workflow_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// gate holds every Apply that comes to it until it is let through.
type gate struct {
	mu      sync.Mutex
	waiting int
	through chan struct{}
}

func newGate() *gate { return &gate{through: make(chan struct{})} }

func (g *gate) hold(p workflow.Phase) workflow.Phase {
	apply := p.Apply
	p.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
		g.add(1)
		<-g.through
		g.add(-1)
		return apply(ctx, h, changes)
	}
	return p
}

func (g *gate) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting += n
}

// held waits until nothing moves any more and tells how many stand at the gate.
func (g *gate) held() int {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

func TestWhatRunsAtTheSameTime(t *testing.T) {
	h := hosts(t, "h1", "h2", "h3", "h4", "h5")
	limited := func(w *world, limit int) workflow.Phase {
		p := w.phase("p", h...)
		p.Parallel = limit
		return p
	}
	tests := []struct {
		name  string
		steps func(w *world, g *gate) []workflow.Step
		held  []int // at the gate, after each time that one was let through
	}{
		{"all hosts", func(w *world, g *gate) []workflow.Step {
			return []workflow.Step{g.hold(limited(w, 0))}
		}, []int{5, 4, 3, 2, 1}},
		{"two hosts at a time", func(w *world, g *gate) []workflow.Step {
			return []workflow.Step{g.hold(limited(w, 2))}
		}, []int{2, 2, 2, 2, 1}},
		{"a limit above the number of hosts", func(w *world, g *gate) []workflow.Step {
			return []workflow.Step{g.hold(limited(w, 9))}
		}, []int{5, 4, 3, 2, 1}},
		{"steps follow each other", func(w *world, g *gate) []workflow.Step {
			return []workflow.Step{g.hold(w.phase("a")), g.hold(w.phase("b"))}
		}, []int{1, 1}},
		{"a parallel step", func(w *world, g *gate) []workflow.Step {
			return []workflow.Step{workflow.Parallel(g.hold(w.phase("a")), g.hold(w.phase("b", h...)), g.hold(w.phase("c")))}
		}, []int{7, 6, 5, 4, 3, 2, 1}},
		{"sequences in a parallel step", func(w *world, g *gate) []workflow.Step {
			return []workflow.Step{workflow.Parallel(
				workflow.Sequence(g.hold(w.phase("a")), g.hold(w.phase("b"))),
				workflow.Sequence(g.hold(w.phase("c")), g.hold(w.phase("d"))),
			)}
		}, nil}, // how many wait depends on who is let through; the order is below
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := newWorld(), newGate()
				done := make(chan error, 1)
				go func() {
					_, err := new(workflow.Runner).Run(t.Context(), tt.steps(w, g)...)
					done <- err
				}()
				var held []int
				for n := g.held(); n > 0; n = g.held() {
					held = append(held, n)
					g.through <- struct{}{}
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				if tt.held == nil {
					checkSequences(t, w, held)
				} else if diff := cmp.Diff(tt.held, held); diff != "" {
					t.Errorf("at the gate (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func checkSequences(t *testing.T, w *world, held []int) {
	t.Helper()
	if held[0] != 2 {
		t.Errorf("%d at the gate at first, want the first of each sequence", held[0])
	}
	at := map[string]int{}
	for i, what := range w.log {
		at[what] = i
	}
	for _, pair := range [][2]string{{"a", "b"}, {"c", "d"}} {
		first, second := fmt.Sprintf("apply %s@", pair[0]), fmt.Sprintf("check %s@", pair[1])
		if at[first] >= at[second] {
			t.Errorf("%v: %s is not before %s", w.log, first, second)
		}
	}
}
