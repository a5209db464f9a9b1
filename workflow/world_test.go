package workflow_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/workflow"
)

var errBroken = errors.New("broken")

// world is a state that phases bring about: one object for every phase and host, and the order in which the phases were
// asked and told to make them.
type world struct {
	mu   sync.Mutex
	made map[string]bool
	log  []string // "check|apply PHASE@HOST"; the host of the cluster itself is empty
}

func newWorld() *world { return &world{made: map[string]bool{}} }

// phase makes the object PHASE@HOST on every host, or PHASE@ on the cluster when there is none.
func (w *world) phase(name string, hosts ...host.Host) workflow.Phase {
	return workflow.Phase{
		Name:  name,
		Short: "make " + name,
		Hosts: hosts,
		Check: func(_ context.Context, r host.Reader) ([]workflow.Change, error) {
			object := objectOf(name, r)
			w.note("check " + object)
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.made[object] {
				return nil, nil
			}
			return []workflow.Change{{Action: workflow.Create, Object: object}}, nil
		},
		Apply: func(_ context.Context, h host.Host, changes []workflow.Change) error {
			w.note("apply " + objectOf(name, h))
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, c := range changes {
				w.made[c.Object] = true
			}
			return nil
		},
	}
}

func objectOf(name string, r host.Reader) string {
	if r == nil {
		return name + "@"
	}
	return name + "@" + r.Name()
}

func (w *world) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, what)
}

// applied lists the objects that were made, by name.
func (w *world) applied() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.made))
}

// failing is the phase with an Apply that fails on the named hosts; "" is the cluster itself.
func failing(p workflow.Phase, hosts ...string) workflow.Phase {
	apply := p.Apply
	p.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
		name := ""
		if h != nil {
			name = h.Name()
		}
		if slices.Contains(hosts, name) {
			return errBroken
		}
		return apply(ctx, h, changes)
	}
	return p
}

func hosts(t testing.TB, names ...string) []host.Host {
	all := make([]host.Host, len(names))
	for i, name := range names {
		all[i] = hosttest.New(t, name)
	}
	return all
}

// phaseErrors are the parts of a run's error, as PHASE@HOST, in order.
func phaseErrors(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T %v is not joined of errors", err, err)
	}
	var where []string
	for _, e := range joined.Unwrap() {
		var phase *workflow.PhaseError
		if !errors.As(e, &phase) {
			t.Fatalf("%T %v is no PhaseError", e, e)
		}
		where = append(where, phase.Phase+"@"+phase.Host)
	}
	slices.Sort(where)
	return where
}
