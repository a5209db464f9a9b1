package cmd

import (
	"time"

	"github.com/myadm/myadm/workflow"
)

// workView tells of work that is no phase as of one, whose hosts are the work's items.
type workView struct {
	report workflow.Reporter
	name   string // as a phase's
	done   string // what is done to bytes: "sent"
	began  time.Time
}

// newWorkView begins to tell of work on some items.
func newWorkView(report workflow.Reporter, name, done string, items int) *workView {
	v := &workView{report: report, name: name, done: done, began: time.Now()}
	v.tell(workflow.PhaseStarted, func(e *workflow.Event) { e.Hosts = items })
	return v
}

func (v *workView) tell(kind workflow.Kind, fill func(*workflow.Event)) {
	now := time.Now()
	e := workflow.Event{Time: now, Kind: kind, Phase: v.name, Elapsed: now.Sub(v.began)}
	fill(&e)
	v.report(e)
}

// progress tells how many bytes of an item are done.
func (v *workView) progress(item string, done, total int64) {
	v.tell(workflow.Progress, func(e *workflow.Event) { e.Host, e.Message, e.Done, e.Total = item, v.done, done, total })
}

// ended tells that an item is done, and by which changes.
func (v *workView) ended(item string, changes ...workflow.Change) {
	kind := workflow.Unchanged
	if len(changes) > 0 {
		kind = workflow.Applied
	}
	v.tell(kind, func(e *workflow.Event) { e.Host, e.Changes = item, changes })
}

// failed tells that an item is not.
func (v *workView) failed(item string) {
	v.tell(workflow.Failed, func(e *workflow.Event) { e.Host = item })
}

// end tells that there is no more to do.
func (v *workView) end() { v.tell(workflow.PhaseEnded, func(*workflow.Event) {}) }
