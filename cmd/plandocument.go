package cmd

import (
	"cmp"
	"errors"
	"slices"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/workflow"
)

// planVersion is that of the form of planDocument, which docs/plan.md and docs/plan.schema.json describe. What is added to
// it keeps the version; what is removed or means something else gets another.
const planVersion = "myadm.dev/plan/v1"

// planDocument is a plan as -o json gives it, and as planView shows it.
type planDocument struct {
	APIVersion        string        `json:"apiVersion"`
	Cluster           string        `json:"cluster"` // the document's metadata.name
	KubernetesVersion string        `json:"kubernetesVersion"`
	Changes           int           `json:"changes"`
	Summary           planCounts    `json:"summary"`
	Hosts             []planHost    `json:"hosts"`         // all of the document, in its order
	ClusterPhases     []planPhase   `json:"clusterPhases"` // those on the cluster itself, and not on a host
	Warnings          []planWarning `json:"warnings"`      // what phases have to tell, and what stops nothing
	Errors            []planError   `json:"errors"`        // what could not be looked at
}

// planCounts counts changes by their action.
type planCounts struct {
	Create int `json:"create"`
	Update int `json:"update"`
	Delete int `json:"delete"`
	Run    int `json:"run"`
}

// planHost is what changes on a host. Phases that change nothing there are left out.
type planHost struct {
	Name   string      `json:"name"`
	Phases []planPhase `json:"phases"`
}

type planPhase struct {
	Name    string            `json:"name"`
	Changes []workflow.Change `json:"changes"`
}

// planWarning is what a phase tells of a host or, without one, of the cluster.
type planWarning struct {
	Host    string `json:"host,omitempty"`
	Phase   string `json:"phase"`
	Warning string `json:"warning"`
}

// String is the warning as a line on stderr: "w-1: preflight: [Swap] ...".
func (w planWarning) String() string {
	return cmp.Or(w.Host, "cluster") + ": " + w.Phase + ": " + w.Warning
}

// planError is a host that could not be looked at, then without a phase, or a phase on a host or, then without a host, on the
// cluster.
type planError struct {
	Host  string `json:"host,omitempty"`
	Phase string `json:"phase,omitempty"`
	Error string `json:"error"`
}

// newPlanDocument tells a plan for a cluster's hosts. err is what kept it from being whole, joined: the errors of hosts that
// were not reached and of Runner.Plan.
func newPlanDocument(c *cluster.Cluster, p workflow.Plan, err error) planDocument {
	d := planDocument{
		APIVersion: planVersion, Cluster: c.Config.Metadata.Name, KubernetesVersion: c.Config.Spec.KubernetesVersion,
		Changes: p.Changes(), Hosts: []planHost{}, ClusterPhases: []planPhase{}, Warnings: []planWarning{}, Errors: []planError{},
	}
	for _, h := range c.Config.Spec.Hosts {
		d.Hosts = append(d.Hosts, planHost{Name: hostName(h), Phases: []planPhase{}})
	}
	names := map[string]string{} // in the document, by those in messages, which may be addresses
	for _, n := range c.Nodes {
		names[n.Name()] = hostName(n.Spec)
	}
	for _, phase := range p.Phases {
		for _, at := range phase.Hosts {
			host := cmp.Or(names[at.Host], at.Host)
			d.add(host, phase.Name, at.Changes)
			for _, text := range at.Warnings {
				if w := (planWarning{host, phase.Name, text}); !slices.Contains(d.Warnings, w) { // steps of one name may look twice
					d.Warnings = append(d.Warnings, w)
				}
			}
		}
	}
	for _, e := range flatten(err) {
		var at *workflow.PhaseError
		switch {
		case errors.As(e, &at):
			d.Errors = append(d.Errors, planError{Host: cmp.Or(names[at.Host], at.Host), Phase: at.Phase, Error: at.Err.Error()})
		case e != nil:
			d.Errors = append(d.Errors, planError{Host: unreachedBy(c, e), Error: e.Error()})
		}
	}
	return d
}

// hostName is what a host of the document is called: one without a name that was not reached has none yet.
func hostName(h config.Host) string { return cmp.Or(h.Name, h.Address, "this machine") }

// unreachedBy is the host that an error kept from being reached; empty if none.
func unreachedBy(c *cluster.Cluster, err error) string {
	for _, m := range c.Missing {
		if slices.ContainsFunc(flatten(m.Err), func(e error) bool { return e.Error() == err.Error() }) {
			return hostName(m.Spec)
		}
	}
	return ""
}

// add puts changes to a host, or to the cluster when there is none. Steps of one name, for different hosts, are one phase.
func (d *planDocument) add(host, phase string, changes []workflow.Change) {
	if len(changes) == 0 {
		return
	}
	for _, c := range changes {
		d.Summary.count(c.Action)
	}
	phases := &d.ClusterPhases
	if host != "" {
		i := slices.IndexFunc(d.Hosts, func(h planHost) bool { return h.Name == host })
		if i < 0 { // one that is no longer in the document
			i = len(d.Hosts)
			d.Hosts = append(d.Hosts, planHost{Name: host, Phases: []planPhase{}})
		}
		phases = &d.Hosts[i].Phases
	}
	i := slices.IndexFunc(*phases, func(p planPhase) bool { return p.Name == phase })
	if i < 0 {
		i = len(*phases)
		*phases = append(*phases, planPhase{Name: phase})
	}
	(*phases)[i].Changes = append((*phases)[i].Changes, changes...)
}

func (c *planCounts) count(action workflow.Action) {
	switch action {
	case workflow.Create:
		c.Create++
	case workflow.Update:
		c.Update++
	case workflow.Delete:
		c.Delete++
	case workflow.Run:
		c.Run++
	}
}
