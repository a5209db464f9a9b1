// Package workflow runs phases: steps that say what they would change before they change it. It knows nothing of
// Kubernetes, and hosts only by the seam of package host.
//
// A phase's Check looks at the real state and returns the changes still to be made; none means that the phase is done.
// Apply makes them. Run is Check, Apply and Check again, and so it is also how a run that was killed is taken up: what
// is done is seen to be done, and the rest is made. There is no other memory of what happened.
package workflow

import (
	"context"
	"slices"

	"github.com/myadm/myadm/host"
)

// Action is what a Change does to its object.
type Action string

// The actions.
const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
	Run    Action = "run" // an effect that is no object: a unit started, a module loaded
)

// Change is one thing that a phase has still to do. It is shown to users: it never holds a secret.
type Change struct {
	Action Action `json:"action"`
	Object string `json:"object"`           // what it is about, such as a path, "unit kubelet.service" or "ConfigMap kube-system/coredns"
	Detail string `json:"detail,omitempty"` // why, or what of it

	// Diff is how a file or an object changes, in the unified format, or a note in parentheses on why that is not shown.
	// It is there only if WithDiffs has asked for it, and empty for what has no text, such as a unit or a mode.
	Diff string `json:"diff,omitempty"`
}

// Phase is a step of a workflow. Names are stable: users write them after --skip, --only and `init phase`.
type Phase struct {
	Name  string // kebab-case
	Short string // what it brings about, in a few words

	// Hosts are where it runs, all at once or, where there is something to change, Parallel at a time. A phase on the cluster itself has nil and runs once;
	// its Check and Apply are then given nil. A phase on hosts of which there are none has an empty list, and does not run.
	Hosts    []host.Host
	Parallel int

	// FailFast keeps hosts on which the phase has not begun from beginning once it has failed on another, and ends the run
	// after it: what has failed on one host might fail on all. It does not begin either when an earlier phase has failed on
	// one of its hosts. Within a Pipeline only the first of this holds.
	FailFast bool

	// Check returns what Apply would change. It works on a blank host and without an API server: then everything is
	// still to do.
	Check func(ctx context.Context, r host.Reader) ([]Change, error)

	// Apply makes the changes that Check returned.
	Apply func(ctx context.Context, h host.Host, changes []Change) error
}

// Step is a Phase, or several that Parallel, Sequence, Pipeline, Leading or Ahead joins.
type Step interface {
	// Phases lists the phases in the order in which they are written.
	Phases() []Phase
}

// Phases implements Step.
func (p Phase) Phases() []Phase { return []Phase{p} }

// Parallel is steps that need not wait for each other.
func Parallel(steps ...Step) Step { return parallel(steps) }

// Sequence is steps that follow each other, to be used within Parallel.
func Sequence(steps ...Step) Step { return sequence(steps) }

// Pipeline is steps that each host goes through by itself, without waiting for the other hosts between them. Its phases
// are phases on hosts; a host passes over those that it is not among the hosts of.
func Pipeline(steps ...Step) Step { return pipeline(steps) }

// Leading is steps that others of the same Parallel wait for. A limit on the hosts in work must not keep them from being
// done: their hosts are put to work first and stay so until all of them are done, even if that is more hosts than the limit.
func Leading(steps ...Step) Step { return leading{sequence(steps)} }

type (
	leading  struct{ Step }
	parallel []Step
	sequence []Step
	pipeline []Step
)

func (s parallel) Phases() []Phase { return collect(s) }
func (s sequence) Phases() []Phase { return collect(s) }
func (s pipeline) Phases() []Phase { return collect(s) }

// hosts are those of all phases, each once.
func (s leading) hosts() []host.Host {
	var all []host.Host
	for _, p := range s.Phases() {
		for _, h := range p.Hosts {
			if !slices.ContainsFunc(all, func(o host.Host) bool { return o.Name() == h.Name() }) {
				all = append(all, h)
			}
		}
	}
	return all
}

// places are where the phase runs; nil stands for the cluster itself.
func (p Phase) places() []host.Host {
	if p.Hosts == nil {
		return []host.Host{nil}
	}
	return p.Hosts
}

func collect(steps []Step) []Phase {
	var all []Phase
	for _, s := range steps {
		all = append(all, s.Phases()...)
	}
	return all
}
