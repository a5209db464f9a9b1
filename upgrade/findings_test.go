package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/status"
	"github.com/myadm/myadm/workflow"
)

var surveyTime = time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)

// imagesAt are the images of a cluster of myadm's at a version.
func imagesAt(t testing.TB, version string) config.Images {
	t.Helper()
	c := &config.Cluster{}
	config.SetDefaults(c)
	c.Spec.KubernetesVersion = version
	images, err := config.ImagesOf(c)
	if err != nil {
		t.Fatal(err)
	}
	return images
}

func targetAt(t testing.TB, version string) Target {
	return Target{Version: version, Images: imagesAt(t, version), Bundle: version}
}

// manifestOf is a static pod with flags.
func manifestOf(name, image string, flags ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\nspec:\n  containers:\n  - command:\n    - %s\n", name, name)
	for _, f := range flags {
		fmt.Fprintf(&b, "    - %s\n", f)
	}
	fmt.Fprintf(&b, "    image: %s # ours\n    name: %s\n", image, name)
	return []byte(b.String())
}

// runAt has a host run a version, and its manifests ask for it.
func runAt(t testing.TB, h *HostState, version string) {
	images := imagesAt(t, version)
	h.programs.Versions = map[string]*semver.Version{
		"kubelet": semver.MustParse(version), "kube-proxy": semver.MustParse(version), "containerd": semver.MustParse("v2.4.2"),
	}
	h.Artifacts, h.Missing = nil, nil
	for _, name := range []string{"kubelet", "kubectl"} {
		h.Artifacts = append(h.Artifacts, bundle.Artifact{
			Name: name, Version: newVersion, Kind: bundle.KindBinary, Target: "/usr/local/bin/" + name, Blobs: []bundle.Blob{{SHA256: name, Size: 10 << 20}},
		})
	}
	next := imagesAt(t, newVersion)
	for _, image := range []string{next.Etcd, next.APIServer, next.ControllerManager, next.Scheduler, next.Proxy, next.CoreDNS} {
		h.Artifacts = append(h.Artifacts, bundle.Artifact{Name: image, Kind: bundle.KindImage, Image: image, Blobs: []bundle.Blob{{SHA256: image, Size: 20 << 20}}})
	}
	if version != newVersion {
		h.Missing = h.Artifacts
	}
	if !h.ControlPlane {
		return
	}
	h.Manifests = map[string][]byte{}
	for _, name := range componentOrder {
		h.Manifests[name] = manifestOf(name, imageFor(name, images), "--v=2")
		h.programs.Versions[name] = semver.MustParse(version)
	}
	h.programs.Versions["etcd"] = semver.MustParse(strings.Split(staticpod.ImageVersion(images.Etcd), "-")[0])
}

func addonOf(name, image string) Addon {
	a := Addon{Name: name, Image: image}
	kind := "Deployment"
	if name == "kube-proxy" {
		kind = "DaemonSet"
	}
	a.workload = workload{ref: systemRef(kind, name), container: name, homes: []string{config.DefaultImageRepository}, found: &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"name": name, "image": image}},
		}}},
	}}}
	return a
}

// wellAt is a cluster of three control planes and a worker that is well, at a version.
func wellAt(t testing.TB, version string) *State {
	s := &State{Report: &status.Report{Time: surveyTime, KubernetesVersion: version, Etcd: status.Etcd{Quorum: true, FaultTolerance: 1}}}
	for _, name := range []string{"w-1", "cp-1", "cp-2", "cp-3"} {
		h := HostState{
			Name: name, Arch: "amd64", ControlPlane: name != "w-1", KubeletPath: "/usr/local/bin/kubelet", OwnRuntime: true,
			KubeletFlags: []byte("KUBELET_KUBEADM_ARGS=\"--v=2\"\n"), Kubelet: []byte("kind: KubeletConfiguration\n"),
			Disks:   map[string]space{"/": {"/", 1 << 40}, binariesDir: {"/", 1 << 40}, imagesDir: {"/data", 1 << 40}, snapshotFolder: {"/", 1 << 40}, "/var/lib/etcd": {"/", 1 << 40}},
			EtcdDir: "/var/lib/etcd", images: map[string]string{},
		}
		role := "worker"
		if h.ControlPlane {
			role = "control-plane"
			h.EtcdDB = 100 << 20
			s.Report.ControlPlanes = append(s.Report.ControlPlanes, status.ControlPlane{
				Name: name, Components: []status.Component{{Name: "kube-apiserver", Healthy: true}},
				Certificates: []status.Certificate{{Name: "apiserver", Expires: surveyTime.Add(certificateNotice)}},
			})
			s.Report.Etcd.Members = append(s.Report.Etcd.Members, status.Member{Name: name, Role: "member", Healthy: true})
		}
		runAt(t, &h, version)
		s.Hosts = append(s.Hosts, h)
		s.Report.Nodes = append(s.Report.Nodes, status.Node{Name: name, Roles: []string{role}, Registered: true, Ready: true, KubeletVersion: version})
	}
	images := imagesAt(t, version)
	s.Addons = []Addon{addonOf("coredns", images.CoreDNS), addonOf("kube-proxy", images.Proxy)}
	s.Config = map[string]string{
		"kubeadm-config/ClusterConfiguration": "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n# ours\nkubernetesVersion: " + version + "\n",
		"coredns/Corefile":                    ".:53 {\n    errors\n    forward . /etc/resolv.conf\n}\n",
	}
	return s
}

func TestFindings(t *testing.T) {
	const fatal, warned = true, false
	tests := []struct {
		what    string
		edit    func(s *State, to *Target)
		name    string // of the only finding; empty: none
		where   string
		fatal   bool
		message string // part of it, with its hint
	}{
		{what: "a cluster that is well", edit: func(*State, *Target) {}},
		{"an older patch release", func(s *State, to *Target) { *to = older(t, s) }, "version-policy", "cluster", fatal, "add --force"},
		{what: "an older patch release by force", edit: func(s *State, to *Target) {
			*to = older(t, s)
			to.Force = true
		}},
		{"a kubelet that is too old", func(s *State, to *Target) { s.Report.Nodes = append(s.Report.Nodes, stranger("w-9", "v1.33.0")) }, "", "", false, ""},
		{"the API is away", func(s *State, _ *Target) { s.Report.APIError = "refused" }, "api-server", "cluster", fatal, "refused"},
		{"an API server that is ill", func(s *State, _ *Target) {
			s.Report.ControlPlanes[1].Components[0] = status.Component{Name: "kube-apiserver", Reason: "etcd failed"}
		}, "control-plane-health", "cp-2", fatal, "kube-apiserver is not healthy: etcd failed"},
		{"an API server that an upgrade left ill", func(s *State, _ *Target) {
			s.Report.ControlPlanes[1].Components[0] = status.Component{Name: "kube-apiserver", Reason: "refused"}
			h := s.Host("cp-2")
			runAt(t, h, newVersion)
			h.programs.Versions["kube-proxy"] = semver.MustParse(oldVersion)
			delete(h.programs.Versions, "kube-apiserver")
		}, "control-plane-health", "cp-2", warned, "refused"},
		{"etcd that cannot be asked", func(s *State, _ *Target) { s.Report.Etcd = status.Etcd{Error: "no certificate"} }, "etcd-health", "etcd", fatal, "no certificate"},
		{"a member that is down", func(s *State, _ *Target) {
			s.Report.Etcd.Members[2] = status.Member{Name: "cp-3", Health: "no answer", Error: "refused"}
		}, "etcd-health", "etcd member cp-3", fatal, "no answer: refused"},
		{"two members", func(s *State, _ *Target) { s.Report.Etcd.Members = s.Report.Etcd.Members[:2] }, "etcd-fault-tolerance", "etcd", warned, "hint: a third control plane"},
		{"a control plane that was not reached", func(s *State, _ *Target) {
			s.Report.Missing = []status.MissingHost{{Name: "cp-9", ControlPlane: true, Error: "no route"}}
			s.Report.Nodes = append(s.Report.Nodes, stranger("cp-9", oldVersion, "control-plane"))
		}, "host-unreachable", "cp-9", fatal, "no route"},
		{"a worker that was not reached", func(s *State, _ *Target) {
			s.Report.Missing = []status.MissingHost{{Name: "w-9", Error: "no route"}}
		}, "host-unreachable", "w-9", warned, "stays behind"},
		{"a host that gives no answer", func(s *State, _ *Target) {
			*s.Host("w-1") = HostState{Name: "w-1", Err: errors.New("no shell")}
		}, "host-survey", "w-1", fatal, "no shell"},
		{"a host that is no node", func(s *State, _ *Target) { s.Report.Nodes = s.Report.Nodes[1:] }, "host-without-node", "w-1", fatal, "hint: myadm apply"},
		{"a control plane that is no host", func(s *State, _ *Target) {
			s.Report.Nodes = append(s.Report.Nodes, stranger("cp-9", oldVersion, "control-plane"))
		}, "node-without-host", "cp-9", fatal, "hint: add it"},
		{"a worker that is no host", func(s *State, _ *Target) { s.Report.Nodes = append(s.Report.Nodes, stranger("w-9", oldVersion)) },
			"node-without-host", "w-9", warned, "its kubelet v1.36.3 stays behind"},
		{"a node that is not Ready", func(s *State, _ *Target) { s.Report.Nodes[0].Ready, s.Report.Nodes[0].Reason = false, "no network" },
			"node-not-ready", "w-1", fatal, "no network"},
		{"a containerd that is too old", func(s *State, _ *Target) {
			s.Host("w-1").OwnRuntime, s.Report.Nodes[0].Runtime = false, "containerd://1.6.14~ds1"
		},
			"container-runtime", "w-1", fatal, "containerd 1.6.14 is too old for Kubernetes 1.37: it has to speak CRI v1; hint: update containerd to 1.6.15"},
		{"a CRI-O of four minor versions ago", func(s *State, _ *Target) {
			s.Host("w-1").OwnRuntime, s.Report.Nodes[0].Runtime = false, "cri-o://1.33.1"
		},
			"container-runtime", "w-1", fatal, "CRI-O 1.33.1 does not go with Kubernetes 1.37; hint: "},
		{"a runtime that is not known", func(s *State, _ *Target) {
			s.Host("w-1").OwnRuntime, s.Report.Nodes[0].Runtime = false, "docker://29.0.0"
		},
			"container-runtime", "w-1", warned, `"docker" is neither containerd nor cri-o`},
		{"a runtime that fits", func(s *State, _ *Target) {
			s.Host("w-1").OwnRuntime, s.Report.Nodes[0].Runtime = false, "containerd://1.7.24"
		}, "", "", false, ""},
		{"an old runtime that is brought anew", func(s *State, _ *Target) { s.Report.Nodes[0].Runtime = "containerd://1.6.14" }, "", "", false, ""},
		{"a node that is done and not Ready", func(s *State, _ *Target) {
			s.Report.Nodes[0].Ready = false
			runAt(t, s.Host("w-1"), newVersion)
			s.Host("cp-1").programs.Versions["kube-apiserver"] = semver.MustParse(newVersion) // else its kubelet would be too new
			runAllAt(t, s, newVersion, "cp-1", "cp-2", "cp-3")
		}, "node-not-ready", "w-1", warned, ""},
		{"a manifest that cannot be edited", func(s *State, _ *Target) { s.Host("cp-1").Manifests["kube-scheduler"] = []byte("kind: Pod\n") },
			"static-pod", "cp-1", fatal, "kube-scheduler.yaml: "},
		{"a Corefile that cannot be rewritten", func(s *State, _ *Target) {
			s.Addons[0], s.Config["coredns/Corefile"] = addonOf("coredns", "registry.k8s.io/coredns:v1.6.7"), "{\n a\n"
		}, "corefile", "cluster", fatal, "hint: write it yourself"},
		{"a CoreDNS of the user's", func(s *State, _ *Target) { s.Addons[0] = addonOf("coredns", "example.com/dns:v1.0.0") },
			"addon-kept", "cluster", warned, "Deployment kube-system/coredns keeps example.com/dns:v1.0.0"},
		{"a removed API", func(s *State, _ *Target) {
			s.Requested = []RequestedAPI{{"policy", "v1beta1", "things", "1.37", []string{"cp-1", "cp-2"}}, {"later", "v1", "things", "1.38", []string{"cp-1"}}}
		}, "removed-api", "cluster", warned, "policy/v1beta1 things was asked for on cp-1, cp-2, and Kubernetes 1.37 does not have it; hint: "},
		{"a budget", func(s *State, _ *Target) { s.Budgets = []Budget{{"shop", "db", []string{"w-1"}}} },
			"disruption-budget", "shop/db", warned, "its pods are on w-1"},
		{"certificates that have ended", func(s *State, _ *Target) {
			s.Report.ControlPlanes[2].Certificates = append(s.Report.ControlPlanes[2].Certificates, status.Certificate{Name: "etcd-peer", Expires: surveyTime})
		}, "certificate-expired", "cp-3", fatal, "etcd-peer (2027-01-15)"},
		{"certificates that end soon", func(s *State, _ *Target) {
			s.Report.ControlPlanes[2].Certificates[0].Expires = surveyTime.Add(certificateNotice - time.Second)
		}, "certificate-ending", "cp-3", warned, "within 7 days: apiserver"},
		{"no room for images", func(s *State, _ *Target) { s.Host("w-1").Disks[imagesDir] = space{"/data", 240<<20 - 1} },
			"disk-space", "w-1", fatal, "/data has 239 MiB free, and the upgrade needs 240; hint: "},
		{what: "just enough room for images", edit: func(s *State, _ *Target) { s.Host("w-1").Disks[imagesDir] = space{"/data", 240 << 20} }},
		{"no room for the snapshot", func(s *State, _ *Target) { // it is on the disk of the binaries
			for _, name := range []string{"cp-1", "cp-2"} {
				for _, dir := range []string{"/", binariesDir, snapshotFolder, "/var/lib/etcd"} {
					s.Host(name).Disks[dir] = space{"/", 140<<20 - 1}
				}
			}
		}, "disk-space", "cp-1", fatal, "needs 140"},
		{"a bundle of another version", func(_ *State, to *Target) { to.Bundle = "v1.37.0" }, "bundle-version", "cluster", fatal, "the bundle is of Kubernetes v1.37.0; hint: name the bundle of v1.37.2"},
		{"a bundle without an image", func(s *State, to *Target) {
			h := s.Host("cp-3")
			h.Artifacts = slices.DeleteFunc(slices.Clone(h.Artifacts), func(a bundle.Artifact) bool { return a.Image == to.Images.Etcd })
		}, "bundle-incomplete", "cp-3", fatal, "the bundle lacks for amd64: registry.k8s.io/etcd:3.7.0-0"},
		{"a bundle for other processors", func(s *State, _ *Target) { s.Host("w-1").BundleErr = errors.New("kubelet is not for arm64") },
			"bundle-incomplete", "w-1", fatal, "not for arm64"},
		{what: "no bundle: what hosts lack is fetched", edit: func(s *State, to *Target) {
			to.Bundle = ""
			for i := range s.Hosts {
				s.Hosts[i].Artifacts, s.Hosts[i].Missing = nil, nil
			}
		}},
		{"a question that was not answered", func(s *State, _ *Target) { s.Unknown = []error{errors.New("list PDBs: timeout")} },
			"unknown", "cluster", warned, "list PDBs: timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			s, to := wellAt(t, oldVersion), targetAt(t, newVersion)
			tt.edit(s, &to)
			got := Findings(s, to)
			if tt.what == "a kubelet that is too old" { // it is no host either
				got = slices.DeleteFunc(got, func(f Finding) bool { return f.Name == "node-without-host" })
				tt.name, tt.where, tt.fatal, tt.message = "version-skew", "cluster", fatal, "w-9"
			}
			if tt.name == "" {
				if len(got) > 0 {
					t.Errorf("found %+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Name != tt.name || got[0].Where != tt.where || got[0].Fatal != tt.fatal || !strings.Contains(got[0].String(), tt.message) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// older is an older patch release, which the bundle has all of; addons stay.
func older(t testing.TB, s *State) Target {
	s.Addons = nil
	for i := range s.Hosts {
		s.Hosts[i].images = nil
	}
	return targetAt(t, "v1.36.1")
}

func runAllAt(t testing.TB, s *State, version string, names ...string) {
	for _, name := range names {
		runAt(t, s.Host(name), version)
	}
}

// stranger is a node that is none of the hosts.
func stranger(name, version string, roles ...string) status.Node {
	return status.Node{Name: name, Registered: true, Ready: true, KubeletVersion: version, Roles: roles}
}

// Flags and gates are looked for wherever a component takes them from.
func TestFindingsOfRemovedSettings(t *testing.T) {
	var flag, gate string // of what the table knows to be gone
	for name := range removals["v1.37"].flags["kubelet"] {
		flag = name
	}
	if list := removals["v1.37"].gates; len(list) > 0 {
		gate = list[0]
	}
	if gate == "" {
		t.Fatal("the table has nothing to look for")
	}
	for _, tt := range []struct {
		what string
		edit func(h *HostState)
		name string
	}{
		{"a gate of the API server", func(h *HostState) {
			h.Manifests["kube-apiserver"] = manifestOf("kube-apiserver", imagesAt(t, oldVersion).APIServer, "--feature-gates="+gate+"=true")
		}, "removed-feature-gate"},
		{"a gate of the kubelet's configuration", func(h *HostState) { h.Kubelet = []byte("featureGates:\n  " + gate + ": true\n") }, "removed-feature-gate"},
		{"a gate among the kubelet's flags", func(h *HostState) {
			h.KubeletFlags = []byte("KUBELET_KUBEADM_ARGS=\"--feature-gates=" + gate + "=true\"\n")
		}, "removed-feature-gate"},
		{"a flag of the kubelet", func(h *HostState) {
			if flag != "" {
				h.KubeletFlags = []byte("KUBELET_KUBEADM_ARGS=\"--" + flag + "=x\"\n")
			}
		}, "removed-flag"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			s := wellAt(t, oldVersion)
			tt.edit(s.Host("cp-2"))
			got := Findings(s, targetAt(t, newVersion))
			if tt.name == "removed-flag" && flag == "" {
				if len(got) > 0 {
					t.Errorf("got %+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Name != tt.name || got[0].Where != "cp-2" || !got[0].Fatal {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A cluster that has arrived is left alone, however ill it is.
func TestNothingIsFatalWhereNothingChanges(t *testing.T) {
	s := wellAt(t, newVersion)
	s.Report.Nodes[0].Ready, s.Report.Etcd.Error = false, "no answer"
	s.Hosts[0].Disks[imagesDir] = space{"/data", 0}
	to := targetAt(t, newVersion)
	to.Bundle = ""
	p := MakePlan(s, to)
	if p.Changes != 0 || len(p.Fatal()) > 0 || len(p.Findings) != 2 {
		t.Errorf("%d changes, %+v", p.Changes, p.Findings)
	}
}

func TestMakePlan(t *testing.T) {
	s := wellAt(t, oldVersion)
	s.Hosts[0].Artifacts = append(s.Hosts[0].Artifacts, bundle.Artifact{Name: "containerd", Kind: bundle.KindBinary, Version: "2.4.3"})
	p := MakePlan(s, targetAt(t, newVersion))
	if len(p.Findings) > 0 {
		t.Errorf("findings %+v", p.Findings)
	}
	if p.From != oldVersion || p.To != newVersion || !slices.Equal(p.Reachable, []string{newVersion}) || p.Changes != 3*6+3+4+2+1 { // a kubectl on each host
		t.Errorf("%s to %s of %v with %d changes", p.From, p.To, p.Reachable, p.Changes)
	}
	var hosts []string
	for _, h := range p.Hosts {
		hosts = append(hosts, h.Name)
	}
	if want := []string{"cp-1", "cp-2", "cp-3", "w-1"}; !slices.Equal(hosts, want) {
		t.Errorf("hosts %v", hosts)
	}
	was, is := imagesAt(t, oldVersion), imagesAt(t, newVersion)
	pod := func(name, have, want, before, after string) Item {
		return Item{name, have, want, before, after, "/etc/kubernetes/manifests/" + name + ".yaml", true}
	}
	want := []Item{
		pod("etcd", "3.6.8-0", "3.7.0-0", was.Etcd, is.Etcd),
		pod("kube-apiserver", oldVersion, newVersion, was.APIServer, is.APIServer),
		pod("kube-controller-manager", oldVersion, newVersion, was.ControllerManager, is.ControllerManager),
		pod("kube-scheduler", oldVersion, newVersion, was.Scheduler, is.Scheduler),
		{"kubelet", oldVersion, newVersion, "", "", "/usr/local/bin/kubelet", true},
		{"kube-proxy", oldVersion, newVersion, "", "", "", true},
		{"containerd", "v2.4.2", "v2.4.2", "", "", "", false},
	}
	if diff := cmp.Diff(want, p.Hosts[0].Components); diff != "" {
		t.Errorf("cp-1 (-want +got):\n%s", diff)
	}
	want = []Item{want[4], want[5], {"containerd", "v2.4.2", "v2.4.3", "", "", "", true}}
	if diff := cmp.Diff(want, p.Hosts[3].Components); diff != "" {
		t.Errorf("w-1 (-want +got):\n%s", diff)
	}
	if h := p.Hosts[3]; !slices.Equal(h.Binaries, []string{"/usr/local/bin/kubelet", "/usr/local/bin/kubectl"}) || h.Bytes != 2*10<<20+6*20<<20 {
		t.Errorf("%v, %d bytes", h.Binaries, h.Bytes)
	}
	want = []Item{
		{"coredns", "v1.14.2", "v1.14.6", was.CoreDNS, is.CoreDNS, "", true}, {"kube-proxy", oldVersion, newVersion, was.Proxy, is.Proxy, "", true},
	}
	if diff := cmp.Diff(want, p.Addons); diff != "" {
		t.Errorf("addons (-want +got):\n%s", diff)
	}
}

// What apply would change in a cluster that runs the version already is counted, too: another build of a binary, the load
// balancer's files, rights that somebody took away.
func TestMakePlanCountsWhatHasNoVersion(t *testing.T) {
	s := wellAt(t, newVersion)
	s.Host("w-1").Missing = s.Host("w-1").Artifacts[:1]    // the kubelet
	s.Host("cp-2").Missing = s.Host("cp-2").Artifacts[1:2] // kubectl
	s.Host("cp-3").LoadBalancer = []workflow.Change{{Action: workflow.Update, Object: "/etc/kubernetes/haproxy/haproxy.cfg"}}
	s.Rights = []workflow.Change{{Action: workflow.Create, Object: "ClusterRole kubeadm:get-nodes"}}
	p := MakePlan(s, targetAt(t, newVersion))
	got := map[string][]string{"cluster": p.Rights}
	for _, h := range p.Hosts {
		got[h.Name] = append(h.Binaries, h.LoadBalancer...)
	}
	want := map[string][]string{
		"cp-1": {}, "cp-2": {"/usr/local/bin/kubectl"}, "cp-3": {"/etc/kubernetes/haproxy/haproxy.cfg"}, "w-1": {"/usr/local/bin/kubelet"},
		"cluster": {"ClusterRole kubeadm:get-nodes"},
	}
	if diff := cmp.Diff(want, got); diff != "" || p.Changes != 4 {
		t.Errorf("%d changes (-want +got):\n%s", p.Changes, diff)
	}
	// A host that has still something to get is judged as any that has.
	s.Report.Nodes[0].Ready = false
	if fatal := MakePlan(s, targetAt(t, newVersion)).Fatal(); len(fatal) != 1 || fatal[0].Name != findingReady {
		t.Errorf("in the way: %+v", fatal)
	}
}

// An upgrade that was cut is planned from where it is.
func TestMakePlanHalfWay(t *testing.T) {
	s := wellAt(t, oldVersion)
	runAllAt(t, s, newVersion, "cp-1", "cp-2")
	delete(s.Host("cp-2").programs.Versions, "kube-scheduler") // it was ended, and has not come up
	p := MakePlan(s, targetAt(t, newVersion))
	var left []string
	for _, h := range p.Hosts {
		left = append(left, fmt.Sprint(h.Name, changing(h.Components), h.begun()))
	}
	if want := []string{"cp-10 false", "cp-21 true", "cp-36 false", "w-12 false"}; p.From != oldVersion || !slices.Equal(left, want) {
		t.Errorf("from %s: %q", p.From, left)
	}
}

// A control plane that is ahead of the others is not taken back to a minor that they still have.
func TestFindingsOfAControlPlaneAhead(t *testing.T) {
	s := wellAt(t, oldVersion)
	runAllAt(t, s, newVersion, "cp-2")
	if fatal := MakePlan(s, targetAt(t, oldVersion)).Fatal(); len(fatal) == 0 || fatal[0].Name != FindingVersion {
		t.Errorf("in the way: %+v", fatal)
	}
}

// Whoever reads the JSON finds lists where lists are told.
func TestPlanHasNoNulls(t *testing.T) {
	for _, s := range []*State{wellAt(t, newVersion), {Report: &status.Report{}, Hosts: []HostState{{Err: errors.New("gone")}}}} {
		data, err := json.Marshal(MakePlan(s, targetAt(t, newVersion)))
		if err != nil || strings.Contains(string(data), "null") {
			t.Errorf("%s, %v", data, err)
		}
	}
}

func TestDiff(t *testing.T) {
	s := wellAt(t, oldVersion)
	s.Hosts, s.Report.ControlPlanes = s.Hosts[1:2], nil
	out, err := Diff(s, targetAt(t, newVersion))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"--- cp-1:/etc/kubernetes/manifests/kube-apiserver.yaml\n+++ cp-1:/etc/kubernetes/manifests/kube-apiserver.yaml at v1.37.2\n",
		"\n     - --v=2\n-    image: registry.k8s.io/kube-apiserver:v1.36.3 # ours\n+    image: registry.k8s.io/kube-apiserver:v1.37.2 # ours\n     name: kube-apiserver\n",
		"-    image: registry.k8s.io/etcd:3.6.8-0 # ours\n+    image: registry.k8s.io/etcd:3.7.0-0 # ours\n",
		"--- DaemonSet kube-system/kube-proxy\n", "-image: registry.k8s.io/coredns/coredns:v1.14.2\n+image: registry.k8s.io/coredns/coredns:v1.14.6\n",
		" # ours\n-kubernetesVersion: v1.36.3\n+kubernetesVersion: v1.37.2\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if n := strings.Count("\n"+string(out), "\n--- "); n != 7 {
		t.Errorf("%d files and objects differ:\n%s", n, out)
	}
	if out, err := Diff(wellAt(t, newVersion), targetAt(t, newVersion)); len(out) > 0 || err != nil {
		t.Errorf("a cluster that has arrived: %v\n%s", err, out)
	}
	// What cannot be changed is named, and the rest is shown.
	s.Hosts[0].Manifests["etcd"] = []byte("kind: Pod\n")
	out, err = Diff(s, targetAt(t, newVersion))
	if err == nil || !strings.HasPrefix(err.Error(), "cp-1:/etc/kubernetes/manifests/etcd.yaml: ") || !strings.Contains(string(out), "kube-scheduler") {
		t.Errorf("%v\n%s", err, out)
	}
}
