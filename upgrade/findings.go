package upgrade

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/cri"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/status"
)

// Finding is something that stands in the way of an upgrade, or that whoever upgrades should know.
type Finding struct {
	Name    string `json:"name"`  // stable: --ignore-preflight-errors takes it
	Where   string `json:"where"` // as cp-1, etcd, or cluster
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Fatal   bool   `json:"fatal"` // the upgrade is refused, unless the name is ignored
}

// The names of findings.
const (
	FindingVersion      = "version-policy" // the version cannot be gone to
	findingSkew         = "version-skew"
	findingAPI          = "api-server"
	findingControlPlane = "control-plane-health"
	findingEtcd         = "etcd-health"
	findingSpare        = "etcd-fault-tolerance"
	findingUnreachable  = "host-unreachable"
	findingHost         = "host-survey"
	findingNoNode       = "host-without-node"
	findingNoHost       = "node-without-host"
	findingReady        = "node-not-ready"
	findingRuntime      = "container-runtime"
	findingManifest     = "static-pod"
	findingKept         = "addon-kept"
	findingCorefile     = "corefile"
	findingFlag         = "removed-flag"
	findingGate         = "removed-feature-gate"
	findingRequested    = "removed-api"
	findingBudget       = "disruption-budget"
	findingExpired      = "certificate-expired"
	findingEnding       = "certificate-ending"
	findingDisk         = "disk-space"
	findingBundle       = "bundle-version"
	findingIncomplete   = "bundle-incomplete"
	findingUnknown      = "unknown"
)

// whereCluster is the place of what is no host's.
const whereCluster = "cluster"

// certificateNotice is what is left of a certificate that should be renewed before the cluster is touched.
const certificateNotice = 7 * 24 * time.Hour

// Findings judges a cluster for an upgrade, the root of a trouble before what it causes. Where nothing would change,
// nothing is fatal.
func Findings(s *State, to Target) []Finding { return MakePlan(s, to).Findings }

func findings(s *State, to Target, p *Plan) []Finding {
	j := findingJudge{s: s, to: to, plan: p, list: []Finding{}}
	j.versions()
	j.hosts()
	j.health()
	j.nodes()
	for i := range p.Hosts {
		if h := s.Host(p.Hosts[i].Name); h.Err == nil {
			j.settings(h)
			j.artifacts(h, &p.Hosts[i])
			j.disks(h, &p.Hosts[i])
		}
	}
	j.certificates()
	j.addons()
	j.workloads()
	for _, err := range s.Unknown {
		j.warn(findingUnknown, whereCluster, "", "could not be asked: %v", err)
	}
	if p.Changes == 0 {
		for i := range j.list {
			j.list[i].Fatal = false
		}
	}
	return j.list
}

type findingJudge struct {
	s    *State
	to   Target
	plan *Plan
	list []Finding
}

func (j *findingJudge) refuse(name, where, hint, format string, args ...any) {
	j.add(true, name, where, hint, format, args...)
}

func (j *findingJudge) warn(name, where, hint, format string, args ...any) {
	j.add(false, name, where, hint, format, args...)
}

// add adds a finding. Messages of other programs may have several lines; a hint may be in the message.
func (j *findingJudge) add(fatal bool, name, where, hint, format string, args ...any) {
	message := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	if hint == "" {
		message, hint, _ = strings.Cut(message, "; hint: ")
	}
	j.list = append(j.list, Finding{name, where, message, hint, fatal})
}

func (j *findingJudge) versions() {
	if j.s.Report.APIError != "" {
		j.refuse(findingAPI, whereCluster, "", "the API does not answer: %s", j.s.Report.APIError)
	}
	if err := checkTargets(append([]string{j.plan.From}, j.s.apiServers()...), j.to.Version, j.to.Force); err != nil {
		j.refuse(FindingVersion, whereCluster, "", "%v", err)
		return // which programs may meet is then beside the point
	}
	for _, err := range CheckSkew(j.to.Version, j.running()) {
		j.refuse(findingSkew, whereCluster, "", "%v", err)
	}
	if j.to.Bundle != "" && j.to.Bundle != j.to.Version {
		j.refuse(findingBundle, whereCluster, "name the bundle of "+j.to.Version, "the bundle is of Kubernetes %s", j.to.Bundle)
	}
}

// running are the programs that the skew policy speaks of, on hosts by what runs and on other nodes by what the API says. An
// API server that is down counts as what its static pod asks for: it may be one that an upgrade has just replaced.
func (j *findingJudge) running() []Running {
	var all []Running
	for i := range j.s.Hosts {
		h := &j.s.Hosts[i]
		for _, name := range []string{manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName, kubelet, manifests.KubeProxyName} {
			v := h.Version(name)
			if name == manifests.APIServerName && v == "" && h.ControlPlane {
				image, _ := manifests.PodImage(h.Manifests[name]) // that it has none is a finding of its own
				if _, err := config.ParseVersion(staticpod.ImageVersion(image)); err == nil {
					v = staticpod.ImageVersion(image)
				}
			}
			if v != "" {
				all = append(all, Running{name, h.Name, v})
			}
		}
	}
	for _, n := range j.s.Report.Nodes {
		if n.Registered && n.KubeletVersion != "" && j.s.Host(n.Name) == nil {
			all = append(all, Running{kubelet, n.Name, n.KubeletVersion})
		}
	}
	return all
}

func (j *findingJudge) hosts() {
	for _, m := range j.s.Report.Missing {
		if m.ControlPlane {
			j.refuse(findingUnreachable, m.Name, "", "the host was not reached: %s", m.Error)
		} else {
			j.warn(findingUnreachable, m.Name, "", "the host was not reached, and its kubelet stays behind: %s", m.Error)
		}
	}
	for _, h := range j.s.Hosts {
		if h.Err != nil {
			j.refuse(findingHost, h.Name, "", "%v", h.Err)
		}
	}
}

func (j *findingJudge) hostPlan(name string) *HostPlan {
	i := slices.IndexFunc(j.plan.Hosts, func(h HostPlan) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	return &j.plan.Hosts[i]
}

// mends tells whether an upgrade of the host was begun, so that what is ill there is for it to mend.
func (j *findingJudge) mends(name string) bool {
	h := j.hostPlan(name)
	return h != nil && h.begun()
}

func (j *findingJudge) health() {
	for _, p := range j.s.Report.ControlPlanes {
		for _, c := range p.Components {
			if !c.Healthy {
				j.add(!j.mends(p.Name), findingControlPlane, p.Name, "", "%s is not healthy: %s", c.Name, c.Reason)
			}
		}
	}
	e := j.s.Report.Etcd
	switch {
	case e.Error != "":
		j.refuse(findingEtcd, manifests.EtcdName, "", "%s", e.Error)
	case !e.Quorum:
		j.refuse(findingEtcd, manifests.EtcdName, "start the members that are down first", "there is no quorum: nothing can be written")
	}
	voters := 0
	for _, m := range e.Members {
		if !m.Healthy {
			j.add(!j.mends(m.Name), findingEtcd, "etcd member "+cmp.Or(m.Name, m.ID), "", "%s", strings.TrimSuffix(m.Health+": "+m.Error, ": "))
		}
		if m.Role != "learner" {
			voters++
		}
	}
	if e.Error == "" && e.Quorum && voters == 2 && !e.External {
		j.warn(findingSpare, manifests.EtcdName, "a third control plane lets one be away", "with two members, nothing can be written while one of them starts anew")
	}
}

func (j *findingJudge) nodes() {
	if j.s.Report.APIError != "" {
		return // nothing is known of them
	}
	for _, h := range j.plan.Hosts {
		n := j.s.node(h.Name)
		switch {
		case n == nil:
			j.refuse(findingNoNode, h.Name, "myadm apply -f, or myadm join, makes it one; or leave it out", "the host is no node of the cluster")
		case !n.Ready:
			j.add(h.changes > 0 && !h.begun(), findingReady, h.Name, "", "the node is not Ready: %s", n.Reason)
		}
		if n != nil {
			j.runtime(n)
		}
	}
	for _, n := range j.s.Report.Nodes {
		missing := slices.ContainsFunc(j.s.Report.Missing, func(m status.MissingHost) bool { return m.Name == n.Name })
		if !n.Registered || missing || j.s.Host(n.Name) != nil {
			continue
		}
		const hint = "add it to the document, or name it with --host"
		if slices.Contains(n.Roles, string(config.RoleControlPlane)) {
			j.refuse(findingNoHost, n.Name, hint, "the node is a control plane, and none of the hosts")
		} else {
			j.warn(findingNoHost, n.Name, hint, "the node is none of the hosts, and its kubelet %s stays behind", n.KubeletVersion)
		}
	}
}

// runtime finds a container runtime with which the new kubelet would not start, as the node's own status names it. One that
// myadm brought, an upgrade brings anew.
func (j *findingJudge) runtime(n *status.Node) {
	name, version, known := strings.Cut(n.Runtime, "://")
	h := j.s.Host(n.Name)
	if !known || h == nil || h.Err != nil || h.OwnRuntime {
		return
	}
	if err := cri.Fits(j.to.Version, name, version); err != nil {
		ours := name == cri.Containerd || name == cri.CRIO // of others, myadm does not know what fits
		j.add(ours, findingRuntime, n.Name, "", "%v", err)
	}
}

// certificates makes one finding of all certificates of a host that have ended, and one of those that end soon.
func (j *findingJudge) certificates() {
	now := j.s.Report.Time
	for _, p := range j.s.Report.ControlPlanes {
		if p.CertificateError != "" {
			j.warn(findingEnding, p.Name, "", "certificates cannot be read: %s", p.CertificateError)
		}
		var ended, ending []string
		for _, c := range p.Certificates {
			switch name := c.Name + " (" + c.Expires.UTC().Format(time.DateOnly) + ")"; {
			case !c.Expires.After(now):
				ended = append(ended, name)
			case c.Expires.Sub(now) < certificateNotice:
				ending = append(ending, name)
			}
		}
		const hint = "renew them first, or the host's components may not find each other when they start"
		if len(ended) > 0 {
			j.refuse(findingExpired, p.Name, hint, "certificates have ended: %s", strings.Join(ended, ", "))
		}
		if len(ending) > 0 {
			j.warn(findingEnding, p.Name, hint, "certificates end within 7 days: %s", strings.Join(ending, ", "))
		}
	}
}

// addons finds addons that stay as they are, and a Corefile that has to be rewritten by hand.
func (j *findingJudge) addons() {
	for _, a := range j.s.Addons {
		w := a.at(j.to)
		if _, kept := w.next(); kept != "" {
			j.warn(findingKept, whereCluster, "", "%s %s", w.ref, kept)
		}
		if _, _, err := j.s.corefile(a, j.to); err != nil {
			j.refuse(findingCorefile, whereCluster, "", "ConfigMap kube-system/%s: %v", coreDNS, err)
		}
	}
}

// workloads are what users run, which no finding about it refuses: who asks for a removed API may have a newer one to ask
// for, and a drain waits for a budget.
func (j *findingJudge) workloads() {
	for _, r := range j.s.Requested {
		if reaches(j.to.Version, r.Removed) {
			j.warn(findingRequested, whereCluster, "find who asks for it in the audit log (annotation k8s.io/deprecated), and move it to a newer version",
				"%s was asked for on %s, and Kubernetes %s does not have it", r, strings.Join(r.Hosts, ", "), r.Removed)
		}
	}
	for _, b := range j.s.Budgets {
		where := "no node yet"
		if len(b.Nodes) > 0 {
			where = strings.Join(b.Nodes, ", ")
		}
		j.warn(findingBudget, b.Namespace+"/"+b.Name, "let it have a replica more than it needs, or the drain waits until it times out",
			"the PodDisruptionBudget lets no pod go now; its pods are on %s", where)
	}
}

// reaches tells whether a version is of a minor, such as 1.38, or of a later one.
func reaches(version, minor string) bool {
	v, err := semver.NewVersion(version)
	if err != nil {
		return false
	}
	m, err := semver.NewVersion(minor)
	return err == nil && minorsOver(v, m) >= 0
}
