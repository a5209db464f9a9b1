package main

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func texts(lines []line) []string {
	var all []string
	for _, l := range lines {
		all = append(all, l.text)
	}
	return all
}

// A line may come in parts, or many in one.
func TestStampedLines(t *testing.T) {
	s := &stampedLines{start: time.Now()}
	for _, part := range []string{"a", "b\nc\n\nd", "\n", "without an end"} {
		if n, err := s.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("write %q: %d, %v", part, n, err)
		}
	}
	if diff := cmp.Diff([]string{"ab", "c", "", "d"}, texts(s.lines)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExecuteStampsBothOutputs(t *testing.T) {
	lines, took, err := execute(t.Context(), "sh", "-c", "echo out; read -r nothing; echo err >&2")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"out", "err"}, texts(lines)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if first, last := lines[0].at, lines[1].at; first <= 0 || last < first || took < last {
		t.Errorf("at %s and %s of %s", first, last, took)
	}
}

func TestExecuteTellsWhatAFailedCommandSaidLast(t *testing.T) {
	_, _, err := execute(t.Context(), "sh", "-c", "seq 1000 1020; echo why >&2; exit 3")
	if err == nil {
		t.Fatal("no error")
	}
	for text, want := range map[string]bool{"exit status 3": true, "  why": true, "1007": true, "1006": false} {
		if strings.Contains(err.Error(), text) != want {
			t.Errorf("%q is in the error: %t, want %t:\n%v", text, !want, want, err)
		}
	}
}

func TestPhasesOf(t *testing.T) {
	at := func(s float64, text string) line { return line{time.Duration(s * float64(time.Second)), text} }
	got := phasesOf([]line{
		at(0.2, "19:06:01  h1           preflight          ok (0.1s)"),
		at(0.3, "19:06:01  h1           preflight          warning: old kernel (0.1s)"),
		at(4.0, "19:06:05  h1           images             sent 1.0 MiB of 2.0 MiB (3.0s)"),
		at(5.0, "19:06:06  h1           images             done, 9 changes (4.5s)"),
		at(5.5, "19:06:06  cluster      addons             done, 1 change (5.1s)"),
		at(5.6, "The control plane is up, in 5.6 s with 10 changes."),
	})
	want := []phase{
		{Name: "preflight", Host: "h1", From: 0.1, To: 0.2, Text: "ok"},
		{Name: "addons", Host: "cluster", From: 0.4, To: 5.5, Text: "done, 1 change"},
		{Name: "images", Host: "h1", From: 0.5, To: 5, Text: "done, 9 changes"},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Between its beginning and its end a phase may tell what it has come to: each of these is a step until the next one.
func TestPhasesOfHaveSteps(t *testing.T) {
	at := func(s float64, text string) line { return line{time.Duration(s * float64(time.Second)), text} }
	got := phasesOf([]line{
		at(2.0, "19:06:01  h1           control-planes     drain (1.0s)"),
		at(2.5, "19:06:01  h2           workers            drain (0.5s)"),
		at(3.0, "19:06:02  h1           control-planes     drain: 1 of 2 pods gone (2.0s)"),
		at(3.1, "19:06:02  h1           control-planes     warning: h2: its load balancer was not told (2.1s)"),
		at(4.0, "19:06:03  h1           control-planes     replace etcd, kubelet (3.0s)"),
		at(4.5, "19:06:03  h1           control-planes     received 1.0 MiB of 2.0 MiB (3.5s)"),
		at(9.0, "19:06:08  h1           control-planes     done, 9 changes (8.0s)"),
		at(9.2, "19:06:08  h1           control-planes     ok (0.1s)"),
	})
	want := []phase{
		{Name: "control-planes", Host: "h1", From: 1, To: 9, Text: "done, 9 changes", Steps: []step{
			{"look", 1, 2}, {"drain", 2, 4}, {"replace etcd, kubelet", 4, 9},
		}},
		{Name: "control-planes", Host: "h1", From: 9.1, To: 9.2, Text: "ok"},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzPhasesOf(f *testing.F) {
	f.Add("19:06:01  h1           preflight          ok (0.1s)", int64(200))
	f.Add("19:06:05  cluster      images             done, 9 changes (99999999999.9s)", int64(0))
	f.Add("19:06:05  h1  x  done,  (0.0s) (1.0s)", int64(1))
	f.Add("19:06:05  h1  x  drain (7.0s)", int64(100))
	f.Fuzz(func(t *testing.T, text string, ms int64) {
		at := time.Duration(max(0, ms%1e9)) * time.Millisecond
		for _, p := range phasesOf([]line{{at / 2, text}, {at, text}, {at, "19:06:06  h1  x  ok (0.1s)"}}) {
			for _, s := range p.Steps {
				if s.From < 0 || s.From > s.To || s.To > p.To {
					t.Errorf("%q at %s: step %+v of %+v", text, at, s, p)
				}
			}
			if math.IsNaN(p.From) || p.From < 0 || p.From > p.To || p.To != at.Seconds() && p.To != (at/2).Seconds() {
				t.Errorf("%q at %s: from %v to %v", text, at, p.From, p.To)
			}
			if p.Name == "" || p.Host == "" || strings.ContainsAny(fmt.Sprint(p.Name, p.Host), " \n") {
				t.Errorf("%q: phase %q on %q", text, p.Name, p.Host)
			}
		}
	})
}
