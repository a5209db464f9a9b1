package workflow

import "github.com/myadm/myadm/host"

// State is how a run has ended on a host.
type State string

// The states.
const (
	Finished   State = "done"
	Broken     State = "failed"      // a phase failed there
	Unfinished State = "unfinished"  // phases are left that the run did not come to
	Unreached  State = "not-reached" // there was no connection; a run does not know, whoever connects does
)

// Outcome is how far a run has come on one host.
type Outcome struct {
	Host   string   `json:"host"` // empty: the cluster itself
	State  State    `json:"state"`
	Phase  string   `json:"phase,omitempty"` // of Broken: the one that failed
	Error  string   `json:"error,omitempty"` // of Broken and Unreached
	Phases int      `json:"phases"`          // how many there are
	Left   []string `json:"left"`            // those that are not done, in the order of the steps
}

// Outcomes tells from the events of a run of the steps what it has brought about: on every host in the order in which the
// steps name them, and on the cluster itself.
func (r *Runner) Outcomes(events []Event, steps ...Step) []Outcome {
	type place struct{ phase, host string }
	done, failed := map[place]bool{}, map[place]error{}
	for _, e := range events {
		at := place{e.Phase, e.Host}
		switch e.Kind {
		case Unchanged, Applied:
			done[at] = true
		case Failed:
			failed[at] = e.Err
		}
	}
	var all []Outcome
	index := map[string]int{}
	for _, p := range collect(steps) {
		if !r.Selected(p.Name) {
			continue
		}
		for _, h := range p.places() {
			name := nameOf(h)
			i, ok := index[name]
			if !ok {
				i = len(all)
				index[name] = i
				all = append(all, Outcome{Host: name, State: Finished, Left: []string{}})
			}
			o, at := &all[i], place{p.Name, name}
			o.Phases++
			err, broken := failed[at]
			switch {
			case broken:
				o.State, o.Phase = Broken, p.Name
				if err != nil {
					o.Error = err.Error()
				}
			case done[at]:
				continue
			case o.State == Finished:
				o.State = Unfinished
			}
			o.Left = append(o.Left, p.Name)
		}
	}
	return all
}

func nameOf(h host.Host) string {
	if h == nil {
		return ""
	}
	return h.Name()
}
