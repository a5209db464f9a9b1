package workflow

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/myadm/myadm/host"
)

// Plan is what a run would change.
type Plan struct {
	Phases []PhasePlan `json:"phases"`
}

// PhasePlan is a phase's part of a Plan, in the order of the steps.
type PhasePlan struct {
	Name  string     `json:"name"`
	Hosts []HostPlan `json:"hosts"`
}

// HostPlan is what a phase would change on one host; the host is empty for a phase on the cluster itself.
type HostPlan struct {
	Host     string   `json:"host,omitempty"`
	Changes  []Change `json:"changes"`
	Warnings []string `json:"warnings,omitempty"` // what Check has told by Warn
}

// Changes counts the changes of the plan.
func (p Plan) Changes() int {
	n := 0
	for _, phase := range p.Phases {
		for _, h := range phase.Hosts {
			n += len(h.Changes)
		}
	}
	return n
}

// once leaves out what an earlier phase would have changed by then: phases that follow each other find the same to do while
// none of them has run.
func (p Plan) once() {
	type key struct {
		host   string
		action Action
		object string
	}
	seen := map[key]bool{}
	for _, phase := range p.Phases {
		for i, h := range phase.Hosts {
			phase.Hosts[i].Changes = slices.DeleteFunc(h.Changes, func(c Change) bool {
				k := key{h.Host, c.Action, c.Object}
				was := seen[k]
				seen[k] = true
				return was
			})
		}
	}
}

// Plan checks every selected phase on every host, all at once but for Concurrency, and changes nothing.
func (r *Runner) Plan(ctx context.Context, steps ...Step) (Plan, error) {
	if err := r.validate(steps); err != nil {
		return Plan{}, err
	}
	var plan Plan
	slots := newSlots(r.Concurrency)
	var wg sync.WaitGroup
	var failed [][]error // in the plan's order
	for _, p := range collect(steps) {
		hosts := p.places()
		if len(hosts) == 0 || !r.Selected(p.Name) {
			continue
		}
		entries, errs := make([]HostPlan, len(hosts)), make([]error, len(hosts))
		failed = append(failed, errs)
		plan.Phases = append(plan.Phases, PhasePlan{Name: p.Name, Hosts: entries})
		for i, h := range hosts {
			wg.Go(func() {
				if !slots.enter(ctx, h) {
					return
				}
				defer slots.leave(h)
				var reader host.Reader
				if h != nil {
					reader, entries[i].Host = h, h.Name()
				}
				var mu sync.Mutex // a Check may look at several things at once
				checking := withSink(ctx, func(e Event) {
					mu.Lock()
					defer mu.Unlock()
					if e.Kind == Warning {
						entries[i].Warnings = append(entries[i].Warnings, e.Message)
					}
				})
				changes, err := p.Check(checking, reader)
				entries[i].Changes = append([]Change{}, changes...) // in JSON a list, also when it is empty
				if err != nil {
					errs[i] = &PhaseError{Phase: p.Name, Host: entries[i].Host, Err: err}
				}
			})
		}
	}
	wg.Wait()
	plan.once()
	if ctx.Err() != nil {
		return Plan{}, context.Cause(ctx)
	}
	return plan, errors.Join(slices.Concat(failed...)...)
}
