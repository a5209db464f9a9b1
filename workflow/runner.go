package workflow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/myadm/myadm/host"
)

// Runner runs steps or plans them. The zero value runs everything and reports nothing.
type Runner struct {
	Only   []string // names of phases; empty: all
	Skip   []string // names of phases to leave out
	Report Reporter // may be nil
	Now    func() time.Time

	// Concurrency is on how many hosts phases are under way at once; zero: on all. Within a Pipeline a host that has begun
	// gets to its end before another one takes its place. What others wait for is a Leading step.
	Concurrency int
}

// PhaseError is an error with the phase and, unless the phase is one on the cluster itself, the host.
type PhaseError struct {
	Phase string
	Host  string
	Err   error
}

func (e *PhaseError) Error() string {
	if e.Host == "" {
		return fmt.Sprintf("%s: %v", e.Phase, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Host, e.Phase, e.Err)
}

func (e *PhaseError) Unwrap() error { return e.Err }

// UnknownPhaseError is a name in Only or Skip that no phase has.
type UnknownPhaseError struct {
	Name  string
	Known []string
}

func (e *UnknownPhaseError) Error() string {
	return fmt.Sprintf("there is no phase %q; hint: the phases are %s", e.Name, strings.Join(e.Known, ", "))
}

// Summary counts what a run did.
type Summary struct {
	Changes int           `json:"changes"` // made, over all phases and hosts
	Elapsed time.Duration `json:"elapsed"` // nanoseconds
}

// Run runs the steps one after the other. A host on which a phase fails is left out of the phases that follow, while
// the others go on. The run stops after a step in which a phase failed on the cluster itself, or on all of its hosts; and
// before and after a FailFast phase if any of its hosts has failed.
// The error holds every failure, as *PhaseError joined by errors.Join.
func (r *Runner) Run(ctx context.Context, steps ...Step) (Summary, error) {
	if err := r.validate(steps); err != nil {
		return Summary{}, err
	}
	run := &run{Runner: r, failed: map[string]bool{}, slots: newSlots(r.Concurrency)}
	start := r.now()
	run.sequence(ctx, steps, nil)
	return Summary{Changes: run.changes, Elapsed: r.now().Sub(start)}, run.error(ctx)
}

func (r *Runner) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

func (r *Runner) validate(steps []Step) error {
	known := map[string]bool{}
	var names []string
	for _, p := range collect(steps) {
		if !known[p.Name] {
			known[p.Name] = true
			names = append(names, p.Name)
		}
	}
	var errs []error
	for _, list := range [][]string{r.Only, r.Skip} {
		for _, name := range list {
			if !known[name] {
				errs = append(errs, &UnknownPhaseError{Name: name, Known: names})
			}
		}
	}
	return errors.Join(errs...)
}

// Selected tells whether a phase of that name would run.
func (r *Runner) Selected(name string) bool {
	if slices.Contains(r.Skip, name) {
		return false
	}
	return len(r.Only) == 0 || slices.Contains(r.Only, name)
}

// run is the state of one Run.
type run struct {
	*Runner
	slots   *slots
	mu      sync.Mutex
	failed  map[string]bool // hosts by name
	errs    []error
	changes int
}

// sequence reports whether what comes after the steps may run. In a lane of a pipeline it is about the lane's host alone.
func (r *run) sequence(ctx context.Context, steps []Step, l *lane) bool {
	for _, s := range steps {
		if ctx.Err() != nil || !r.step(ctx, s, l) {
			return false
		}
	}
	return true
}

func (r *run) step(ctx context.Context, s Step, l *lane) bool {
	switch s := s.(type) {
	case sequence:
		return r.sequence(ctx, s, l)
	case ahead:
		return r.ahead(ctx, s, l)
	case parallel:
		return r.parallel(ctx, s, l)
	case leading:
		r.lead(s)
		return r.led(ctx, s, l)
	case pipeline:
		if l != nil { // the host is on its own way already
			return r.sequence(ctx, s, l)
		}
		return r.pipeline(ctx, s)
	case Phase:
		switch {
		case !r.Selected(s.Name):
			return true
		case l != nil:
			return l.phase(ctx, r, s)
		}
		return r.phase(ctx, s)
	}
	return true
}

func (r *run) parallel(ctx context.Context, steps []Step, l *lane) bool {
	ok := make([]bool, len(steps))
	var wg sync.WaitGroup
	for _, s := range steps {
		if s, ok := s.(leading); ok { // before any of the others takes a slot
			r.lead(s)
		}
	}
	for i, s := range steps {
		wg.Go(func() {
			if s, leads := s.(leading); leads {
				ok[i] = r.led(ctx, s, l)
				return
			}
			ok[i] = r.step(ctx, s, l)
		})
	}
	wg.Wait()
	return !slices.Contains(ok, false)
}

// lead puts the hosts of a leading step to work.
func (r *run) lead(s leading) {
	for _, h := range s.hosts() {
		r.slots.lead(h)
	}
}

// led runs a leading step whose hosts lead has put to work.
func (r *run) led(ctx context.Context, s leading, l *lane) bool {
	defer func() {
		for _, h := range s.hosts() {
			r.slots.leave(h)
		}
	}()
	return r.step(ctx, s.Step, l)
}

func (r *run) phase(ctx context.Context, p Phase) bool {
	hosts := p.places()
	if len(hosts) == 0 {
		return true
	}
	if p.FailFast && slices.ContainsFunc(hosts, func(h host.Host) bool { return h != nil && r.hasFailed(h.Name()) }) {
		return false
	}
	t := newTracker(p, len(hosts))
	t.begin(r)
	good := r.unchanged(ctx, p, hosts)
	var wg sync.WaitGroup
	for i, h := range hosts {
		// They are let in here and not each for itself, so that they come in the order of the list.
		if good[i] || h != nil && r.hasFailed(h.Name()) || !r.slots.enter(ctx, h) {
			t.leave(r)
			continue
		}
		if !t.admit(ctx) {
			r.slots.leave(h)
			t.leave(r)
			continue
		}
		wg.Go(func() {
			defer t.leave(r)
			defer r.slots.leave(h)
			good[i] = t.one(ctx, r, h)
		})
	}
	wg.Wait()
	return slices.Contains(good, true) && !(p.FailFast && t.hasFailed())
}

// unchanged looks at all hosts of a phase at once that is to change only some of them at a time, and tells on which of them
// there is nothing to do: those need not wait for their turn. A look that fails is taken again then.
func (r *run) unchanged(ctx context.Context, p Phase, hosts []host.Host) []bool {
	done := make([]bool, len(hosts))
	if p.Parallel <= 0 || p.Parallel >= len(hosts) {
		return done
	}
	var wg sync.WaitGroup
	for i, h := range hosts {
		if h == nil || r.hasFailed(h.Name()) {
			continue
		}
		if !r.slots.enter(ctx, h) {
			continue
		}
		wg.Go(func() {
			defer r.slots.leave(h)
			start := r.now()
			changes, err := p.Check(ctx, h)
			if done[i] = err == nil && len(changes) == 0; done[i] {
				r.report(Event{Kind: Unchanged, Phase: p.Name, Host: h.Name(), Elapsed: r.now().Sub(start)})
			}
		})
	}
	wg.Wait()
	return done
}

// one takes a phase through Check, Apply and Check on one host, or on the cluster when h is nil.
func (r *run) one(ctx context.Context, p Phase, h host.Host) bool {
	var reader host.Reader // stays a nil interface for a phase on the cluster
	name := ""
	if h != nil {
		reader, name = h, h.Name()
	}
	start := r.now()
	event := func(kind Kind) Event {
		return Event{Kind: kind, Phase: p.Name, Host: name, Elapsed: r.now().Sub(start)}
	}
	ctx = withSink(ctx, func(e Event) {
		e.Phase, e.Host, e.Elapsed = p.Name, name, r.now().Sub(start)
		r.report(e)
	})
	stopped := ctx
	if h != nil { // what waits for something is not to wait for a host that is gone
		var release func()
		ctx, release = whileAlive(ctx, h)
		defer release()
	}
	fail := func(err error) bool {
		if h != nil && stopped.Err() == nil && errors.Is(err, context.Canceled) {
			if gone := context.Cause(h.Alive()); gone != nil {
				err = fmt.Errorf("%w: %v", gone, err) //nolint:errorlint // nobody has stopped the run
			}
		}
		e := event(Failed)
		e.Err = err
		r.report(e)
		r.fail(&PhaseError{Phase: p.Name, Host: name, Err: err})
		return false
	}

	r.report(event(Checking))
	changes, err := p.Check(ctx, reader)
	if err != nil {
		return fail(err)
	}
	if len(changes) == 0 {
		r.report(event(Unchanged))
		return true
	}
	e := event(Applying)
	e.Changes = changes
	r.report(e)
	if err := p.Apply(ctx, h, changes); err != nil {
		return fail(err)
	}
	left, err := p.Check(ctx, reader)
	if err != nil {
		return fail(fmt.Errorf("check what was applied: %w", err))
	}
	if len(left) > 0 {
		return fail(&LeftoverError{Changes: left})
	}
	r.mu.Lock()
	r.changes += len(changes)
	r.mu.Unlock()
	e = event(Applied)
	e.Changes = changes
	r.report(e)
	return true
}

// whileAlive is ctx for as long as a host is alive, until release.
func whileAlive(ctx context.Context, h host.Host) (both context.Context, release func()) {
	both, cancel := context.WithCancelCause(ctx)
	alive := h.Alive()
	stop := context.AfterFunc(alive, func() { cancel(context.Cause(alive)) })
	return both, func() { stop(); cancel(nil) }
}

// LeftoverError is a phase whose Check is not empty after its Apply.
type LeftoverError struct{ Changes []Change }

func (e *LeftoverError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d changes did not last:", len(e.Changes))
	for _, c := range e.Changes {
		fmt.Fprintf(&b, " %s %s", c.Action, c.Object)
		if c.Detail != "" {
			fmt.Fprintf(&b, " (%s)", c.Detail)
		}
		b.WriteByte(';')
	}
	b.WriteString(" hint: something else on the host may undo them; run the command again with -v")
	return b.String()
}

func (r *run) hasFailed(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[name]
}

func (r *run) fail(err *PhaseError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err.Host != "" {
		r.failed[err.Host] = true
	}
	r.errs = append(r.errs, err)
}

func (r *run) report(e Event) {
	if r.Report != nil {
		e.Time = r.now()
		r.Report(e)
	}
}

// error joins what failed. When the run was told to stop, that is the one error: the others only follow from it.
func (r *run) error(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(r.errs...)
}
