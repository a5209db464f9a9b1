package cmd

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/myadm/myadm/workflow"
)

// liveView is a terminal's view of a run: a line for every phase that runs, which stays as what has become of it when it has
// ended, above those that still run. The cursor is never hidden and no mode of the terminal changed, so that a run that is
// ended at any moment leaves nothing to put right.
type liveView struct {
	verbose bool
	pool    *mpb.Progress
	mu      sync.Mutex
	phases  map[string]*livePhase
}

// livePhase is a phase's line.
type livePhase struct {
	bar     *mpb.Bar
	mu      sync.Mutex
	started time.Time
	ended   time.Duration // zero while it runs
	open    int           // steps of this name that run
	hosts   int
	done    int
	changes int
	failed  []string
	running map[string]*liveHost
	bytes   map[string][2]int64 // done and total, by host
}

// liveHost is a host that a phase is under way on.
type liveHost struct {
	since time.Time
	doing string
}

func newLiveView(w io.Writer, verbose bool) *liveView {
	return &liveView{
		verbose: verbose, phases: map[string]*livePhase{},
		pool: mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(100*time.Millisecond), mpb.WithAutoRefresh(), mpb.PopCompletedMode()),
	}
}

func (v *liveView) close() {
	v.mu.Lock()
	for _, p := range v.phases {
		p.end(time.Now())
	}
	v.mu.Unlock()
	v.pool.Wait()
}

func (v *liveView) report(e workflow.Event) {
	v.mu.Lock()
	p := v.phases[e.Phase]
	if e.Kind == workflow.PhaseStarted {
		p = v.start(e)
	}
	v.mu.Unlock()
	if p == nil {
		return
	}
	where := cmp.Or(e.Host, "cluster")
	if e.Kind == workflow.Warning {
		fmt.Fprintln(v.pool, printable(where+": warning: "+e.Message))
	}
	if v.verbose && e.Kind == workflow.Applying {
		for _, c := range e.Changes {
			fmt.Fprintln(v.pool, printable(where+": "+e.Phase+": "+describe(c)))
		}
	}
	p.take(e)
}

// start gives a phase its line. Steps of one name, for different hosts, share it.
func (v *liveView) start(e workflow.Event) *livePhase {
	if p := v.phases[e.Phase]; p != nil && p.join(e) {
		return p
	}
	p := newLivePhase(e)
	v.phases[e.Phase] = p
	p.bar = v.pool.New(0, mpb.NopStyle(), mpb.BarFillerTrim(), mpb.PrependDecorators(
		decor.Any(func(s decor.Statistics) string { return p.line(e.Phase, time.Now(), s.AvailableWidth) }),
	))
	return p
}

func newLivePhase(e workflow.Event) *livePhase {
	return &livePhase{started: e.Time, open: 1, hosts: max(e.Hosts, 1), running: map[string]*liveHost{}, bytes: map[string][2]int64{}}
}

func (p *livePhase) take(e workflow.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case workflow.Checking:
		p.on(e).doing = "checking"
	case workflow.Applying:
		p.on(e).doing = "changing"
	case workflow.Doing:
		p.on(e).doing = e.Message
	case workflow.Progress:
		p.on(e).doing = e.Message + " " + formatBytes(e.Done)
		p.bytes[e.Host] = [2]int64{e.Done, e.Total}
	case workflow.Unchanged, workflow.Applied:
		p.done++
		p.changes += len(e.Changes)
		delete(p.running, e.Host)
	case workflow.Failed:
		p.failed = append(p.failed, cmp.Or(e.Host, "cluster"))
		delete(p.running, e.Host)
	case workflow.PhaseEnded:
		p.open--
		if p.open == 0 {
			p.finish(e.Time)
		}
	}
}

// on is the host of an event, which is under way by that.
func (p *livePhase) on(e workflow.Event) *liveHost {
	h := p.running[e.Host]
	if h == nil {
		h = &liveHost{since: e.Time}
		p.running[e.Host] = h
	}
	return h
}

// join adds the hosts of another step to a line that has not ended.
func (p *livePhase) join(e workflow.Event) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended > 0 {
		return false
	}
	p.open++
	p.hosts += max(e.Hosts, 1)
	return true
}

func (p *livePhase) end(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish(at)
}

// finish ends the line. p.mu is held.
func (p *livePhase) finish(at time.Time) {
	if p.ended > 0 {
		return
	}
	p.ended = max(at.Sub(p.started), time.Millisecond)
	if p.bar != nil {
		p.bar.SetTotal(-1, true)
	}
}

// slowest is the host that the phase has been under way on for longest.
func (p *livePhase) slowest() (name string, h *liveHost) {
	for n, o := range p.running {
		if h == nil || o.since.Before(h.since) || o.since.Equal(h.since) && n < name {
			name, h = n, o
		}
	}
	return name, h
}

// barWidth is how many columns a bar has, and the least of a terminal that has room for one.
const (
	barWidth = 20
	wideRow  = 90
)

// line is the phase as one line of text: hosts done of all, bytes, time, and the host that it waits for. What is most
// important comes first; the view cuts off what a terminal has no room for.
func (p *livePhase) line(name string, now time.Time, width int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	mark, elapsed := "·", p.ended
	switch {
	case len(p.failed) > 0:
		mark = "✗"
	case p.ended > 0 && p.done < p.hosts:
		mark = "-" // it was stopped
	case p.ended > 0:
		mark = "✓"
	}
	if elapsed == 0 {
		elapsed = max(now.Sub(p.started), 0)
	}
	parts := []string{fmt.Sprintf("%s %-18s %*d/%d %6.1fs", mark, name, len(fmt.Sprint(p.hosts)), p.done, p.hosts, elapsed.Seconds())}
	var done, total int64
	for _, b := range p.bytes {
		done, total = done+b[0], total+b[1]
	}
	switch {
	case p.ended > 0 && total > 0:
		parts = append(parts, formatBytes(done))
	case total > 0:
		filled := int(min(done, total) * barWidth / total)
		if width >= wideRow {
			parts = append(parts, "["+strings.Repeat("=", filled)+strings.Repeat(" ", barWidth-filled)+"]")
		}
		parts = append(parts, formatBytes(done)+" of "+formatBytes(total))
	}
	if len(p.failed) > 0 {
		parts = append(parts, "failed: "+strings.Join(p.failed, ", "))
	}
	slow, at := p.slowest()
	switch {
	case p.ended > 0 && p.changes > 0:
		parts = append(parts, fmt.Sprintf("%d changed", p.changes))
	case p.ended > 0 && p.done == p.hosts:
		parts = append(parts, "unchanged")
	case p.ended > 0:
	case at != nil && slow == "":
		parts = append(parts, at.doing)
	case at != nil:
		parts = append(parts, fmt.Sprintf("%s: %s", slow, at.doing))
	}
	return printable(strings.Join(parts, "  "))
}

// printable is text without what a terminal would take for more than text: hosts have a say in it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, s)
}
