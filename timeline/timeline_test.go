package timeline_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/redact"
	"github.com/myadm/myadm/timeline"
	"github.com/myadm/myadm/workflow"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var began = time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)

// story is a run as events; at is in milliseconds.
type story []workflow.Event

func (s *story) add(at int, kind workflow.Kind, phase, host string, fill ...func(*workflow.Event)) {
	e := workflow.Event{Time: began.Add(time.Duration(at) * time.Millisecond), Kind: kind, Phase: phase, Host: host}
	for _, f := range fill {
		f(&e)
	}
	*s = append(*s, e)
}

// did is a phase on a host: checked, changed from the second moment on unless that is zero, and ended at the third one.
func (s *story) did(phase, host string, from, applied, to int) {
	changes := func(e *workflow.Event) { e.Changes = make([]workflow.Change, 2) }
	s.add(from, workflow.Checking, phase, host)
	if applied == 0 {
		s.add(to, workflow.Unchanged, phase, host)
		return
	}
	s.add(applied, workflow.Applying, phase, host, changes)
	s.add(to, workflow.Applied, phase, host, changes)
}

func run(took time.Duration) timeline.Run {
	return timeline.Run{Command: "myadm apply", Version: "v1.2.3", Began: began, Ended: began.Add(took), Mask: new(redact.Masker).Text}
}

// whole is a run on three hosts with all that a page can show.
func whole() story {
	var s story
	s.did("connect", "h1", 0, 0, 200)
	s.did("connect", "h2", 0, 0, 300)
	s.did("connect", "h10", 0, 0, 250)
	s.did("locate", timeline.Here, 310, 0, 400)
	s.add(400, workflow.PhaseStarted, "images", "", func(e *workflow.Event) { e.Short, e.Hosts = "place images", 3 })
	s.did("images", "h1", 400, 500, 3000)
	s.did("images", "h2", 400, 500, 5000)
	s.add(400, workflow.Checking, "images", "h10")
	s.add(450, workflow.Doing, "images", "h10", func(e *workflow.Event) { e.Message = "import" })
	s.add(460, workflow.Progress, "images", "h10", func(e *workflow.Event) { e.Done, e.Total = 1, 2 })
	s.add(900, workflow.Failed, "images", "h10", func(e *workflow.Event) {
		e.Err = errors.New("join with abcdef.0123456789abcdef: no space left on device")
	})
	s.did("certs", "h1", 420, 430, 480) // beside images
	s.add(5000, workflow.PhaseEnded, "images", "")
	s.did("addons", "", 5100, 5200, 6000)
	s.add(6000, workflow.Checking, "ready", "h2") // and the run ends
	return s
}

func write(t *testing.T, r timeline.Run, s story) string {
	t.Helper()
	var b bytes.Buffer
	if err := timeline.Write(&b, r, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPages(t *testing.T) {
	failed := run(7 * time.Second)
	failed.Result = timeline.Failed
	interrupted := run(7 * time.Second)
	interrupted.Result = timeline.Interrupted
	for _, tt := range []struct {
		name string
		run  timeline.Run
		s    story
	}{{"failed", failed, whole()}, {"interrupted", interrupted, whole()[:10]}, {"nothing", run(0), nil}} {
		t.Run(tt.name, func(t *testing.T) {
			got := write(t, tt.run, tt.s)
			golden := filepath.Join("testdata", tt.name+".html")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What the end was waiting for: h2's images and not those of h1, then the addons.
func TestChain(t *testing.T) {
	s := whole()
	page := write(t, run(6*time.Second), s[:len(s)-1])
	_, section, _ := strings.Cut(page, "What the end was waiting for")
	section, _, _ = strings.Cut(section, "</table>")
	var got []string
	for _, m := range regexp.MustCompile(`<td>([^<]*)</td><td>([^<]*)</td><td class="n">([^<]*)</td><td class="n">([^<]*)</td><td class="n">([^<]*)</td>`).FindAllStringSubmatch(section, -1) {
		got = append(got, strings.Join(m[1:], "|"))
	}
	want := []string{"connect|h2|0 ms|0.3 s|", "locate|(myadm)|0.3 s|90 ms|", "images|h2|0.4 s|4.6 s|", "addons|cluster|5.1 s|0.9 s|0.1 s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Names of hosts and what they say may be anything: none of it becomes part of the page's code, and the page asks nobody.
func TestPagesAreSafe(t *testing.T) {
	const hostile = `"><script>alert(1)</script><img src=x onerror=alert(1)>';}</style>{{.}}`
	var s story
	s.did(hostile, hostile, 0, 10, 20)
	s.add(20, workflow.Checking, "p", hostile)
	s.add(25, workflow.Doing, "p", hostile, func(e *workflow.Event) { e.Message = hostile })
	s.add(30, workflow.Failed, "p", hostile, func(e *workflow.Event) { e.Err = errors.New(hostile + " --token abcdef.0123456789abcdef") })
	r := run(time.Second)
	r.Command, r.Version, r.Result = hostile, hostile, timeline.Failed
	page := write(t, r, s)
	for _, forbidden := range []string{"<script>alert", "<img", "alert(1)>'", "0123456789abcdef"} {
		if strings.Contains(page, forbidden) {
			t.Errorf("the page holds %q", forbidden)
		}
	}
	if n := strings.Count(page, "<script"); n != 1 {
		t.Errorf("it has %d scripts", n)
	}
	page = write(t, run(time.Second), whole())
	if m := regexp.MustCompile(`(?i)\b(src|href|action)=|https?://|@import|url\(`).FindString(page); m != "" {
		t.Errorf("it asks for something: %q", m)
	}
}

// Bars of a host that overlap are in lanes of their own, and no bar leaves the chart.
func TestBarsHaveRoom(t *testing.T) {
	page := write(t, run(7*time.Second), whole())
	if strings.Contains(page, "ZgotmplZ") {
		t.Error("a value was refused by the template")
	}
	for row := range strings.SplitSeq(page, `<div class="row">`) {
		for lane := range strings.SplitSeq(row, `<div class="lane">`) {
			end := 0.0
			for _, m := range regexp.MustCompile(`style="left:([0-9.]+)%;width:([0-9.]+)%`).FindAllStringSubmatch(lane, -1) {
				var left, width float64
				if _, err := fmt.Sscan(m[1]+" "+m[2], &left, &width); err != nil {
					t.Fatal(err)
				}
				if left < end || left+width > 100.01 {
					t.Errorf("a bar from %g on, %g wide, after %g", left, width, end)
				}
				end = left + width - 0.002
			}
		}
	}
	rows := regexp.MustCompile(`<div class="name" title="([^"]*)"`).FindAllStringSubmatch(page, -1)
	var names []string
	for _, m := range rows {
		names = append(names, m[1])
	}
	if diff := cmp.Diff([]string{"(myadm)", "cluster", "h1", "h2", "h10"}, names); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// A phase that is at work early on one host and late on another did not take all the time between.
func TestTimesOfPhases(t *testing.T) {
	var s story
	s.did("p", "h1", 0, 0, 1000)
	s.did("p", "h2", 500, 0, 2000)
	s.did("p", "h3", 600, 0, 700)
	s.did("p", "h4", 8000, 0, 9000)
	s.did("q", "", 2000, 0, 8000)
	page := write(t, run(9*time.Second), s)
	_, section, _ := strings.Cut(page, "the longest first")
	var got []string
	for _, m := range regexp.MustCompile(`<tr data-phase="([^"]*)"><td>[^<]*</td><td class="n">([^<]*)</td>`).FindAllStringSubmatch(section, -1) {
		got = append(got, m[1]+" "+m[2])
	}
	if diff := cmp.Diff([]string{"q 6.0 s", "p 3.0 s"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
