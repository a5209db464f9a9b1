package cmd

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/myadm/myadm/workflow"
)

// ranSomewhere tells whether phases ran at all: before that, the error says everything.
func ranSomewhere(outcomes []workflow.Outcome) bool {
	return slices.ContainsFunc(outcomes, func(o workflow.Outcome) bool { return o.State != workflow.Unreached })
}

// printOutcomes writes per host what is done and what is not; hosts on which everything is done share a line.
func printOutcomes(w io.Writer, outcomes []workflow.Outcome, interrupted bool, mask func(string) string) {
	var done []string
	var lines []string
	for _, o := range outcomes {
		where := cmp.Or(o.Host, "cluster")
		left := fmt.Sprintf("%d of %s to do", len(o.Left), count(o.Phases, "phase"))
		switch o.State {
		case workflow.Finished:
			done = append(done, where)
		case workflow.Broken:
			text := "stopped at " + o.Phase + ", " + left
			if interrupted {
				text = "interrupted at " + o.Phase + ", " + left
			} else if o.Error != "" {
				text += ": " + brief(mask(o.Error))
			}
			lines = append(lines, where+": "+text)
		case workflow.Unfinished:
			text := left
			if len(o.Left) < o.Phases {
				text += ", from " + o.Left[0] + " on"
			}
			lines = append(lines, where+": "+text)
		case workflow.Unreached:
			lines = append(lines, where+": not reached")
		}
	}
	fmt.Fprintln(w, "By host:")
	if len(done) > 0 {
		fmt.Fprintf(w, "  done: %s\n", strings.Join(done, ", "))
	}
	for _, line := range lines {
		fmt.Fprintf(w, "  %s\n", line)
	}
}

// brief is the beginning of an error that is told in full elsewhere.
func brief(s string) string {
	const most = 100 // characters
	s, _, _ = strings.Cut(s, "; hint: ")
	s, _, more := strings.Cut(s, "\n")
	if r := []rune(s); len(r) > most {
		s, more = string(r[:most]), true
	}
	if more {
		s += " ..."
	}
	return s
}

func outcomeAttrs(o workflow.Outcome) []any {
	attrs := []any{"state", string(o.State), "phases", o.Phases, "left", strings.Join(o.Left, " ")}
	for _, a := range []struct{ name, value string }{{"host", o.Host}, {"phase", o.Phase}, {"error", o.Error}} {
		if a.value != "" {
			attrs = append(attrs, a.name, a.value)
		}
	}
	return attrs
}

// masked are the outcomes without secrets.
func masked(outcomes []workflow.Outcome, mask func(string) string) []workflow.Outcome {
	all := slices.Clone(outcomes)
	for i := range all {
		all[i].Error = mask(all[i].Error)
		if all[i].Left == nil {
			all[i].Left = []string{}
		}
	}
	return all
}

// texts are the errors that were joined, each as its text.
func texts(err error, mask func(string) string) []string {
	var all []string
	for _, e := range flatten(err) {
		all = append(all, mask(e.Error()))
	}
	return all
}
