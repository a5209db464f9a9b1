package workflow_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/workflow"
)

func TestFailuresStopWhatDependsOnThem(t *testing.T) {
	all := hosts(t, "h1", "h2", "h3")
	tests := []struct {
		name    string
		steps   func(w *world) []workflow.Step
		failed  []string
		applied []string
	}{
		{"a host is left out of later phases", func(w *world) []workflow.Step {
			return []workflow.Step{failing(w.phase("a", all...), "h2"), w.phase("b", all...), w.phase("c")}
		}, []string{"a@h2"}, []string{"a@h1", "a@h3", "b@h1", "b@h3", "c@"}},

		{"hosts fail one after the other", func(w *world) []workflow.Step {
			return []workflow.Step{
				failing(w.phase("a", all...), "h2"), failing(w.phase("b", all...), "h1"), w.phase("c", all...),
			}
		}, []string{"a@h2", "b@h1"}, []string{"a@h1", "a@h3", "b@h3", "c@h3"}},

		{"a phase that fails on all hosts stops the run", func(w *world) []workflow.Step {
			return []workflow.Step{failing(w.phase("a", all...), "h1", "h2", "h3"), w.phase("b"), w.phase("c", all...)}
		}, []string{"a@h1", "a@h2", "a@h3"}, nil},

		{"so does one whose last hosts fail", func(w *world) []workflow.Step {
			return []workflow.Step{failing(w.phase("a", all...), "h1", "h2"), failing(w.phase("b", all...), "h3"), w.phase("c")}
		}, []string{"a@h1", "a@h2", "b@h3"}, []string{"a@h3"}},

		{"a phase without a host that is left stops the run", func(w *world) []workflow.Step {
			return []workflow.Step{failing(w.phase("a", all...), "h1"), w.phase("b", all[0]), w.phase("c")}
		}, []string{"a@h1"}, []string{"a@h2", "a@h3"}},

		{"a phase that fails on the cluster stops the run", func(w *world) []workflow.Step {
			return []workflow.Step{failing(w.phase("a"), ""), w.phase("b", all...)}
		}, []string{"a@"}, nil},

		{"a phase that fails fast is not begun on further hosts, and stops the run", func(w *world) []workflow.Step {
			p := failing(w.phase("a", all...), "h2")
			p.Parallel, p.FailFast = 1, true
			return []workflow.Step{p, w.phase("b", all...)}
		}, []string{"a@h2"}, []string{"a@h1"}},

		{"it does not begin without one of its hosts", func(w *world) []workflow.Step {
			p := w.phase("b", all...)
			p.FailFast = true
			return []workflow.Step{failing(w.phase("a", all...), "h3"), p, w.phase("c", all...)}
		}, []string{"a@h3"}, []string{"a@h1", "a@h2"}},

		{"steps that run in parallel are finished, what follows is not begun", func(w *world) []workflow.Step {
			return []workflow.Step{
				workflow.Parallel(
					workflow.Sequence(failing(w.phase("a"), ""), w.phase("b")),
					workflow.Sequence(w.phase("c"), w.phase("d", all...)),
				),
				w.phase("e"),
			}
		}, []string{"a@"}, []string{"c@", "d@h1", "d@h2", "d@h3"}},

		{"every failure in parallel is kept", func(w *world) []workflow.Step {
			return []workflow.Step{workflow.Parallel(failing(w.phase("a"), ""), failing(w.phase("b", all...), "h1", "h2", "h3"))}
		}, []string{"a@", "b@h1", "b@h2", "b@h3"}, nil},

		{"a skipped phase stops nothing", func(w *world) []workflow.Step {
			return []workflow.Step{failing(w.phase("skipped"), ""), w.phase("b")}
		}, nil, []string{"b@"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			runner := workflow.Runner{}
			steps := tt.steps(w)
			if steps[0].Phases()[0].Name == "skipped" {
				runner.Skip = []string{"skipped"}
			}
			summary, err := runner.Run(t.Context(), steps...)
			if diff := cmp.Diff(tt.failed, phaseErrors(t, err)); diff != "" {
				t.Errorf("failed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.applied, w.applied()); diff != "" {
				t.Errorf("applied (-want +got):\n%s", diff)
			}
			if summary.Changes != len(tt.applied) {
				t.Errorf("%d changes count as made, want %d", summary.Changes, len(tt.applied))
			}
		})
	}
}

func TestCancelStopsTheRun(t *testing.T) {
	t.Run("an Apply that gives up", func(t *testing.T) {
		testCancel(t, func(workflow.Phase, host.Host, []workflow.Change) error { return errBroken })
	})
	t.Run("an Apply that is done all the same", func(t *testing.T) {
		testCancel(t, func(p workflow.Phase, h host.Host, changes []workflow.Change) error {
			return p.Apply(context.Background(), h, changes)
		})
	})
}

// testCancel ends the context while the first host of a phase is in its Apply, which then ends as end says.
func testCancel(t *testing.T, end func(workflow.Phase, host.Host, []workflow.Change) error) {
	synctest.Test(t, func(t *testing.T) {
		all := hosts(t, "h1", "h2")
		cause := errors.New("the operator said stop")
		ctx, cancel := context.WithCancelCause(context.Background())
		w := newWorld()
		a := w.phase("a", all...)
		waits := a
		waits.Parallel = 1 // the other host queues
		applies := 0
		waits.Apply = func(ctx context.Context, _ host.Host, changes []workflow.Change) error {
			applies++
			<-ctx.Done()
			return end(a, all[0], changes)
		}
		done := make(chan error, 1)
		go func() {
			_, err := new(workflow.Runner).Run(ctx, waits, w.phase("b", all...), w.phase("c"))
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("the run ended by itself: %v", err)
		default:
		}
		w.log = nil
		cancel(cause)
		synctest.Wait()
		select {
		case err := <-done:
			if err != cause { //nolint:errorlint // nothing but the cause is wanted
				t.Errorf("the run ends with %v, want only the cause", err)
			}
		default:
			t.Fatal("the run goes on after its context has ended")
		}
		if applies != 1 {
			t.Errorf("a was applied %d times, want the queued host left alone", applies)
		}
		if slices.ContainsFunc(w.log, func(what string) bool { return !strings.Contains(what, " a@") }) {
			t.Errorf("%q was done after the context had ended", w.log)
		}
	})
}

// What a phase waits for is not waited for on a host whose connection has ended: the phase fails with the reason.
func TestAHostThatIsGoneEndsItsWaits(t *testing.T) {
	all := hosts(t, "h1", "h2")
	gone := errors.New("no power")
	waiting := workflow.Phase{
		Name: "wait", Short: "wait", Hosts: all,
		Check: func(context.Context, host.Reader) ([]workflow.Change, error) {
			return []workflow.Change{{Action: workflow.Run, Object: "it", Detail: "wait"}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			if h.Name() == "h1" {
				h.(*hosttest.Fake).Lose(gone)
			} else {
				<-all[0].Alive().Done()
			}
			select {
			case <-ctx.Done():
				return ctx.Err() // as many libraries do
			case <-time.After(time.Minute):
				return errors.New("it was waited for")
			}
		},
	}
	synctest.Test(t, func(t *testing.T) {
		var runner workflow.Runner
		began := time.Now()
		_, err := runner.Run(t.Context(), waiting)
		if got, want := phaseErrors(t, err), []string{"wait@h1", "wait@h2"}; !slices.Equal(got, want) {
			t.Errorf("%q failed: %v", got, err)
		}
		if !errors.Is(err, gone) || errors.Is(err, context.Canceled) {
			t.Errorf("it is not said why: %v", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}
