package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// The contenders' names in reports; kubeadm's may be followed by an algorithm.
const (
	nameMyadm   = "myadm"
	nameKubeadm = "kubeadm"

	// scp, tar, ctr and kubeadm, by a script that does its hosts in a loop; or, as few do, with "&" and wait.
	nameScript       = "script, host after host"
	nameScriptAtOnce = "script, hosts at once"
)

// What is measured.
const (
	preparedInit = "init"
	preparedBoth = "init, then join of two workers"
	preparedJoin = "join of two workers"
	bareInit     = "bare host: init"
	bareShare    = "bare host: copying and importing alone"
	bareJoin     = "two bare hosts: join"

	bareFive        = "five bare hosts: a control plane and four workers"
	preparedCluster = "three control planes and two workers"
	bareCluster     = "five bare hosts: three control planes and two workers"

	farCluster = "latency: three control planes and two workers"
	farAgain   = "latency: apply on that cluster, finished"

	preparedUpgrade = "upgrade of three control planes and two workers"
	upgradeShare    = "upgrade: bringing images and binaries alone"
	wholeUpgrade    = "upgrade, with the bringing before it"
)

// wholes are what kubeadm's users need many commands for: theirs is the time until all nodes were Ready.
var wholes = []string{bareFive, preparedCluster, preparedUpgrade, wholeUpgrade}

// targets are the ratios that myadm is to reach.
var targets = map[string]float64{preparedInit: 0.9, bareFive: 0.5, preparedCluster: 0.4, preparedUpgrade: 0.2, wholeUpgrade: 0.2}

// report is what was measured.
type report struct {
	Kubernetes string   `json:"kubernetesVersion"`
	CPUs       int      `json:"cpus"` // of the machine, shared by all hosts
	Series     []series `json:"series"`
	Scale      []scaled `json:"scale,omitempty"`
}

// series is one thing measured several times, in seconds.
type series struct {
	What   string    `json:"what"`
	Tool   string    `json:"tool"`
	End    []float64 `json:"end"`              // until the command ended
	Ready  []float64 `json:"ready"`            // until its nodes were Ready; for myadm that is when it ends
	Phases []phase   `json:"phases,omitempty"` // of the run whose time is the median, or next below it

	runs []times
}

// ratio compares the medians of a command's time, in seconds.
type ratio struct {
	What  string  `json:"what"`
	Tool  string  `json:"tool"`  // that myadm is compared with
	Myadm float64 `json:"myadm"` // until all nodes were Ready
	Other float64 `json:"other"` // until the tool ended; of wholes, until all nodes were Ready
	Ratio float64 `json:"ratio"`
}

// sum compares init on a bare host with its two parts, all by their medians, in seconds.
type sum struct {
	Whole float64 `json:"whole"`
	Share float64 `json:"copyingAndImporting"`
	Rest  float64 `json:"preparedInit"`
	Ratio float64 `json:"ratio"`
}

// find returns a series, or nil.
func (r *report) find(what, tool string) *series {
	i := slices.IndexFunc(r.Series, func(s series) bool { return s.What == what && s.Tool == tool })
	if i < 0 {
		return nil
	}
	return &r.Series[i]
}

// add adds a measurement to its series.
func (r *report) add(what, tool string, t times) {
	s := r.find(what, tool)
	if s == nil {
		r.Series = append(r.Series, series{What: what, Tool: tool})
		s = &r.Series[len(r.Series)-1]
	}
	s.End, s.Ready = append(s.End, t.end.Seconds()), append(s.Ready, t.ready.Seconds())
	s.runs = append(s.runs, t)
	sorted := slices.SortedFunc(slices.Values(s.runs), func(a, b times) int { return cmp.Compare(a.end, b.end) })
	s.Phases = sorted[(len(sorted)-1)/2].phases
}

// median is the middle value, or the mean of the two in the middle. There is at least one.
func median(values []float64) float64 {
	n := len(values)
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratios compares myadm with every way of kubeadm, by what is measured of both.
func (r *report) ratios() []ratio {
	var all []ratio
	for _, s := range r.Series {
		mine := r.find(s.What, nameMyadm)
		if s.Tool == nameMyadm || mine == nil {
			continue
		}
		theirs := s.End
		if slices.Contains(wholes, s.What) {
			theirs = s.Ready
		}
		a, b := median(mine.Ready), median(theirs)
		all = append(all, ratio{What: s.What, Tool: s.Tool, Myadm: a, Other: b, Ratio: a / b})
	}
	return all
}

// bare compares a bare host's init with its parts; nil when one of them was not measured.
func (r *report) bare() *sum {
	whole, share, rest := r.find(bareInit, nameMyadm), r.find(bareShare, nameMyadm), r.find(preparedInit, nameMyadm)
	if whole == nil || share == nil || rest == nil {
		return nil
	}
	s := sum{Whole: median(whole.Ready), Share: median(share.Ready), Rest: median(rest.Ready)}
	s.Ratio = s.Whole / (s.Share + s.Rest)
	return &s
}

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		*report
		Ratios []ratio `json:"ratios"`
		Bare   *sum    `json:"bare,omitempty"`
	}{r, r.ratios(), r.bare()})
}

// writeText prints the report for people, with every phase of myadm's if they are asked for. Of an upgrade they always are
// told, and kubeadm's commands likewise; of five bare hosts, the sums.
func (r *report) writeText(w io.Writer, phases bool) error {
	p := printer{w: w, width: r.width()}
	p.scale(r.Scale)
	if len(r.Series) == 0 {
		return p.err
	}
	p.line("\nKubernetes %s, all hosts on one machine with %d CPUs; seconds. A host that is not called bare has its runtime,", r.Kubernetes, r.CPUs)
	p.line("binaries and images. Keys: myadm ECDSA-P256, kubeadm RSA-2048 where no other is named.\n")
	p.line("%-*s %6s %6s %6s", p.width, "", "min", "median", "max")
	for _, s := range r.Series {
		if s.Tool != nameMyadm {
			p.row(s.name("its end"), s.End)
		}
		p.row(s.name("Ready"), s.Ready)
	}
	for _, s := range r.Series {
		if len(s.Phases) > 0 && (phases || s.What == preparedUpgrade) {
			p.phases(s)
		}
		if s.What == preparedUpgrade || s.What == bareFive {
			p.where(s)
		}
	}
	p.line("")
	for _, c := range r.ratios() {
		goal := ""
		if target, ok := targets[c.What]; ok && c.Tool != nameScriptAtOnce {
			goal = fmt.Sprintf(" (target %.1f)", target)
		}
		p.line("%s: myadm %.1f s, %s %.1f s, ratio %.2f%s", c.What, c.Myadm, c.Tool, c.Other, c.Ratio, goal)
	}
	if b := r.bare(); b != nil {
		p.line("bare host: %.1f s to Ready; copying and importing %.1f s + init %.1f s = %.1f s, ratio %.2f (target 1.0)",
			b.Whole, b.Share, b.Rest, b.Share+b.Rest, b.Ratio)
	}
	return p.err
}

// name is that of a row of the report.
func (s series) name(until string) string { return s.What + ", " + s.Tool + ", to " + until }

// width is that of the longest name.
func (r *report) width() int {
	width := 0
	for _, s := range r.Series {
		width = max(width, len(s.name("its end")))
	}
	return width
}

// printer keeps the first error.
type printer struct {
	w     io.Writer
	width int // of rows' names
	err   error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) row(name string, values []float64) {
	p.line("%-*s %6.1f %6.1f %6.1f", p.width, name, slices.Min(values), median(values), slices.Max(values))
}

func (p *printer) phases(s series) {
	p.line("\n%s, %s, phase by phase", s.What, s.Tool)
	for _, f := range s.Phases {
		p.line("%6.1f to %5.1f  %-8s %-18s %s", f.From, f.To, f.Host, f.Name, f.Text)
		for _, s := range f.Steps {
			p.line("%6.1f to %5.1f  %-8s   %s", s.From, s.To, "", s.Name)
		}
	}
}
