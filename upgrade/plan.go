package upgrade

import (
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
)

// Plan is what an upgrade would change, and what stands in its way. Lists are never nil.
type Plan struct {
	From      string     `json:"from"`      // the version of the oldest API server; empty: unknown
	To        string     `json:"to"`        // the version asked for
	Reachable []string   `json:"reachable"` // versions that From can go to, oldest first
	Hosts     []HostPlan `json:"hosts"`     // control planes first, each in the document's order
	Addons    []Item     `json:"addons"`
	Config    []Item     `json:"config"`  // what the cluster keeps of its configuration
	Rights    []string   `json:"rights"`  // roles and bindings that lack what nodes, tokens or administrators need
	Changes   int        `json:"changes"` // 0: everything runs To already
	Findings  []Finding  `json:"findings"`
}

// HostPlan is what an upgrade would change on a host.
type HostPlan struct {
	Name         string   `json:"name"`
	ControlPlane bool     `json:"controlPlane"`
	Components   []Item   `json:"components"`
	Binaries     []string `json:"binaries"`     // paths of the files that would be overwritten, besides static pods
	LoadBalancer []string `json:"loadBalancer"` // what would change of its load balancer of the API servers
	Bytes        int64    `json:"bytes"`        // to be sent to it

	changes int  // of all of these, one for a component together with its binary
	placed  bool // the bundle's kubelet is in its place
}

// Item is something that has a version.
type Item struct {
	Name      string `json:"name"` // as kube-apiserver
	Have      string `json:"have"` // the version that runs; empty: none does
	Want      string `json:"want"`
	HaveImage string `json:"haveImage,omitempty"`
	WantImage string `json:"wantImage,omitempty"`
	Path      string `json:"path,omitempty"` // of what would be overwritten
	Change    bool   `json:"change"`
}

// MakePlan compares what was found with what is wanted.
func MakePlan(s *State, to Target) *Plan {
	p := &Plan{From: s.From(), To: to.Version, Reachable: append([]string{}, Reachable(s.From())...), Hosts: []HostPlan{}, Addons: []Item{}, Config: []Item{}, Rights: []string{}}
	for _, controlPlane := range []bool{true, false} {
		for i := range s.Hosts {
			if h := &s.Hosts[i]; h.ControlPlane == controlPlane {
				p.Hosts = append(p.Hosts, planHost(s, h, to))
			}
		}
	}
	for _, a := range s.Addons {
		item := Item{Name: a.Name, Have: staticpod.ImageVersion(a.Image), Want: staticpod.ImageVersion(a.Image), HaveImage: a.Image, WantImage: a.Image}
		if next, _ := a.at(to).next(); next != "" {
			item.Want, item.WantImage, item.Change = staticpod.ImageVersion(next), next, true
		}
		p.Addons = append(p.Addons, item)
	}
	if s.Report.APIError == "" {
		p.Config = append(p.Config, Item{
			Name: manifests.KubeadmConfigName, Have: s.Version(), Want: to.Version, Change: s.Version() != to.Version,
		})
	}
	for _, change := range s.Rights {
		p.Rights = append(p.Rights, change.Object)
	}
	for _, h := range p.Hosts {
		p.Changes += h.changes
	}
	p.Changes += changing(p.Addons) + changing(p.Config) + len(p.Rights)
	p.Findings = findings(s, to, p)
	return p
}

// Fatal are the findings for which the upgrade would be refused.
func (p *Plan) Fatal() []Finding {
	return slices.DeleteFunc(slices.Clone(p.Findings), func(f Finding) bool { return !f.Fatal })
}

func changing(items []Item) (n int) {
	for _, i := range items {
		if i.Change {
			n++
		}
	}
	return n
}

// From is the version of the oldest API server that runs, else that of the cluster's own configuration; empty if neither is
// known.
func (s *State) From() string {
	var oldest *semver.Version
	for _, version := range s.apiServers() {
		if v := semver.MustParse(version); oldest == nil || v.LessThan(oldest) {
			oldest = v
		}
	}
	if oldest == nil {
		return s.Version()
	}
	return "v" + oldest.String()
}

// apiServers are the versions of the API servers that run, in the order of the hosts.
func (s *State) apiServers() []string {
	var versions []string
	for i := range s.Hosts {
		if v := s.Hosts[i].Version(manifests.APIServerName); s.Hosts[i].ControlPlane && v != "" {
			versions = append(versions, v)
		}
	}
	return versions
}

func planHost(s *State, h *HostState, to Target) HostPlan {
	p := HostPlan{Name: h.Name, ControlPlane: h.ControlPlane, Components: []Item{}, Binaries: []string{}, LoadBalancer: []string{}}
	if h.Err != nil {
		return p
	}
	for _, name := range componentOrder {
		if manifest, ok := h.Manifests[name]; ok && h.ControlPlane && imageFor(name, to.Images) != "" {
			p.Components = append(p.Components, planPod(h, name, manifest, to))
		}
	}
	p.Components = append(p.Components, Item{
		Name: kubelet, Have: h.Version(kubelet), Want: to.Version, Path: h.KubeletPath, Change: !h.programs.Runs(kubelet, to.Version),
	})
	if have := h.Version(manifests.KubeProxyName); have != "" {
		item := Item{Name: manifests.KubeProxyName, Have: have, Want: have}
		if s.proxyReaches(to) && !h.programs.Runs(item.Name, to.Version) {
			item.Want, item.Change = to.Version, true
		}
		p.Components = append(p.Components, item)
	}
	if have := h.Version(containerdName); have != "" {
		want := h.runtimeVersion(have)
		p.Components = append(p.Components, Item{Name: containerdName, Have: have, Want: want, Change: have != want})
	}
	p.changes = changing(p.Components)
	for _, a := range h.Missing {
		if a.Kind != bundle.KindBinary {
			continue
		}
		p.Binaries = append(p.Binaries, h.place(a))
		if !p.moves(a.Name) {
			p.changes++ // a tool, or another build of the version that runs
		}
	}
	for _, change := range h.LoadBalancer {
		p.LoadBalancer = append(p.LoadBalancer, change.Object)
		p.changes++
	}
	p.Bytes = bundle.TotalSize(h.Missing)
	isKubelet := func(a bundle.Artifact) bool { return a.Name == kubelet }
	p.placed = slices.ContainsFunc(h.Artifacts, isKubelet) && !slices.ContainsFunc(h.Missing, isKubelet)
	return p
}

// componentOrder is that in which the static pods of a control plane come up, and are told.
var componentOrder = []string{manifests.EtcdName, manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName}

// imageFor is the image of a static pod; empty for an etcd that is somebody else's.
func imageFor(name string, images config.Images) string {
	return map[string]string{
		manifests.EtcdName: images.Etcd, manifests.APIServerName: images.APIServer,
		manifests.ControllerManagerName: images.ControllerManager, manifests.SchedulerName: images.Scheduler,
	}[name]
}

// planPod compares a static pod, by its manifest and by what runs. etcd is told by its images' tags, which count its builds
// and need not be the version of the program.
func planPod(h *HostState, name string, manifest []byte, to Target) Item {
	item := Item{Name: name, Have: h.Version(name), Want: to.Version, Path: manifests.StaticPodPath(name)}
	pod, err := target(name, manifest, imageFor(name, to.Images))
	if err != nil {
		item.Change = true // a finding says why it cannot be made
		return item
	}
	item.HaveImage, item.WantImage = pod.from, pod.image
	if name == manifests.EtcdName {
		item.Want = pod.version()
		if item.Have != "" && pod.changes() {
			item.Have = staticpod.ImageVersion(pod.from)
		}
	}
	item.Change = pod.changes() || !h.programs.Runs(name, item.Want)
	return item
}

// proxyReaches tells whether the cluster's kube-proxy is at a version, or is to be. One of the user's own stays.
func (s *State) proxyReaches(to Target) bool {
	return slices.ContainsFunc(s.Addons, func(a Addon) bool {
		_, kept := a.at(to).next()
		return a.Name == manifests.KubeProxyName && kept == ""
	})
}

// runtimeVersion is the version of containerd that the host is to have: the bundle's where myadm brought it, else have.
func (h *HostState) runtimeVersion(have string) string {
	i := slices.IndexFunc(h.Artifacts, func(a bundle.Artifact) bool { return a.Name == containerdName && a.Kind == bundle.KindBinary })
	if i < 0 || !h.OwnRuntime {
		return have
	}
	return "v" + strings.TrimPrefix(h.Artifacts[i].Version, "v")
}

// place is where the host has a binary.
func (h *HostState) place(a bundle.Artifact) string {
	if a.Name == kubelet && h.KubeletPath != "" {
		return h.KubeletPath
	}
	return a.Target
}

// moves tells whether a component is among what changes.
func (p HostPlan) moves(component string) bool {
	return slices.ContainsFunc(p.Components, func(i Item) bool { return i.Name == component && i.Change })
}

// begun tells whether an upgrade of the host was begun and has not come to its end: some of its components are at the target
// and some are not. What is ill on such a host is for the upgrade to mend.
func (p HostPlan) begun() bool {
	done, left := p.placed, false
	for _, i := range p.Components {
		switch i.Name {
		case manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName, kubelet:
			done = done || i.WantImage != "" && i.WantImage == i.HaveImage || i.WantImage == "" && !i.Change
			left = left || i.Change
		}
	}
	return done && left
}
