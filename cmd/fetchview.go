package cmd

import (
	"sync"
	"time"

	"github.com/myadm/myadm/fetch"
	"github.com/myadm/myadm/workflow"
)

// fetchView tells of what is fetched as of a phase whose hosts are the items.
type fetchView struct {
	report workflow.Reporter
	began  time.Time
	mu     sync.Mutex
	ended  map[string]bool
	closed bool
}

func newFetchView(report workflow.Reporter) *fetchView {
	return &fetchView{report: report, began: time.Now(), ended: map[string]bool{}}
}

// close ends the view: what is told later is not shown.
func (v *fetchView) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
}

func (v *fetchView) tell(e fetch.Event) {
	const phase = "fetch"
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	done, known := v.ended[e.Item]
	now := time.Now()
	event := func(kind workflow.Kind) workflow.Event {
		return workflow.Event{Time: now, Kind: kind, Phase: phase, Host: e.Item, Elapsed: now.Sub(v.began), Message: "fetched", Done: e.Done, Total: e.Total}
	}
	if !known {
		v.ended[e.Item] = false
		start := event(workflow.PhaseStarted)
		start.Hosts, start.Short = 1, "fetch binaries and images"
		v.report(start)
	}
	switch {
	case done:
	case e.Total > 0 && e.Done >= e.Total:
		v.ended[e.Item] = true
		applied := event(workflow.Applied)
		applied.Changes = []workflow.Change{{Action: workflow.Create, Object: e.Item}}
		v.report(applied)
		v.report(event(workflow.PhaseEnded))
	case e.Total > 0:
		v.report(event(workflow.Progress))
	}
}
