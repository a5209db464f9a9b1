package cmd

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/workflow"
)

// selection is the flags that pick phases.
type selection struct {
	only, skip      []string
	ignorePreflight []string
	timeout         time.Duration
	concurrency     uint // hosts in work at once; zero: all
}

func (s *selection) register(cmd *cobra.Command) {
	s.registerNames(cmd)
	s.registerIgnore(cmd)
	f := cmd.Flags()
	f.DurationVar(&s.timeout, "timeout", 4*time.Minute, "limit for the control plane to become healthy, and for a node to become Ready")
}

func (s *selection) registerIgnore(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&s.ignorePreflight, "ignore-preflight-errors", nil, "`names` of preflight findings that are not to stop the run; all for every one")
}

// registerConcurrency is for commands that act on many hosts.
func (s *selection) registerConcurrency(cmd *cobra.Command) {
	cmd.Flags().UintVar(&s.concurrency, "concurrency", 0, "`number` of hosts to connect to and to work on at once; 0 for all")
}

// registerNames adds the flags that name phases, and no others.
func (s *selection) registerNames(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&s.only, "only", nil, "run these `phases` only")
	f.StringSliceVar(&s.skip, "skip", nil, "leave these `phases` out")
}

// placesVersion tells whether any of the phases would run that make something of the Kubernetes version: in a cluster of
// another one they would upgrade a part of it.
func (s *selection) placesVersion() bool {
	runner := workflow.Runner{Only: s.only, Skip: s.skip}
	return slices.ContainsFunc([]string{"runtime", "binaries", "images", "etcd", "control-plane", "upload-config", "addons"}, runner.Selected)
}

// sends tells whether any of the phases that send binaries and images to hosts would run.
func (s *selection) sends() bool {
	runner := workflow.Runner{Only: s.only, Skip: s.skip}
	return slices.ContainsFunc([]string{"runtime", "binaries", "images"}, runner.Selected)
}

// recorder keeps the events that end a phase on a host.
type recorder struct {
	mu   sync.Mutex
	ends []workflow.Event
}

func (r *recorder) note(e workflow.Event) {
	switch e.Kind {
	case workflow.Unchanged, workflow.Applied, workflow.Failed:
		e.Changes = nil // they may be large
		r.mu.Lock()
		r.ends = append(r.ends, e)
		r.mu.Unlock()
	}
}

// runSteps runs a workflow and tells of it on Err.
func runSteps(ctx context.Context, streams Streams, s selection, verbose bool, steps []workflow.Step) (workflow.Summary, error) {
	report, done := newReporter(streams, verbose)
	var run recorder
	runner := workflow.Runner{Only: s.only, Skip: s.skip, Concurrency: int(s.concurrency), Report: func(e workflow.Event) {
		run.note(e)
		report(e)
	}}
	summary, err := runner.Run(ctx, steps...)
	done()
	streams.journal.ended(runner.Outcomes(run.ends, steps...)...)
	if lostLock(ctx, nil) != nil {
		return summary, lostLock(ctx, err)
	}
	if ctx.Err() != nil {
		return summary, fmt.Errorf("stopped; hint: run the same command again to carry on")
	}
	return summary, err
}
