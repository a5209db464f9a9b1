package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// desk counts the hosts that are being worked on.
type desk struct {
	mu   sync.Mutex
	on   map[string]int // phases under way, by host
	most int            // hosts at once
}

func newDesk() *desk { return &desk{on: map[string]int{}} }

// watch counts a phase's hosts, each for as long as its Check and its Apply run.
func (d *desk) watch(p workflow.Phase) workflow.Phase {
	check, apply := p.Check, p.Apply
	p.Check = func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
		if r != nil {
			defer d.enter(r.Name())()
		}
		return check(ctx, r)
	}
	p.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
		if h != nil {
			defer d.enter(h.Name())()
		}
		return apply(ctx, h, changes)
	}
	return p
}

func (d *desk) enter(name string) (leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on[name]++
	d.most = max(d.most, len(d.on))
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.on[name]--; d.on[name] == 0 {
			delete(d.on, name)
		}
	}
}

func TestConcurrencyLimitsTheHostsInWork(t *testing.T) {
	h := hosts(t, "h1", "h2", "h3", "h4", "h5")
	tests := []struct {
		name  string
		limit int
		steps func(on func(name string, hosts ...host.Host) workflow.Phase) []workflow.Step
		held  int // phases under way at first, when none can end
	}{
		{"no limit", 0, func(on func(string, ...host.Host) workflow.Phase) []workflow.Step {
			return []workflow.Step{on("a", h...)}
		}, 5},
		{"a negative one is none", -1, func(on func(string, ...host.Host) workflow.Phase) []workflow.Step {
			return []workflow.Step{on("a", h...)}
		}, 5},
		{"a phase", 2, func(on func(string, ...host.Host) workflow.Phase) []workflow.Step {
			return []workflow.Step{on("a", h...), on("b", h...)}
		}, 2},
		{"a limit above the number of hosts", 9, func(on func(string, ...host.Host) workflow.Phase) []workflow.Step {
			return []workflow.Step{on("a", h...)}
		}, 5},
		{"a phase's own limit is the lower one", 3, func(on func(string, ...host.Host) workflow.Phase) []workflow.Step {
			p := on("a", h...)
			p.Parallel = 2
			return []workflow.Step{p}
		}, 2},
		{"phases of a host at the same time count once", 2, func(on func(string, ...host.Host) workflow.Phase) []workflow.Step {
			return []workflow.Step{workflow.Pipeline(workflow.Parallel(on("a", h...), on("b", h...), on("c", h...)))}
		}, 6},
		{"branches share the limit", 3, func(on func(string, ...host.Host) workflow.Phase) []workflow.Step {
			return []workflow.Step{workflow.Parallel(on("a", h[:2]...), workflow.Pipeline(on("b", h[2:]...)))}
		}, 3},
		{"the cluster itself takes no place", 1, func(on func(string, ...host.Host) workflow.Phase) []workflow.Step {
			return []workflow.Step{workflow.Parallel(on("a"), on("b"), on("c", h...))}
		}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g, d := newWorld(), newGate(), newDesk()
				steps := tt.steps(func(name string, hosts ...host.Host) workflow.Phase {
					return d.watch(g.hold(w.phase(name, hosts...)))
				})
				done := make(chan error, 1)
				go func() {
					runner := workflow.Runner{Concurrency: tt.limit}
					_, err := runner.Run(t.Context(), steps...)
					done <- err
				}()
				if n := g.held(); n != tt.held {
					t.Errorf("%d phases are under way at first, want %d", n, tt.held)
				}
				close(g.through)
				if err := <-done; err != nil {
					t.Error(err)
				}
				if tt.limit > 0 && d.most > tt.limit {
					t.Errorf("%d hosts were in work at once", d.most)
				}
				want := 0
				for _, p := range workflow.Parallel(steps...).Phases() {
					want += max(len(p.Hosts), 1)
				}
				if got := len(w.applied()); got != want {
					t.Errorf("%d of %d were made", got, want)
				}
			})
		})
	}
}

// A host that has begun its way through a pipeline is finished before another one begins, in the list's order.
func TestConcurrencyFinishesHostsOfAPipeline(t *testing.T) {
	w := newWorld()
	three := hosts(t, "h1", "h2", "h3")
	runner := workflow.Runner{Concurrency: 1}
	if _, err := runner.Run(t.Context(), workflow.Pipeline(w.phase("a", three...), w.phase("b", three...))); err != nil {
		t.Fatal(err)
	}
	var applied []string
	for _, what := range w.log {
		var object string
		if n, _ := fmt.Sscanf(what, "apply %s", &object); n == 1 {
			applied = append(applied, object)
		}
	}
	if diff := cmp.Diff([]string{"a@h1", "b@h1", "a@h2", "b@h2", "a@h3", "b@h3"}, applied); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What others wait for goes first, from its beginning to its end, even where they would take the only place.
func TestLeadingStepsAreNotHeldUpByThoseThatWaitForThem(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 9} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, d := newWorld(), newDesk()
				all := hosts(t, "h1", "h2", "founder", "h3")
				founder, others := all[2], slices.Concat(all[:2], all[3:])
				started := make(chan struct{})
				last := w.phase("started", founder)
				apply := last.Apply
				last.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
					close(started)
					return apply(ctx, h, changes)
				}
				arrive := w.phase("arrive", others...)
				arriving := arrive.Apply
				arrive.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
					<-started
					return arriving(ctx, h, changes)
				}
				runner := workflow.Runner{Concurrency: limit}
				_, err := runner.Run(t.Context(),
					d.watch(w.phase("before", all...)),
					workflow.Parallel(
						workflow.Leading(d.watch(w.phase("found", founder)), w.phase("cluster"), d.watch(last)),
						workflow.Pipeline(d.watch(w.phase("prepare", others...)), d.watch(arrive)),
					),
					d.watch(w.phase("after", all...)))
				if err != nil {
					t.Error(err)
				}
				if got := len(w.applied()); got != 4+3+3+1+1+1+4 {
					t.Errorf("made only %v", w.applied())
				}
				if d.most > limit {
					t.Errorf("%d hosts were in work at once", d.most)
				}
			})
		})
	}
}

// Leading steps on more hosts than the limit are done all the same, and by themselves they are a sequence.
func TestLeadingStepsPastTheLimit(t *testing.T) {
	w := newWorld()
	two := hosts(t, "h1", "h2")
	runner := workflow.Runner{Concurrency: 1}
	if _, err := runner.Run(t.Context(), workflow.Leading(w.phase("a", two...), w.phase("b", two[0])), w.phase("c", two...)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a@h1", "a@h2", "b@h1", "c@h1", "c@h2"}, w.applied()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Hosts that wait for their place are given up at once when the run is told to stop, and every phase that began ends.
func TestConcurrencyStopsWithTheRun(t *testing.T) {
	for name, step := range map[string]func(p workflow.Phase) workflow.Step{
		"a phase":    func(p workflow.Phase) workflow.Step { return p },
		"a pipeline": func(p workflow.Phase) workflow.Step { return workflow.Pipeline(p) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				three := hosts(t, "h1", "h2", "h3")
				p := w.phase("a", three...)
				p.Apply = func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
					<-ctx.Done()
					return context.Cause(ctx)
				}
				stop := errors.New("stop")
				ctx, cancel := context.WithCancelCause(t.Context())
				events := map[workflow.Kind]int{}
				var mu sync.Mutex
				runner := workflow.Runner{Concurrency: 1, Report: func(e workflow.Event) {
					mu.Lock()
					defer mu.Unlock()
					events[e.Kind]++
				}}
				done := make(chan error, 1)
				go func() {
					_, err := runner.Run(ctx, step(p), w.phase("b", three...))
					done <- err
				}()
				synctest.Wait()
				cancel(stop)
				if err := <-done; !errors.Is(err, stop) {
					t.Errorf("the run ended with %v", err)
				}
				if events[workflow.PhaseStarted] != 1 || events[workflow.PhaseEnded] != 1 || events[workflow.Failed] != 1 {
					t.Errorf("events %v, want one host to have begun and the phase to have ended", events)
				}
			})
		})
	}
}

func TestPlanKeepsTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(), newDesk()
		five := hosts(t, "h1", "h2", "h3", "h4", "h5")
		look := make(chan struct{})
		slow := func(p workflow.Phase) workflow.Phase {
			check := p.Check
			p.Check = func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
				<-look
				return check(ctx, r)
			}
			return d.watch(p)
		}
		runner := workflow.Runner{Concurrency: 2}
		var plan workflow.Plan
		done := make(chan error, 1)
		go func() {
			var err error
			plan, err = runner.Plan(t.Context(), slow(w.phase("a", five...)), slow(w.phase("b", five...)))
			done <- err
		}()
		synctest.Wait() // all that may begin has begun
		close(look)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if plan.Changes() != 10 || d.most != 2 {
			t.Errorf("%d changes are planned, want 10; %d hosts were looked at at once, want 2", plan.Changes(), d.most)
		}
	})
}
