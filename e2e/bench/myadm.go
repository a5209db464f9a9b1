package main

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/myadm/myadm/e2e/lab"
)

// phase is one phase of myadm on one host, as myadm's own log tells of it.
type phase struct {
	Name string  `json:"name"`
	Host string  `json:"host"`   // "cluster" for a phase on the cluster itself
	From float64 `json:"from"`   // seconds since myadm's start
	To   float64 `json:"to"`     // likewise
	Text string  `json:"result"` // what it did

	Steps []step `json:"steps,omitempty"` // of which it consisted, one after the other, if it told
}

// step is a part of a phase on one host.
type step struct {
	Name string  `json:"name"`
	From float64 `json:"from"` // seconds, as a phase's
	To   float64 `json:"to"`
}

// phaseLine is how myadm's log tells of a phase: the time, the host, the phase, what it did or has come to, and how long it
// took in seconds until then.
var phaseLine = regexp.MustCompile(`^\d\d:\d\d:\d\d +(\S+) +(\S+) +(.+) \((\d+\.\d)s\)$`)

// The texts of such a line: that of a phase's end, and those that are no step of it.
var (
	phaseEnd  = regexp.MustCompile(`^(ok|done, .*)$`)
	phaseNote = regexp.MustCompile(`^failed$|^warning: |^\S+ [0-9.]+ [KMGT]?i?B of [0-9.]+ [KMGT]?i?B$`)
)

// firstStep is what a phase does before it tells of another step.
const firstStep = "look"

// phasesOf finds the phases in what myadm wrote, in the order in which they began.
func phasesOf(lines []line) []phase {
	type place struct{ host, phase string }
	var phases []phase
	steps := map[place][]step{} // of phases that have not ended
	for _, l := range lines {
		m := phaseLine.FindStringSubmatch(l.text)
		if m == nil {
			continue
		}
		took, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			continue
		}
		at, to, text := place{m[1], m[2]}, l.at.Seconds(), m[3]
		from := max(0, to-took)
		switch {
		case phaseEnd.MatchString(text):
			phases = append(phases, phase{Name: at.phase, Host: at.host, From: from, To: to, Text: text, Steps: endLast(steps[at], to)})
			delete(steps, at)
		case phaseNote.MatchString(text):
		default:
			if len(steps[at]) == 0 {
				steps[at] = []step{{Name: firstStep, From: from}}
			}
			// Of a step that tells how far it has come, such as "drain: 1 of 2 pods gone", the first word is kept.
			name, _, _ := strings.Cut(text, ": ")
			if last := steps[at][len(steps[at])-1]; last.Name != name {
				steps[at] = append(endLast(steps[at], to), step{Name: name, From: to})
			}
		}
	}
	slices.SortStableFunc(phases, func(a, b phase) int { return cmp.Compare(a.From, b.From) })
	return phases
}

// endLast ends the last of the steps, if there is any.
func endLast(steps []step, at float64) []step {
	if len(steps) > 0 {
		steps[len(steps)-1].To = at
	}
	return steps
}

// runMyadm runs myadm on the hosts of the lab. It ends when its nodes are Ready.
func (b *bench) runMyadm(ctx context.Context, args ...string) (times, error) {
	argv := append([]string{b.myadm}, args...)
	lines, took, err := execute(ctx, append(argv, "-f", b.lab.Path(lab.ClusterFile))...)
	return times{end: took, ready: took, phases: phasesOf(lines)}, err
}

func (b *bench) myadmContender() contender {
	runMyadm := func(command string) func(context.Context) (times, error) {
		return func(ctx context.Context) (times, error) { return b.runMyadm(ctx, command, "--bundle", b.bundle) }
	}
	return contender{name: nameMyadm, init: runMyadm("init"), join: runMyadm("join")}
}
