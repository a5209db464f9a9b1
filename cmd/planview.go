package cmd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"

	"github.com/myadm/myadm/workflow"
)

// planViewOptions are how a plan is shown to people.
type planViewOptions struct {
	Diff    bool // with the diffs, and each change on a line of its own
	Verbose bool // each change on a line of its own
	Color   bool
}

// planSigns are how actions are shown, in the order of summaries.
var planSigns = []struct {
	action workflow.Action
	sign   string
	style  string
}{
	{workflow.Create, "+", styleGreen},
	{workflow.Update, "~", styleYellow},
	{workflow.Delete, "-", styleRed},
	{workflow.Run, "!", stylePlain},
}

// ANSI's codes for how text looks (ECMA-48, SGR).
const (
	stylePlain  = ""
	styleBold   = "1"
	styleFaint  = "2"
	styleRed    = "31"
	styleGreen  = "32"
	styleYellow = "33"
	styleCyan   = "36"
)

// colorful tells whether w is a terminal that is to have colors; NO_COLOR (https://no-color.org) says that it is not.
func colorful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// writePlan shows a plan to people: the changes of each host in the document's order, then those of the cluster, what could
// not be looked at, and a line that sums it up. Hosts on which the same changes share their lines.
func writePlan(out io.Writer, d planDocument, opts planViewOptions) error {
	v := &planView{planViewOptions: opts}
	fmt.Fprintf(&v.out, "%s\n", v.paint(styleBold, "Cluster "+printable(d.Cluster)+", Kubernetes "+printable(d.KubernetesVersion)))
	v.hosts(d)
	if len(d.ClusterPhases) > 0 {
		v.title("cluster")
		v.phases("", d.ClusterPhases)
	}
	v.errors(d.Errors)
	fmt.Fprintf(&v.out, "\n%s\n", v.paint(styleBold, planSummary(d)))
	_, err := out.Write(v.out.Bytes())
	return err
}

// planView is the text as it grows.
type planView struct {
	planViewOptions
	out bytes.Buffer
}

func (v *planView) paint(style, text string) string {
	if !v.Color || style == stylePlain || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (v *planView) title(text string) { fmt.Fprintf(&v.out, "\n%s\n", v.paint(styleBold, text)) }

// hosts shows hosts with changes, those with the same ones at the place of the first, and names the others.
func (v *planView) hosts(d planDocument) {
	var texts, idle []string
	var names [][]string // beside texts
	for _, h := range d.Hosts {
		failed := slices.ContainsFunc(d.Errors, func(e planError) bool { return e.Host == h.Name })
		if len(h.Phases) == 0 {
			if !failed {
				idle = append(idle, printable(h.Name))
			}
			continue
		}
		body := planView{planViewOptions: v.planViewOptions}
		body.phases(h.Name, h.Phases)
		i := slices.Index(texts, body.out.String())
		if i < 0 {
			i = len(texts)
			texts, names = append(texts, body.out.String()), append(names, nil)
		}
		names[i] = append(names[i], printable(h.Name))
	}
	for i, text := range texts {
		v.title(strings.Join(names[i], ", "))
		v.out.WriteString(text)
	}
	if len(idle) > 0 {
		fmt.Fprintf(&v.out, "\n%s: no changes\n", v.paint(styleBold, strings.Join(idle, ", ")))
	}
}

// planColumn is the width of phases' names. Longer ones push their change aside.
const planColumn = 18

func (v *planView) phases(host string, phases []planPhase) {
	for _, p := range phases {
		name := printable(p.Name)
		line := func(text string) {
			fmt.Fprintf(&v.out, "  %-*s %s\n", planColumn, name, text)
			name = ""
		}
		if !v.Diff && !v.Verbose && len(p.Changes) > maxPlanLines {
			line(v.brief(host, p.Changes))
			continue
		}
		for _, c := range p.Changes {
			text := v.sign(c.Action) + " " + string(c.Action) + " " + printable(ownName(c.Object, host))
			if c.Detail != "" {
				text += " (" + printable(c.Detail) + ")"
			}
			line(v.paint(styleOf(c.Action), text))
			if v.Diff {
				v.diff(c.Diff)
			}
		}
	}
}

func (v *planView) sign(action workflow.Action) string {
	for _, s := range planSigns {
		if s.action == action {
			return s.sign
		}
	}
	return " "
}

func styleOf(action workflow.Action) string {
	for _, s := range planSigns {
		if s.action == action {
			return s.style
		}
	}
	return stylePlain
}

// ownName is an object that has a host's name in it, without it: "Node w-1" is the same on every host.
func ownName(object, host string) string {
	if kind, ok := strings.CutSuffix(object, " "+host); ok && host != "" {
		return "its " + kind
	}
	return object
}

const planIndent = "      "

func (v *planView) diff(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		style := stylePlain
		switch {
		case strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "+++ "):
			style = styleBold
		case strings.HasPrefix(line, "@@"):
			style = styleCyan
		case strings.HasPrefix(line, "+"):
			style = styleGreen
		case strings.HasPrefix(line, "-"):
			style = styleRed
		case strings.HasPrefix(line, "("), strings.HasPrefix(line, "..."):
			style = styleFaint
		}
		fmt.Fprintf(&v.out, "%s%s\n", planIndent, v.paint(style, printable(line)))
	}
}

func (v *planView) errors(all []planError) {
	if len(all) == 0 {
		return
	}
	v.title("could not be looked at")
	for i, e := range all {
		same := func(o planError) bool { return o.Host == e.Host && o.Error == e.Error }
		if slices.ContainsFunc(all[:i], same) {
			continue // told with the first
		}
		var phases []string
		for _, o := range all {
			if same(o) && o.Phase != "" {
				phases = append(phases, printable(o.Phase))
			}
		}
		text := e.Error
		for _, where := range []string{strings.Join(phases, ", "), printable(e.Host)} {
			if where != "" && !strings.HasPrefix(text, where+": ") { // the transports name their host
				text = where + ": " + text
			}
		}
		for i, line := range strings.Split(strings.ReplaceAll(text, "; hint: ", "\nhint: "), "\n") {
			if i > 0 {
				v.out.WriteString("    ")
			}
			fmt.Fprintf(&v.out, "  %s\n", v.paint(styleRed, printable(line)))
		}
	}
}

// planSummary is the last line.
func planSummary(d planDocument) string {
	unseen := ""
	if len(d.Errors) > 0 {
		unseen = fmt.Sprintf(" %s kept it from being whole.", count(len(d.Errors), "error"))
	}
	if d.Changes == 0 && unseen != "" {
		return "Plan: no changes in what could be looked at." + unseen
	}
	if d.Changes == 0 {
		return "Plan: no changes. The cluster is as the document says."
	}
	var parts []string
	for i, n := range []int{d.Summary.Create, d.Summary.Update, d.Summary.Delete, d.Summary.Run} {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", n, planSigns[i].action))
		}
	}
	var where []string
	hosts := 0
	for _, h := range d.Hosts {
		if len(h.Phases) > 0 {
			hosts++
		}
	}
	if hosts > 0 {
		where = append(where, fmt.Sprintf("on %d of %s", hosts, count(len(d.Hosts), "host")))
	}
	if len(d.ClusterPhases) > 0 {
		where = append(where, "in the cluster")
	}
	return "Plan: " + strings.Join(parts, ", ") + " " + strings.Join(where, " and ") + ". Nothing has been changed." + unseen
}

// printable has no character in it that a terminal takes for an order: a plan shows what others have written.
func printable(text string) string {
	if !strings.ContainsFunc(text, isControl) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isControl(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func isControl(r rune) bool {
	return r != '\t' && !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r)
}
