package main

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"

	"github.com/myadm/myadm/e2e/lab"
)

// phase is one phase of myadm on one host, as myadm's own log tells of it.
type phase struct {
	Name string  `json:"name"`
	Host string  `json:"host"`   // "cluster" for a phase on the cluster itself
	From float64 `json:"from"`   // seconds since myadm's start
	To   float64 `json:"to"`     // likewise
	Text string  `json:"result"` // what it did
}

// phaseLine is how myadm's log tells of the end of a phase: the time, the host, the phase, what it did and how long it
// took in seconds.
var phaseLine = regexp.MustCompile(`^\d\d:\d\d:\d\d +(\S+) +(\S+) +(ok|done, .*) \((\d+\.\d)s\)$`)

// phasesOf finds the phases in what myadm wrote, in the order in which they began.
func phasesOf(lines []line) []phase {
	var phases []phase
	for _, l := range lines {
		m := phaseLine.FindStringSubmatch(l.text)
		if m == nil {
			continue
		}
		took, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			continue
		}
		to := l.at.Seconds()
		phases = append(phases, phase{Name: m[2], Host: m[1], From: max(0, to-took), To: to, Text: m[3]})
	}
	slices.SortStableFunc(phases, func(a, b phase) int { return cmp.Compare(a.From, b.From) })
	return phases
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
