package workflow

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/myadm/myadm/host"
)

// Ahead is steps of which all are looked at when the first one begins, at the same time. Where a look has found nothing to
// do, and nothing has been applied since, a Check in its turn would find the same, and is not made again: steps that find
// nothing to do take the time of the slowest Check among them and not of all. What is to be done is looked at again right
// before it is, and from the first Apply on the looks count for nothing.
func Ahead(steps ...Step) Step { return ahead(steps) }

type ahead []Step

func (s ahead) Phases() []Phase { return collect(s) }

// ahead runs the steps with Checks that know what the looks have seen.
func (r *run) ahead(ctx context.Context, steps []Step, l *lane) bool {
	looking, stop := context.WithCancel(ctx)
	v := &view{run: r, stop: stop}
	defer v.looks.Wait()
	defer stop()
	return r.sequence(ctx, v.steps(looking, steps), l)
}

// view is what looks see of a state that nothing has been applied to.
type view struct {
	run     *run
	looks   sync.WaitGroup
	stop    context.CancelFunc // ends the looks
	changed atomic.Bool        // something is being applied, or was: what was seen is of the past
}

// look is one Check that was made before its turn.
type look struct {
	done   chan struct{} // closed when what follows is set
	clear  bool          // it has found nothing to do; else it is made again
	events []Event       // that it gave: they are told in its turn
}

// steps are the same steps with phases that use the looks.
func (v *view) steps(ctx context.Context, steps []Step) []Step {
	all := make([]Step, len(steps))
	for i, s := range steps {
		switch s := s.(type) {
		case Phase:
			all[i] = v.phase(ctx, s)
		case sequence:
			all[i] = sequence(v.steps(ctx, s))
		case parallel:
			all[i] = parallel(v.steps(ctx, s))
		case pipeline:
			all[i] = pipeline(v.steps(ctx, s))
		case leading:
			all[i] = leading{v.steps(ctx, []Step{s.Step})[0]}
		case ahead:
			all[i] = sequence(v.steps(ctx, s))
		default:
			all[i] = s
		}
	}
	return all
}

// phase begins the looks of a phase.
func (v *view) phase(ctx context.Context, p Phase) Phase {
	if !v.run.Selected(p.Name) {
		return p
	}
	check, apply := p.Check, p.Apply
	looks := map[string]*look{} // by host; "" is the cluster itself
	for _, h := range p.places() {
		l, name := &look{done: make(chan struct{})}, ""
		if h != nil {
			name = h.Name()
		}
		looks[name] = l
		v.looks.Go(func() {
			defer close(l.done)
			if !v.run.slots.enter(ctx, h) {
				return
			}
			defer v.run.slots.leave(h)
			var reader host.Reader
			if h != nil {
				reader = h
			}
			var mu sync.Mutex
			changes, err := check(withSink(ctx, func(e Event) {
				mu.Lock()
				defer mu.Unlock()
				l.events = append(l.events, e)
			}), reader)
			l.clear = err == nil && len(changes) == 0
		})
	}
	p.Check = func(ctx context.Context, r host.Reader) ([]Change, error) {
		name := ""
		if r != nil {
			name = r.Name()
		}
		if l := looks[name]; v.clear(ctx, l) {
			for _, e := range l.events {
				emit(ctx, e)
			}
			return nil, nil
		}
		return check(ctx, r)
	}
	p.Apply = func(ctx context.Context, h host.Host, changes []Change) error {
		v.changed.Store(true)
		v.stop()
		return apply(ctx, h, changes)
	}
	return p
}

// clear waits for a look, and tells whether there is still nothing to do.
func (v *view) clear(ctx context.Context, l *look) bool {
	if v.changed.Load() {
		return false
	}
	select {
	case <-l.done:
		return l.clear && !v.changed.Load()
	case <-ctx.Done():
		return false
	}
}
