package cmd

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/myadm/myadm/workflow"
)

// liveView is a terminal's view of a run: a line for every phase with its hosts, its time and, for what is sent, a bar.
type liveView struct {
	w       io.Writer
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
	waiting map[string]bool     // hosts under way
	doing   map[string]string   // by host: what it has come to
	bytes   map[string][2]int64 // done and total, by host
}

func newLiveView(w io.Writer, verbose bool) *liveView {
	return &liveView{
		w: w, verbose: verbose, phases: map[string]*livePhase{},
		pool: mpb.New(mpb.WithOutput(w), mpb.WithWidth(24), mpb.WithRefreshRate(100*time.Millisecond), mpb.WithAutoRefresh()),
	}
}

func (v *liveView) close() {
	v.mu.Lock()
	for _, p := range v.phases {
		p.end()
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
	if e.Kind == workflow.Warning {
		fmt.Fprintf(v.pool, "%s: warning: %s\n", e.Host, e.Message)
	}
	if v.verbose && e.Kind == workflow.Applying {
		for _, c := range e.Changes {
			fmt.Fprintf(v.pool, "%s: %s: %s\n", e.Host, e.Phase, describe(c))
		}
	}
	p.take(e)
}

// start gives a phase its line. Steps of one name, for different hosts, share it.
func (v *liveView) start(e workflow.Event) *livePhase {
	if p := v.phases[e.Phase]; p != nil && p.join(e) {
		return p
	}
	p := &livePhase{started: e.Time, open: 1, hosts: max(e.Hosts, 1), waiting: map[string]bool{}, doing: map[string]string{}, bytes: map[string][2]int64{}}
	v.phases[e.Phase] = p
	p.bar = v.pool.New(0, mpb.NopStyle(), mpb.PrependDecorators(
		decor.Any(func(decor.Statistics) string { return p.line(e.Phase) }),
	))
	return p
}

func (p *livePhase) take(e workflow.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case workflow.Applying:
		p.waiting[e.Host] = true
	case workflow.Doing:
		p.doing[e.Host] = e.Message
	case workflow.Progress:
		p.bytes[e.Host] = [2]int64{e.Done, e.Total}
	case workflow.Unchanged, workflow.Applied:
		p.done++
		p.changes += len(e.Changes)
		delete(p.waiting, e.Host)
		delete(p.doing, e.Host)
	case workflow.Failed:
		p.failed = append(p.failed, e.Host)
		delete(p.waiting, e.Host)
		delete(p.doing, e.Host)
	case workflow.PhaseEnded:
		p.open--
		if p.open == 0 {
			p.ended = max(e.Time.Sub(p.started), time.Millisecond)
			p.bar.SetTotal(-1, true)
		}
	}
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

func (p *livePhase) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == 0 {
		p.ended = time.Since(p.started)
		p.bar.SetTotal(-1, true)
	}
}

const barWidth = 20

// line is the phase as one line of text.
func (p *livePhase) line(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	mark, elapsed := "·", p.ended
	switch {
	case len(p.failed) > 0:
		mark = "✗"
	case p.ended > 0:
		mark = "✓"
	}
	if elapsed == 0 {
		elapsed = time.Since(p.started)
	}
	text := fmt.Sprintf("%s %-18s %d/%d  %5.1fs", mark, name, p.done, p.hosts, elapsed.Seconds())
	var done, total int64
	for _, b := range p.bytes {
		done, total = done+b[0], total+b[1]
	}
	switch {
	case len(p.failed) > 0:
		text += "  failed: " + strings.Join(p.failed, ", ")
	case p.ended > 0 && p.changes > 0:
		text += fmt.Sprintf("  %d changed", p.changes)
	case p.ended > 0:
		text += "  unchanged"
	case len(p.doing) > 0:
		var doing []string
		for _, host := range slices.Sorted(maps.Keys(p.doing)) {
			doing = append(doing, host+": "+p.doing[host])
		}
		text += "  " + strings.Join(doing, ", ")
	case total > 0:
		filled := int(min(done, total) * barWidth / total)
		text += fmt.Sprintf("  [%s%s] %s of %s", strings.Repeat("=", filled), strings.Repeat(" ", barWidth-filled), formatBytes(done), formatBytes(total))
	}
	return text
}
