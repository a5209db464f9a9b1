package cmd

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/workflow"
)

var start = time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)

// story is a run of two phases as its events.
func story() []workflow.Event {
	changes := []workflow.Change{{Action: workflow.Create, Object: "/etc/x"}, {Action: workflow.Update, Object: "/etc/y", Detail: "mode 0644 to 0600"}}
	at := func(seconds int, e workflow.Event) workflow.Event {
		e.Time, e.Elapsed = start.Add(time.Duration(seconds)*time.Second), time.Duration(seconds)*time.Second
		return e
	}
	on := func(host string, kind workflow.Kind) workflow.Event {
		return workflow.Event{Kind: kind, Phase: "binaries", Host: host}
	}
	warning, applying, applied, failed := on("h1", workflow.Warning), on("h1", workflow.Applying), on("h1", workflow.Applied), on("h3", workflow.Failed)
	warning.Message, applying.Changes, applied.Changes, failed.Err = "an old kernel", changes, changes, errors.New("broken")
	progress := func(done int64) workflow.Event {
		e := on("h1", workflow.Progress)
		e.Message, e.Done, e.Total = "sent", done, 10<<20
		return e
	}
	return []workflow.Event{
		at(0, workflow.Event{Kind: workflow.PhaseStarted, Phase: "binaries", Short: "place binaries", Hosts: 3}),
		at(0, warning), at(1, on("h2", workflow.Unchanged)), at(1, applying),
		at(1, progress(1<<20)), at(2, progress(2<<20)), at(6, progress(6<<20)), at(7, progress(7<<20)),
		at(8, applied), at(9, failed),
		at(9, workflow.Event{Kind: workflow.PhaseEnded, Phase: "binaries"}),
		at(9, workflow.Event{Kind: workflow.Applied, Phase: "addons", Changes: changes[:1]}),
	}
}

func TestLinesOfARun(t *testing.T) {
	quiet := []string{
		"08:00:00  h1           binaries           warning: an old kernel (0.0s)",
		"08:00:01  h2           binaries           ok (1.0s)",
		"08:00:06  h1           binaries           sent 6.0 MiB of 10.0 MiB (6.0s)", // not every step, but one every few seconds
		"08:00:08  h1           binaries           done, 2 changes (8.0s)",
		"08:00:09  h3           binaries           failed (9.0s)",
		"08:00:09  cluster      addons             done, 1 change (9.0s)",
	}
	verbose := append([]string{}, quiet[:2]...)
	verbose = append(verbose,
		"08:00:01  h1           binaries           create /etc/x (1.0s)",
		"08:00:01  h1           binaries           update /etc/y (mode 0644 to 0600) (1.0s)")
	verbose = append(verbose, quiet[2:]...)
	for _, tt := range []struct {
		verbose bool
		want    []string
	}{{false, quiet}, {true, verbose}} {
		var b bytes.Buffer
		report, done := newReporter(Streams{Err: &b}, tt.verbose)
		for _, e := range story() {
			report(e)
		}
		done()
		if diff := cmp.Diff(tt.want, strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")); diff != "" {
			t.Errorf("verbose %t (-want +got):\n%s", tt.verbose, diff)
		}
	}
}

func TestLiveViewTellsEveryPhase(t *testing.T) {
	var b bytes.Buffer
	v := newLiveView(&b, true)
	for _, e := range story()[:10] {
		v.report(e)
	}
	v.close() // also when a phase has not ended
	for _, part := range []string{"h1: warning: an old kernel\n", "h1: binaries: create /etc/x\n", "✗ binaries", "2/3", "failed: h3"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("%q does not hold %q", b.String(), part)
		}
	}
}

// Steps of one name, for different hosts at the same time, are one line, until all of them have ended.
func TestLiveViewJoinsStepsOfOneName(t *testing.T) {
	var b bytes.Buffer
	v := newLiveView(&b, false)
	event := func(kind workflow.Kind, host string, hosts int) {
		v.report(workflow.Event{Kind: kind, Phase: "images", Host: host, Hosts: hosts, Time: start})
	}
	event(workflow.PhaseStarted, "", 1)
	event(workflow.PhaseStarted, "", 2)
	event(workflow.Unchanged, "cp-1", 0)
	event(workflow.PhaseEnded, "", 0)
	if got := v.running[0].line(start, 100); len(v.running) != 1 || !strings.HasPrefix(got, "· images") || !strings.Contains(got, "1/3") {
		t.Errorf("with one step under way: %q", got)
	}
	event(workflow.Unchanged, "w-1", 0)
	event(workflow.Unchanged, "w-2", 0)
	event(workflow.PhaseEnded, "", 0)
	if len(v.running) != 0 {
		t.Error("it still runs")
	}
	event(workflow.PhaseStarted, "", 1) // a later step of the name has a line of its own
	if got := v.running[0].line(start, 100); !strings.Contains(got, "0/1") {
		t.Errorf("the later step: %q", got)
	}
	v.close()
	if got := b.String(); strings.Count(got, "✓ images             3/3") != 1 {
		t.Errorf("in the end: %q", got)
	}
}

func TestLivePhaseLine(t *testing.T) {
	event := func(kind workflow.Kind, host string, seconds int) workflow.Event {
		return workflow.Event{Kind: kind, Phase: "images", Host: host, Time: start.Add(time.Duration(seconds) * time.Second)}
	}
	doing := func(host, what string) workflow.Event {
		e := event(workflow.Doing, host, 1)
		e.Message = what
		return e
	}
	sent := func(host string, done, total int64) workflow.Event {
		e := event(workflow.Progress, host, 1)
		e.Message, e.Done, e.Total = "sent", done, total
		return e
	}
	changed := func(host string) workflow.Event {
		e := event(workflow.Applied, host, 5)
		e.Changes = make([]workflow.Change, 3)
		return e
	}
	both := []workflow.Event{event(workflow.Checking, "w-2", 1), event(workflow.Checking, "w-1", 2)}
	tests := []struct {
		name   string
		events []workflow.Event
		width  int
		want   string
	}{
		{"begun", nil, 100, "· images             0/2   60.0s"},
		{"the slow host", both, 100, "· images             0/2   60.0s  w-2: checking"},
		{"the slow host changes", append(both, event(workflow.Applying, "w-2", 3)), 100, "· images             0/2   60.0s  w-2: changing"},
		{"what it does", append(both, doing("w-2", "import")), 100, "· images             0/2   60.0s  w-2: import"},
		{"what would move the cursor", append(both, doing("w-2", "a\x1b[2J\nb")), 100, "· images             0/2   60.0s  w-2: a[2J b"},
		{"nobody is there", []workflow.Event{event(workflow.Unchanged, "w-2", 4)}, 100, "· images             1/2   60.0s  other hosts are not there yet"},
		{"the next slow host", append(both, event(workflow.Unchanged, "w-2", 4)), 100, "· images             1/2   60.0s  w-1: checking"},
		{"sending", append(both, sent("w-2", 512, 1024), sent("w-1", 512, 1024)), 100, "· images             0/2   60.0s  [==========          ]  1.0 KiB of 2.0 KiB  w-2: sent 512 B"},
		{"sending on a narrow terminal", append(both, sent("w-2", 512, 1024)), 80, "· images             0/2   60.0s  512 B of 1.0 KiB  w-2: sent 512 B"},
		{"more sent than announced", []workflow.Event{sent("w-2", 4096, 1024)}, 100, "· images             0/2   60.0s  [====================]  4.0 KiB of 1.0 KiB  w-2: sent 4.0 KiB"},
		{"one failed", append(both, event(workflow.Failed, "w-1", 4)), 100, "✗ images             0/2   60.0s  failed: w-1  w-2: checking"},
		{"changed", []workflow.Event{sent("w-2", 1024, 1024), changed("w-2"), changed("w-1"), event(workflow.PhaseEnded, "", 6)}, 100, "✓ images             2/2    6.0s  1.0 KiB  6 changed"},
		{"unchanged", []workflow.Event{event(workflow.Unchanged, "w-2", 3), event(workflow.Unchanged, "w-1", 4), event(workflow.PhaseEnded, "", 6)}, 100, "✓ images             2/2    6.0s  unchanged"},
		{"stopped", []workflow.Event{event(workflow.Unchanged, "w-2", 3), event(workflow.PhaseEnded, "", 6)}, 100, "- images             1/2    6.0s"},
		{"the cluster", []workflow.Event{event(workflow.Checking, "", 1), doing("", "wait for etcd")}, 100, "· images             0/2   60.0s  wait for etcd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newLivePhase(workflow.Event{Phase: "images", Time: start, Hosts: 2})
			for _, e := range tt.events {
				p.take(e)
			}
			if got := oneLine(p.line(start.Add(time.Minute), tt.width)); got != tt.want {
				t.Errorf("\ngot  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 3 << 30: "3.0 GiB", 2 << 40: "2.0 TiB", 5000 << 40: "5000.0 TiB",
	} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
