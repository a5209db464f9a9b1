package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/myadm/myadm/config"
)

const (
	// soon is how long before its end a certificate is worth a warning: kubelets have renewed theirs by then, and people
	// have a month's notice.
	soon = 30 * 24 * time.Hour

	// farBehind is a lag with which a member is sent the whole database: what etcd's leader keeps for those that are slow
	// (its SnapshotCatchUpEntries).
	farBehind = 5000
)

// Judge says what is wrong with a cluster, the root of a trouble before what it causes. A control plane that is the only
// one is not wrong for that.
func Judge(r *Report) []Warning {
	j := judge{list: []Warning{}}
	j.hosts(r)
	j.api(r)
	j.nodes(r)
	for _, p := range r.ControlPlanes {
		j.components(p)
		j.certificates(p, r.Time)
	}
	j.etcd(r.Etcd)
	j.endpoint(r.Endpoint)
	return j.list
}

type judge struct{ list []Warning }

// warn adds a warning. Messages of other programs may have several lines.
func (j *judge) warn(object, hint, format string, args ...any) {
	message := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	if hint == "" {
		message, hint, _ = strings.Cut(message, "; hint: ")
	}
	j.list = append(j.list, Warning{object, message, hint})
}

func (j *judge) hosts(r *Report) {
	for _, h := range r.Missing {
		j.warn("host "+h.Name, "", "was not reached: %s", h.Error)
	}
}

func (j *judge) api(r *Report) {
	if r.APIError != "" {
		j.warn("API", "", "does not answer: %s", r.APIError)
	}
}

func (j *judge) nodes(r *Report) {
	if r.APIError != "" {
		return // nothing is known of them
	}
	for _, n := range r.Nodes {
		object := "node " + n.Name
		switch {
		case !n.Registered:
			j.warn(object, "myadm apply -f, or myadm join -f, makes it one", "is in the document, and no node of the cluster")
		case !n.Ready:
			j.warn(object, "", "is not Ready: %s", n.Reason)
		}
		if n.Registered && n.Reached && slices.Contains(n.Roles, string(config.RoleControlPlane)) && !r.runsControlPlane(n.Name) {
			j.warn("control plane "+n.Name, "", "has no static pod of its own on its host")
		}
	}
}

func (r *Report) runsControlPlane(name string) bool {
	return slices.ContainsFunc(r.ControlPlanes, func(p ControlPlane) bool { return p.Name == name })
}

func (j *judge) components(p ControlPlane) {
	for _, c := range p.Components {
		if !c.Healthy {
			j.warn("control plane "+p.Name, "", "%s is not healthy: %s", c.Name, c.Reason)
		}
	}
}

// certificates makes one warning of all certificates that end soon: those of a host were in general made in one go.
func (j *judge) certificates(p ControlPlane, now time.Time) {
	object := "control plane " + p.Name
	if p.CertificateError != "" {
		j.warn(object, "", "certificates cannot be read: %s", p.CertificateError)
	}
	first, ok := p.Soonest()
	if !ok || first.Expires.Sub(now) >= soon {
		return
	}
	ending := 0
	for _, c := range p.Certificates {
		if c.Expires.Sub(now) < soon {
			ending++
		}
	}
	others := ""
	if ending > 1 {
		others = fmt.Sprintf(", and %d more within 30 days", ending-1)
	}
	day := first.Expires.UTC().Format(time.DateOnly)
	if first.Expires.Before(now) {
		j.warn(object, "", "certificate %s has expired on %s%s", first.Name, day, others)
	} else {
		j.warn(object, "", "certificate %s ends on %s%s", first.Name, day, others)
	}
}

func (j *judge) etcd(e Etcd) {
	if e.Error != "" {
		j.warn("etcd", "", "%s", e.Error)
	}
	voters := 0
	for _, m := range e.Members {
		object := "etcd member " + m.title()
		switch {
		case m.Role == learner && m.Healthy:
			j.warn(object, "myadm apply -f, or myadm join -f, promotes it", "is a learner, and does not vote yet")
		case m.Name == "":
			j.warn(object, "myadm apply -f, or myadm join -f, goes on with it or clears it", "was added and never started")
		case !m.Healthy && m.Error != "":
			j.warn(object, "", "%s: %s", m.Health, m.Error)
		case !m.Healthy:
			j.warn(object, "", "%s", m.Health)
		case m.Lag != nil && *m.Lag > farBehind:
			j.warn(object, "", "is %d entries behind the leader", *m.Lag)
		}
		if m.Role != learner {
			voters++
		}
	}
	switch {
	case e.Error != "" || voters == 0:
	case !e.Quorum:
		j.warn("etcd", "start the members that are down; myadm etcd restore is for those that are gone for good", "has no quorum: nothing can be written")
	case e.FaultTolerance == 0 && voters > 1:
		j.warn("etcd", margin(voters), "one more failure stops the cluster: %d of %d voting members work, %d have to", voting(e.Members), voters, voters/2+1)
	}
}

// margin is the way to a cluster that outlives a failure.
func margin(voters int) string {
	if voters == 2 {
		return "a third control plane lets one fail; of two, none may"
	}
	return "bring back the members that are down, or replace them"
}

// voting is the number of voting members that work.
func voting(members []Member) int {
	n := 0
	for _, m := range members {
		if m.Role != learner && m.Healthy {
			n++
		}
	}
	return n
}

// title is the member in messages: its name, or its peer URL while it has none.
func (m Member) title() string {
	switch {
	case m.Name != "":
		return m.Name
	case len(m.PeerURLs) > 0:
		return m.PeerURLs[0]
	}
	return m.ID
}

func (j *judge) endpoint(e Endpoint) {
	for _, a := range e.Answers {
		if !a.OK {
			j.warn("endpoint "+e.NodeAddress, "", "does not answer on %s: %s", a.Host, a.Error)
		}
	}
}
