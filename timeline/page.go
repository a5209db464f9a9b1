package timeline

import (
	_ "embed" // for the page
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/myadm/myadm/workflow"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// view is what the page's template is given.
type view struct {
	Title, Command, Version string
	Began                   string
	Took                    string
	Result                  string // "done", "failed" or "interrupted"
	Hosts, Phases, Changes  int
	Ticks                   []tick
	Rows                    []row
	Chain                   []link
	ChainShare              string
	Totals                  []line
	Failures                []failure
}

type tick struct {
	At   float64 // percent of the whole
	Text string
}

// row is a host's.
type row struct {
	Name  string
	Took  string // from its first bar to its last
	Lanes [][]bar
}

// bar is a span as a box.
type bar struct {
	Phase, Class string
	Hue          int     // of its phase
	Left, Width  float64 // percent of the whole
	Check        float64 // percent of the bar: looking, before changes are made
	Title, Took  string
	Chain        bool
}

type link struct {
	Phase, Host, Began, Took, Waited string
	Share                            float64
}

type line struct {
	Phase, Short, Took, Share, Slowest, SlowestTook, Median string
	Hosts, Changes                                          int
	Bar                                                     float64
}

type failure struct{ Host, Phase, Err string }

// cluster is the name of the row of phases on the cluster itself.
const cluster = "cluster"

// Write writes the page of a run.
func Write(w io.Writer, run Run, events []workflow.Event) error {
	return page.Execute(w, viewOf(run, events))
}

func viewOf(run Run, events []workflow.Event) view {
	spans := spansOf(run, events)
	links := chain(spans)
	whole := run.Ended.Sub(run.Began)
	for _, s := range spans { // clocks may have been set
		whole = max(whole, s.ended)
	}
	whole = max(whole, time.Millisecond)
	percent := func(d time.Duration) float64 { return round(100 * float64(d) / float64(whole)) }
	v := view{
		Title: run.Command, Command: run.Command, Version: run.Version,
		Began: run.Began.Format("2006-01-02 15:04:05 -0700"), Took: seconds(whole), Result: "done", Ticks: ticks(whole),
	}
	if run.Result != Done {
		v.Result = string(run.Result)
	}
	all := totals(spans)
	v.Phases = len(all)
	hues := map[string]int{}
	for _, s := range spans { // phases that follow each other differ most
		if _, ok := hues[s.phase]; !ok {
			hues[s.phase] = len(hues) * 137 % 360
		}
	}
	for _, host := range hostsOf(spans) {
		own := slices.Collect(func(yield func(*span) bool) {
			for _, s := range spans {
				if s.host == host && !yield(s) {
					return
				}
			}
		})
		r := row{Name: nameOf(host)}
		first, last := own[0].began, time.Duration(0)
		for _, lane := range lanes(own) {
			bars := make([]bar, len(lane))
			for i, s := range lane {
				bars[i] = barOf(s, hues[s.phase], percent)
				last = max(last, s.ended)
				v.Changes += s.changes
				if s.outcome == failed {
					v.Failures = append(v.Failures, failure{r.Name, s.phase, s.err})
				}
			}
			r.Lanes = append(r.Lanes, bars)
		}
		r.Took = seconds(last - first)
		v.Rows = append(v.Rows, r)
		if host != "" && host != Here {
			v.Hosts++
		}
	}
	onChain := time.Duration(0)
	for _, s := range links {
		onChain += s.took()
		l := link{Phase: s.phase, Host: nameOf(s.host), Began: seconds(s.began), Took: seconds(s.took()), Share: percent(s.took())}
		if s.waitedBefore >= 50*time.Millisecond {
			l.Waited = seconds(s.waitedBefore)
		}
		v.Chain = append(v.Chain, l)
	}
	v.ChainShare = fmt.Sprintf("%.0f %%", percent(onChain))
	for _, t := range all {
		l := line{
			Phase: t.phase, Short: t.short, Took: seconds(t.took), Share: fmt.Sprintf("%.0f %%", percent(t.took)), Hosts: len(t.spans),
			Slowest: nameOf(t.slowest.host), SlowestTook: seconds(t.slowest.took()), Median: seconds(t.median()), Bar: percent(t.took),
		}
		for _, s := range t.spans {
			l.Changes += s.changes
		}
		v.Totals = append(v.Totals, l)
	}
	return v
}

func barOf(s *span, hue int, percent func(time.Duration) float64) bar {
	b := bar{
		Phase: s.phase, Class: string(s.outcome), Hue: hue, Left: percent(s.began), Width: percent(s.took()), Check: 100, Chain: s.onChain,
		Took: seconds(s.took()),
	}
	text := []string{fmt.Sprintf("%s on %s: %s, from %s on", s.phase, nameOf(s.host), b.Took, seconds(s.began))}
	switch {
	case s.applied > 0 && s.took() > 0:
		b.Check = round(100 * float64(s.applied-s.began) / float64(s.took()))
		text = append(text, fmt.Sprintf("checked in %s, changed in %s", seconds(s.applied-s.began), seconds(s.ended-s.applied)))
	case s.outcome == unchanged:
		text = append(text, "there was nothing to change")
	}
	switch s.outcome {
	case changed:
		text = append(text, fmt.Sprintf("changes: %d", s.changes))
	case failed:
		text = append(text, "failed: "+s.err)
	case cut:
		text = append(text, "not ended when the run did")
	}
	if s.short != "" {
		text = append(text, s.short)
	}
	if len(s.told) > 0 {
		text = append(text, "it said: "+strings.Join(s.told, ", "))
	}
	b.Title = strings.Join(text, "\n")
	return b
}

// hostsOf are the rows: myadm itself, the cluster, and the hosts in the order in which they came up.
func hostsOf(spans []*span) []string {
	var hosts []string
	for _, s := range spans {
		if !slices.Contains(hosts, s.host) {
			hosts = append(hosts, s.host)
		}
	}
	rank := func(h string) int { return slices.Index([]string{Here, ""}, h) }
	slices.SortStableFunc(hosts, func(a, b string) int {
		ra, rb := rank(a), rank(b)
		switch {
		case ra >= 0 && rb >= 0:
			return ra - rb
		case ra >= 0:
			return -1
		case rb >= 0:
			return 1
		}
		return compareNames(a, b)
	})
	return hosts
}

// compareNames orders names so that w-10 comes after w-9.
func compareNames(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			if c := strings.Compare(x, y); c != 0 {
				return c
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

func nameOf(host string) string {
	if host == "" {
		return cluster
	}
	return host
}

// ticks are the marks of the time axis: about ten, at round times.
func ticks(whole time.Duration) []tick {
	step := time.Millisecond
	for _, next := range []time.Duration{
		10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
		10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour,
	} {
		if whole/step <= 12 {
			break
		}
		step = next
	}
	for whole/step > 12 {
		step *= 2
	}
	var all []tick
	for at := time.Duration(0); at <= whole; at += step {
		text := at.String()
		if at < time.Minute {
			text = fmt.Sprintf("%g s", at.Seconds())
		}
		all = append(all, tick{At: round(100 * float64(at) / float64(whole)), Text: text})
	}
	return all
}

// seconds prints a time for people.
func seconds(d time.Duration) string {
	switch {
	case d >= 10*time.Minute:
		return d.Round(time.Second).String()
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// round keeps the page small: a thousandth of a percent is no pixel.
func round(f float64) float64 { return float64(int64(f*1000+0.5)) / 1000 }
