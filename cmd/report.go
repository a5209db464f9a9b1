package cmd

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/myadm/myadm/workflow"
)

// newReporter tells a run as it goes: a live view on a terminal, plain lines elsewhere. close ends the view.
// The journal is told as well.
func newReporter(streams Streams, verbose bool) (report workflow.Reporter, close func()) {
	view, close := newView(streams, verbose)
	return func(e workflow.Event) {
		streams.journal.record(e)
		view(e)
	}, close
}

// newView is a reporter of what is no phase of hosts: the journal hears nothing of it.
func newView(streams Streams, verbose bool) (report workflow.Reporter, close func()) {
	w := streams.Err
	if j := streams.journal; j.json() {
		return (&jsonView{handler: jsonHandler(w, j.mask.Text)}).report, func() {}
	}
	if fits(w) {
		live := newLiveView(w, verbose)
		return live.report, live.close
	}
	return (&lineView{w: w, verbose: verbose}).report, func() {}
}

// A smaller terminal than this gets plain lines. About as many phases as it has rows run at the same time.
const (
	minRows    = 12
	minColumns = 24
)

// fits tells whether w is a terminal that can show the live view.
func fits(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	return err == nil && rows >= minRows && columns >= minColumns
}

// lineView prints a line for every phase on every host, and one every few seconds for what takes long.
type lineView struct {
	w       io.Writer
	verbose bool
	mu      sync.Mutex
	pace    pace
}

func (v *lineView) report(e workflow.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e.Kind {
	case workflow.Unchanged:
		v.line(e, "ok")
	case workflow.Applied:
		v.line(e, "done, "+countChanges(e.Changes))
	case workflow.Failed:
		v.line(e, "failed")
	case workflow.Doing:
		v.line(e, e.Message)
	case workflow.Warning:
		v.line(e, "warning: "+e.Message)
	case workflow.Applying:
		if v.verbose {
			for _, c := range e.Changes {
				v.line(e, describe(c))
			}
		}
	case workflow.Progress:
		if v.pace.due(e) {
			v.line(e, fmt.Sprintf("%s %s of %s", e.Message, formatBytes(e.Done), formatBytes(e.Total)))
		}
	}
}

func (v *lineView) line(e workflow.Event, text string) {
	where := e.Host
	if where == "" {
		where = "cluster"
	}
	fmt.Fprintf(v.w, "%s  %-12s %-18s %s (%.1fs)\n", e.Time.Format(time.TimeOnly), where, e.Phase, text, e.Elapsed.Seconds())
}

func describe(c workflow.Change) string {
	text := string(c.Action) + " " + c.Object
	if c.Detail != "" {
		text += " (" + c.Detail + ")"
	}
	return text
}

func countChanges(changes []workflow.Change) string {
	if len(changes) == 1 {
		return "1 change"
	}
	return fmt.Sprintf("%d changes", len(changes))
}

// formatBytes prints a size with the binary unit that leaves one to four digits before the point.
func formatBytes(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 1024 && unit < len(units)-1 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[unit])
}
