// Package timeline draws a run as a page: a row for each host and one for the cluster itself, a bar for each phase, over
// time. It is made to find the slow part: which phase, on which host, and what the end of the run was waiting for.
//
// It is pure: events in, HTML out. The page needs nothing from anywhere: style and script are within it, it can be printed,
// and it follows the reader's choice of light or dark.
package timeline

import (
	"cmp"
	"slices"
	"time"

	"github.com/myadm/myadm/workflow"
)

// Here is the Host of events of work that myadm did on the machine where it runs.
const Here = "(myadm)"

// Result is how a run has ended.
type Result string

// The results. The zero value is Done.
const (
	Done        Result = ""
	Failed      Result = "failed"
	Interrupted Result = "interrupted"
)

// Run is what the page says of a run besides its events.
type Run struct {
	Command string // such as "myadm apply"
	Version string // of myadm
	Began   time.Time
	Ended   time.Time
	Result  Result
	Mask    func(string) string // takes secrets out of errors and messages; nil: there are none
}

// outcome is how a span has ended.
type outcome string

const (
	unchanged outcome = "unchanged"
	changed   outcome = "changed"
	failed    outcome = "failed"
	cut       outcome = "cut" // the run ended first
)

// span is a phase on a host.
type span struct {
	phase, host  string
	short        string        // what the phase brings about
	began        time.Duration // since the run began, as are the next two
	applied      time.Duration // when changes began to be made; zero: none were
	ended        time.Duration
	changes      int
	outcome      outcome
	err          string
	told         []string // what it came to, in order
	onChain      bool
	waitedBefore time.Duration // on the chain: between the span before and this one
}

func (s *span) took() time.Duration { return s.ended - s.began }

// maxTold is how many messages of a span are shown.
const maxTold = 20

// spansOf makes spans of events, in the order in which they began.
func spansOf(run Run, events []workflow.Event) []*span {
	mask := run.Mask
	if mask == nil {
		mask = func(s string) string { return s }
	}
	since := func(at time.Time) time.Duration { return max(at.Sub(run.Began), 0) }
	type place struct{ phase, host string }
	shorts := map[string]string{}
	open := map[place]*span{}
	var spans []*span
	for _, e := range events {
		at := place{e.Phase, e.Host}
		s := open[at]
		switch e.Kind {
		case workflow.PhaseStarted:
			shorts[e.Phase] = e.Short
			continue
		case workflow.PhaseEnded:
			continue
		case workflow.Checking:
			s = &span{phase: e.Phase, host: e.Host, short: shorts[e.Phase], began: since(e.Time)}
			open[at] = s
			spans = append(spans, s)
			continue
		}
		if s == nil {
			continue
		}
		switch e.Kind {
		case workflow.Applying:
			s.applied = max(since(e.Time), 1)
		case workflow.Doing, workflow.Warning:
			if len(s.told) < maxTold {
				s.told = append(s.told, mask(e.Message))
			}
		case workflow.Unchanged:
			s.outcome, s.ended = unchanged, since(e.Time)
			delete(open, at)
		case workflow.Applied:
			s.outcome, s.ended, s.changes = changed, since(e.Time), len(e.Changes)
			delete(open, at)
		case workflow.Failed:
			s.outcome, s.ended = failed, since(e.Time)
			if e.Err != nil {
				s.err = mask(e.Err.Error())
			}
			delete(open, at)
		}
	}
	for _, s := range open {
		s.outcome, s.ended = cut, max(since(run.Ended), s.began)
	}
	slices.SortStableFunc(spans, func(a, b *span) int { return cmp.Compare(a.began, b.began) })
	return spans
}

// chain finds what the end of the run was waiting for, from its beginning on: the span that ended last, before it the one
// whose end it began after most closely, and so on. A phase begins when what it waits for has ended, so this is the chain
// that a faster run must shorten; events do not say what waits for what, so a neighbour in time may stand in for it.
func chain(spans []*span) []*span {
	var last *span
	for _, s := range spans {
		if last == nil || s.ended > last.ended {
			last = s
		}
	}
	var links []*span
	for s := last; s != nil; {
		s.onChain = true
		links = append(links, s)
		var before *span
		for _, o := range spans {
			if o.onChain || o.ended > s.began || o.began >= s.began {
				continue
			}
			if before == nil || closer(o, before, s) {
				before = o
			}
		}
		s.waitedBefore = s.began
		if before != nil {
			s.waitedBefore = s.began - before.ended
		}
		s = before
	}
	slices.Reverse(links)
	return links
}

// atOnce is how far apart ends may be to count as the same moment.
const atOnce = 5 * time.Millisecond

// closer tells whether a, and not b, is what s was waiting for: it ended later or, at the same moment, was on the same host,
// or else took longer.
func closer(a, b, s *span) bool {
	if d := a.ended - b.ended; d > atOnce || d < -atOnce {
		return d > 0
	}
	if (a.host == s.host) != (b.host == s.host) {
		return a.host == s.host
	}
	return a.took() > b.took()
}

// total is a phase over all hosts.
type total struct {
	phase, short string
	spans        []*span
	took         time.Duration // in which it was under way on any host
	until        time.Duration // the last end so far
	slowest      *span
}

// median is the time that half of the hosts took at most.
func (t *total) median() time.Duration {
	times := make([]time.Duration, len(t.spans))
	for i, s := range t.spans {
		times[i] = s.took()
	}
	slices.Sort(times)
	return times[(len(times)-1)/2]
}

// totals are the phases, the longest first.
func totals(spans []*span) []*total {
	byPhase := map[string]*total{}
	var all []*total
	for _, s := range spans {
		t := byPhase[s.phase]
		if t == nil {
			t = &total{phase: s.phase, short: s.short, slowest: s}
			byPhase[s.phase] = t
			all = append(all, t)
		}
		t.spans = append(t.spans, s)
		if s.ended > t.until { // spans come in the order in which they began
			t.took += s.ended - max(s.began, t.until)
			t.until = s.ended
		}
		if s.took() > t.slowest.took() {
			t.slowest = s
		}
	}
	slices.SortStableFunc(all, func(a, b *total) int { return cmp.Compare(b.took, a.took) })
	return all
}

// lanes places a host's spans into as few lines as their overlaps allow, in order of beginning.
func lanes(spans []*span) [][]*span {
	var all [][]*span
	for _, s := range spans {
		placed := false
		for i, lane := range all {
			if lane[len(lane)-1].ended <= s.began {
				all[i], placed = append(lane, s), true
				break
			}
		}
		if !placed {
			all = append(all, []*span{s})
		}
	}
	return all
}
