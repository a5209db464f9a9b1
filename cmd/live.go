package cmd

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/myadm/myadm/workflow"
)

// liveView is a terminal's view of a run: a line for every phase that runs and one for the time, which are drawn anew ten
// times a second. Above them stays, as one line each, what has become of the phases that have ended. The cursor is never
// hidden and no mode of the terminal changed, so that a run that is ended at any moment leaves nothing to put right.
type liveView struct {
	w       io.Writer
	verbose bool
	began   time.Time
	pool    *mpb.Progress
	bar     *mpb.Bar   // all lines that are drawn anew; the first of them is a bar to mpb
	told    sync.Mutex // held while an event is told: what it prints comes in order

	mu      sync.Mutex   // not held while something is printed: that waits for lines to be drawn
	running []*livePhase // in the order in which they began
}

// livePhase is a phase's line.
type livePhase struct {
	name    string
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
	v := &liveView{
		w: w, verbose: verbose, began: time.Now(),
		pool: mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(100*time.Millisecond), mpb.WithAutoRefresh()),
	}
	v.bar = v.pool.New(0, mpb.NopStyle(), mpb.BarFillerTrim(), mpb.BarExtender(mpb.BarFillerFunc(v.draw), true), mpb.PrependDecorators(
		decor.Any(func(decor.Statistics) string { return fmt.Sprintf("  %.0fs", time.Since(v.began).Seconds()) }),
	))
	return v
}

// close ends the view: what still runs stays as it was last.
func (v *liveView) close() {
	v.told.Lock()
	defer v.told.Unlock()
	v.mu.Lock()
	var lines []string
	for _, p := range v.running {
		p.ended = max(time.Since(p.started), time.Millisecond)
		lines = append(lines, v.last(p))
	}
	v.running = nil
	v.mu.Unlock()
	v.print(lines)
	v.bar.Abort(true)
	v.pool.Wait()
}

// print has lines stay above those that are drawn anew.
func (v *liveView) print(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(v.pool, oneLine(line))
	}
}

// last is the line of a phase that has ended.
func (v *liveView) last(p *livePhase) string {
	columns, _ := sizeOf(v.w)
	return runewidth.Truncate(p.line(time.Now(), columns), columns, "…")
}

// draw writes the lines of the phases that run, the last one first, as mpb turns them around.
func (v *liveView) draw(w io.Writer, s decor.Statistics) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, rows := sizeOf(v.w)
	shown, most := v.running, rows-2
	if len(shown) > most { // the oldest are what everything waits for
		more := fmt.Sprintf("  and %d more phases", len(shown)-most+1)
		fmt.Fprintln(w, runewidth.Truncate(more, s.AvailableWidth, "…"))
		shown = shown[:most-1]
	}
	now := time.Now()
	for _, p := range slices.Backward(shown) {
		fmt.Fprintln(w, runewidth.Truncate(oneLine(p.line(now, s.AvailableWidth)), s.AvailableWidth, "…"))
	}
	return nil
}

// sizeOf is a terminal's size; what is none, or has none, is taken for one of minRows by wideRow.
func sizeOf(w io.Writer) (columns, rows int) {
	if f, ok := w.(*os.File); ok {
		if c, r, err := term.GetSize(int(f.Fd())); err == nil && c > 0 && r > 0 {
			return c, max(r, 4)
		}
	}
	return wideRow, minRows
}

func (v *liveView) report(e workflow.Event) {
	v.told.Lock()
	defer v.told.Unlock()
	v.print(v.take(e))
}

// take makes an event part of what is drawn, and returns the lines that stay.
func (v *liveView) take(e workflow.Event) (lines []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.IndexFunc(v.running, func(p *livePhase) bool { return p.name == e.Phase })
	if e.Kind == workflow.PhaseStarted {
		if i < 0 {
			v.running = append(v.running, newLivePhase(e))
		} else {
			v.running[i].join(e)
		}
		return nil
	}
	where := cmp.Or(e.Host, "cluster")
	if e.Kind == workflow.Warning {
		lines = append(lines, where+": warning: "+e.Message)
	}
	if v.verbose && e.Kind == workflow.Applying {
		for _, c := range e.Changes {
			lines = append(lines, where+": "+e.Phase+": "+describe(c))
		}
	}
	if i < 0 {
		return lines
	}
	p := v.running[i]
	p.take(e)
	if p.ended > 0 {
		v.running = slices.Delete(v.running, i, i+1)
		lines = append(lines, v.last(p))
	}
	return lines
}

func newLivePhase(e workflow.Event) *livePhase {
	return &livePhase{name: e.Phase, started: e.Time, open: 1, hosts: max(e.Hosts, 1), running: map[string]*liveHost{}, bytes: map[string][2]int64{}}
}

// join adds the hosts of another step of the same name.
func (p *livePhase) join(e workflow.Event) {
	p.open++
	p.hosts += max(e.Hosts, 1)
}

func (p *livePhase) take(e workflow.Event) {
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
			p.ended = max(e.Time.Sub(p.started), time.Millisecond)
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
func (p *livePhase) line(now time.Time, width int) string {
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
	parts := []string{fmt.Sprintf("%s %-18s %*d/%d %6.1fs", mark, p.name, len(fmt.Sprint(p.hosts)), p.done, p.hosts, elapsed.Seconds())}
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
	case at == nil && p.done > 0:
		parts = append(parts, "other hosts are not there yet")
	case at != nil && slow == "":
		parts = append(parts, at.doing)
	case at != nil:
		parts = append(parts, fmt.Sprintf("%s: %s", slow, at.doing))
	}
	return strings.Join(parts, "  ")
}

// oneLine is text without what a terminal would take for more than text: hosts have a say in it.
func oneLine(s string) string {
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
