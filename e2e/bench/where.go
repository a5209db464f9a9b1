package main

import (
	"cmp"
	"slices"
)

// span is a part of a run, in seconds since its start.
type span struct{ from, to float64 }

// spent is how long something kept a run busy, on whichever hosts, in seconds. What was done on several hosts at the same
// time counts once.
type spent struct {
	name    string
	seconds float64
	parts   []spent // of which it consisted
}

// whereTimeGoes sums up phases by name, in the order in which they first began, each with its steps.
func whereTimeGoes(phases []phase) []spent {
	var sums []spent
	for _, name := range names(phases, func(p phase) string { return p.Name }) {
		var spans []span
		var steps []step
		for _, p := range phases {
			if p.Name == name {
				spans = append(spans, span{p.From, p.To})
				steps = append(steps, p.Steps...)
			}
		}
		sum := spent{name: name, seconds: covered(spans)}
		for _, part := range names(steps, func(s step) string { return s.Name }) {
			var spans []span
			for _, s := range steps {
				if s.Name == part {
					spans = append(spans, span{s.From, s.To})
				}
			}
			sum.parts = append(sum.parts, spent{name: part, seconds: covered(spans)})
		}
		sums = append(sums, sum)
	}
	return sums
}

// names are the different names of a list, in its order.
func names[T any](list []T, name func(T) string) []string {
	var all []string
	for _, item := range list {
		if n := name(item); !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

// covered is how many seconds are in at least one of the spans.
func covered(spans []span) float64 {
	sorted := slices.SortedFunc(slices.Values(spans), func(a, b span) int { return cmp.Compare(a.from, b.from) })
	total, until := 0.0, 0.0
	for _, s := range sorted {
		total += max(0, s.to-max(s.from, until))
		until = max(until, s.to)
	}
	return total
}

// where prints where the time of a series' phases went. They are of one run.
func (p *printer) where(s series) {
	if len(s.Phases) == 0 {
		return
	}
	var spans []span
	for _, f := range s.Phases {
		spans = append(spans, span{f.From, f.To})
	}
	p.line("\n%s, %s: where %.1f s went", s.What, s.Tool, covered(spans))
	for _, sum := range whereTimeGoes(s.Phases) {
		p.line("%8.1f  %s", sum.seconds, sum.name)
		for _, part := range sum.parts {
			p.line("%8.1f    %s", part.seconds, part.name)
		}
	}
}
