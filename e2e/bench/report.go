package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// The contenders' names in reports; kubeadm's may be followed by an algorithm.
const (
	nameMyadm   = "myadm"
	nameKubeadm = "kubeadm"
)

// What is measured.
const (
	preparedInit = "init"
	preparedJoin = "join of two workers"
	bareInit     = "init of a bare host"
	bareShare    = "its copying and importing alone"
	bareJoin     = "join of two bare workers"
)

// target is the ratio of init that myadm is to reach.
const target = 0.9

// report is what was measured.
type report struct {
	Kubernetes string   `json:"kubernetesVersion"`
	CPUs       int      `json:"cpus"` // of the machine, shared by all hosts
	Rounds     int      `json:"rounds"`
	Series     []series `json:"series"`
	Compared   []ratio  `json:"ratios,omitempty"`

	inits []times // of myadm, on prepared hosts
}

// series is one thing measured several times, in seconds.
type series struct {
	What  string    `json:"what"`
	Tool  string    `json:"tool"`
	End   []float64 `json:"end"`   // until the command ended
	Ready []float64 `json:"ready"` // until its nodes were Ready; for myadm that is when it ends
}

// ratio compares the medians of a command's time: what myadm needs until its nodes are Ready, and kubeadm to its end.
type ratio struct {
	What    string  `json:"what"`
	Tool    string  `json:"tool"` // that myadm is compared with
	Myadm   float64 `json:"myadm"`
	Kubeadm float64 `json:"kubeadm"`
	Ratio   float64 `json:"ratio"`
}

// add adds a measurement to its series.
func (r *report) add(what, tool string, t times) {
	i := slices.IndexFunc(r.Series, func(s series) bool { return s.What == what && s.Tool == tool })
	if i < 0 {
		i = len(r.Series)
		r.Series = append(r.Series, series{What: what, Tool: tool})
	}
	s := &r.Series[i]
	s.End, s.Ready = append(s.End, t.end.Seconds()), append(s.Ready, t.ready.Seconds())
	if what == preparedInit && tool == nameMyadm {
		r.inits = append(r.inits, t)
	}
}

// of returns a series; without measurements if there is none.
func (r *report) of(what, tool string) series {
	i := slices.IndexFunc(r.Series, func(s series) bool { return s.What == what && s.Tool == tool })
	if i < 0 {
		return series{What: what, Tool: tool}
	}
	return r.Series[i]
}

// median is the middle value, or the mean of the two in the middle; zero of none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratios compares myadm with every way of kubeadm.
func (r *report) ratios() []ratio {
	var all []ratio
	for _, s := range r.Series {
		if s.Tool == nameMyadm || len(s.End) == 0 {
			continue
		}
		mine, theirs := median(r.of(s.What, nameMyadm).Ready), median(s.End)
		all = append(all, ratio{What: s.What, Tool: s.Tool, Myadm: mine, Kubeadm: theirs, Ratio: mine / theirs})
	}
	return all
}

// typical are the phases of the init whose time is the median, or the one below.
func (r *report) typical() times {
	if len(r.inits) == 0 {
		return times{}
	}
	sorted := slices.SortedFunc(slices.Values(r.inits), func(a, b times) int { return cmp.Compare(a.end, b.end) })
	return sorted[(len(sorted)-1)/2]
}

func (r *report) writeJSON(w io.Writer) error {
	r.Compared = r.ratios()
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		*report
		Phases []phase `json:"phases"` // of myadm's init on a prepared host
	}{r, r.typical().phases})
}

func (r *report) writeText(out io.Writer) error {
	fmt.Fprintf(out, "\nKubernetes %s on a machine with %d CPUs, %d rounds, in seconds. Unless bare, hosts have runtime, binaries\n"+
		"and images. Keys: myadm ECDSA-P256, kubeadm RSA-2048 if no other is named.\n\n", r.Kubernetes, r.CPUs, r.Rounds)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\tmin\tmedian\tmax\t\n", pad(""))
	for _, s := range r.Series {
		row := func(until string, values []float64) {
			fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t\n", pad(s.What+": "+s.Tool+until), slices.Min(values), median(values), slices.Max(values))
		}
		if s.Tool == nameMyadm {
			row(", to Ready", s.Ready)
			continue
		}
		row(", to its end", s.End)
		row(", to Ready", s.Ready)
	}
	if err := w.Flush(); err != nil {
		return err
	}

	fmt.Fprintf(out, "\nmyadm's init, phase by phase (median round):\n")
	for _, p := range r.typical().phases {
		fmt.Fprintf(out, "  %5.1f to %4.1f  %-18s %s\n", p.From, p.To, p.Name, p.Text)
	}

	fmt.Fprintln(out)
	for _, c := range r.ratios() {
		goal := ""
		if c.What == preparedInit {
			goal = fmt.Sprintf(" (target %.1f)", target)
		}
		fmt.Fprintf(out, "%s: myadm %.1f s, %s %.1f s, ratio %.2f%s\n", c.What, c.Myadm, c.Tool, c.Kubeadm, c.Ratio, goal)
	}
	whole, share, rest := median(r.of(bareInit, nameMyadm).Ready), median(r.of(bareShare, nameMyadm).Ready), median(r.of(preparedInit, nameMyadm).Ready)
	_, err := fmt.Fprintf(out, "bare host: %.1f s to Ready; copying and importing %.1f s + init %.1f s = %.1f s, ratio %.2f (target 1.0)\n",
		whole, share, rest, share+rest, whole/(share+rest))
	return err
}

// pad makes a heading of a row as wide as the others: the table's figures are aligned to the right, its headings to the left.
func pad(s string) string { return fmt.Sprintf("%-52s", s) }
