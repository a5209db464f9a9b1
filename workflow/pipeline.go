package workflow

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/myadm/myadm/host"
)

// lane is one host's way through a pipeline.
type lane struct {
	host     host.Host
	trackers map[string]*tracker // of all lanes, by the name of the phase
	mu       sync.Mutex
	passed   map[string]bool // phases that this lane is done with
}

// pipeline runs every lane to its end, and reports whether any host got through all of it.
func (r *run) pipeline(ctx context.Context, steps []Step) bool {
	trackers := map[string]*tracker{}
	var hosts []host.Host
	for _, p := range collect(steps) {
		trackers[p.Name] = newTracker(p, len(p.Hosts))
		for _, h := range p.Hosts {
			if !slices.ContainsFunc(hosts, func(o host.Host) bool { return o.Name() == h.Name() }) {
				hosts = append(hosts, h)
			}
		}
	}
	good := make([]bool, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		l := &lane{host: h, trackers: trackers, passed: map[string]bool{}}
		// They are put to work here and not each by itself, so that they come in the order of the list.
		if r.hasFailed(h.Name()) || !r.slots.enter(ctx, h) {
			l.end(r)
			continue
		}
		wg.Go(func() {
			defer r.slots.leave(h)
			defer l.end(r)
			good[i] = r.sequence(ctx, steps, l)
		})
	}
	wg.Wait()
	return len(hosts) == 0 || slices.Contains(good, true)
}

// phase takes the lane's host through a phase, if it is one of the phase's.
func (l *lane) phase(ctx context.Context, r *run, p Phase) bool {
	if !l.on(p) {
		return true
	}
	t := l.trackers[p.Name]
	t.begin(r)
	l.mu.Lock()
	l.passed[p.Name] = true
	l.mu.Unlock()
	defer t.leave(r)
	return !r.hasFailed(l.host.Name()) && t.admit(ctx) && t.one(ctx, r, l.host)
}

func (l *lane) on(p Phase) bool {
	return slices.ContainsFunc(p.Hosts, func(h host.Host) bool { return h.Name() == l.host.Name() })
}

// end tells the phases that the lane did not come to that it will not come.
func (l *lane) end(r *run) {
	for name, t := range l.trackers {
		if l.on(t.Phase) && !l.passed[name] {
			t.leave(r)
		}
	}
}

// tracker is a phase under way on several hosts: it is told to have started with the first one, has ended with the last,
// and lets in as many at a time as the phase allows.
type tracker struct {
	Phase
	slots chan struct{}

	mu      sync.Mutex
	started time.Time // zero: no host has come yet
	coming  int       // hosts that have not left
	failed  bool      // on a host
}

func newTracker(p Phase, hosts int) *tracker {
	limit := p.Parallel
	if limit <= 0 {
		limit = max(hosts, 1)
	}
	return &tracker{Phase: p, slots: make(chan struct{}, limit), coming: hosts}
}

func (t *tracker) begin(r *run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started.IsZero() {
		t.started = r.now()
		r.report(Event{Kind: PhaseStarted, Phase: t.Name, Short: t.Short, Hosts: len(t.Hosts)})
	}
}

// leave is called once for every host that was counted, whether it came or not.
func (t *tracker) leave(r *run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.coming--
	if t.coming == 0 && !t.started.IsZero() {
		r.report(Event{Kind: PhaseEnded, Phase: t.Name, Elapsed: r.now().Sub(t.started)})
	}
}

// admit waits for one of the phase's slots; it reports false when ctx ends first, or the phase lets nobody in any more.
func (t *tracker) admit(ctx context.Context) bool {
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	if t.FailFast && t.hasFailed() {
		t.release()
		return false
	}
	return true
}

// release gives an admitted host's slot to the next.
func (t *tracker) release() { <-t.slots }

// one runs the phase on a host that was admitted.
func (t *tracker) one(ctx context.Context, r *run, h host.Host) bool {
	defer t.release()
	good := r.one(ctx, t.Phase, h)
	if !good {
		t.mu.Lock()
		t.failed = true
		t.mu.Unlock()
	}
	return good
}

func (t *tracker) hasFailed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}
