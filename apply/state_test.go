package apply

import (
	"slices"
	"testing"
	"time"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
)

// node makes a host one that has been a node before, of that version.
func node(f *hosttest.Fake, version string, server bool) {
	for _, path := range []string{config.KubeletConf, config.KubeletConfigFile, manifests.KubeletUnitPath} {
		put(f, path, "file")
	}
	if !server {
		return
	}
	put(f, config.AdminConf, "kubeconfig")
	for _, component := range []string{manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName} {
		put(f, manifests.StaticPodPath(component), "apiVersion: v1\nkind: Pod\nmetadata: {name: "+component+"}\nspec:\n  containers:\n  - name: "+component+"\n    image: registry.k8s.io/"+component+":"+version+"\n")
	}
}

func TestSurveyTellsMembersFromThoseThatCome(t *testing.T) {
	for _, tt := range []struct {
		name     string
		arrange  func(f map[string]*hosttest.Fake)
		founder  string
		members  []string
		from     string
		upgrades bool
	}{
		{"bare hosts", func(map[string]*hosttest.Fake) {}, "cp-1", nil, "", false},
		{"a cluster", func(f map[string]*hosttest.Fake) {
			node(f["cp-1"], "v1.37.2", true)
			node(f["w-1"], "", false)
		}, "cp-1", []string{"cp-1", "w-1"}, "v1.37.2", false},
		{"one whose first control plane is new", func(f map[string]*hosttest.Fake) {
			node(f["cp-2"], "v1.37.2", true)
		}, "cp-2", []string{"cp-2"}, "v1.37.2", false},
		{"an upgrade that was cut", func(f map[string]*hosttest.Fake) {
			node(f["cp-1"], "v1.37.2", true)
			node(f["cp-2"], "v1.36.3", true)
		}, "cp-1", []string{"cp-1", "cp-2"}, "v1.36.3", true},
		{"a founder that was cut, which is to go on as it began", func(f map[string]*hosttest.Fake) {
			node(f["cp-1"], "v1.37.2", true)
			f["cp-1"].Delete(manifests.KubeletUnitPath)
			node(f["w-1"], "", false)
		}, "cp-1", nil, "", false},
		{"a first control plane that lost something, which another one takes in again", func(f map[string]*hosttest.Fake) {
			node(f["cp-1"], "v1.37.2", true)
			f["cp-1"].Delete(config.KubeletConfigFile)
			node(f["cp-2"], "v1.37.2", true)
			node(f["w-1"], "", false)
		}, "cp-2", []string{"cp-2", "w-1"}, "v1.37.2", false},
		{"a unit of a package's", func(f map[string]*hosttest.Fake) {
			node(f["cp-1"], "v1.37.2", true)
			f["cp-1"].Delete(manifests.KubeletUnitPath)
			put(f["cp-1"], "/usr/lib/systemd/system/kubelet.service", "unit")
		}, "cp-1", []string{"cp-1"}, "v1.37.2", false},
		{"a worker that lost what it begins with", func(f map[string]*hosttest.Fake) {
			node(f["cp-1"], "v1.37.2", true)
			node(f["w-1"], "", false)
			f["w-1"].Delete(config.KubeletConfigFile)
		}, "cp-1", []string{"cp-1"}, "v1.37.2", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, fakes := document(t, "cp-1", "cp-2", "w-1")
			tt.arrange(map[string]*hosttest.Fake{"cp-1": fakes[0], "cp-2": fakes[1], "w-1": fakes[2]})
			s, err := Survey(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			var members []string
			for _, n := range s.Members {
				members = append(members, n.Spec.Name)
			}
			if s.Founder.Spec.Name != tt.founder || !slices.Equal(members, tt.members) || len(s.Members)+len(s.Arriving) != 3 {
				t.Errorf("the founder is %s, the members %q, and %d come", s.Founder.Spec.Name, members, len(s.Arriving))
			}
			if s.From() != tt.from || s.Upgrades("v1.37.2") != tt.upgrades {
				t.Errorf("from %q, and that is an upgrade: %t", s.From(), s.Upgrades("v1.37.2"))
			}
		})
	}
}

// A running cluster is changed before anybody joins it: in the order of an upgrade when its version is another one.
func TestStepsOfARunningCluster(t *testing.T) {
	for _, tt := range []struct {
		name, version        string
		controlPlanes, nodes string // the phases that change them
		without              []string
	}{
		{"the document's version", "v1.37.2", "converge-control-planes", "converge-workers", []string{"control-planes", "workers", "snapshot"}},
		{"another one", "v1.36.3", "control-planes", "workers", []string{"converge-control-planes", "converge-workers"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, fakes := document(t, "cp-1", "cp-2", "w-1", "w-2")
			node(fakes[0], tt.version, true)
			node(fakes[2], "", false)
			s, err := Survey(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			on := map[string][]string{}
			var order []string
			for _, step := range Steps(c, s, Options{Patience: time.Minute, MaxUnavailable: "1"}) {
				for _, p := range step.Phases() {
					order = append(order, p.Name)
					for _, h := range p.Hosts {
						on[p.Name] = append(on[p.Name], h.Name())
					}
				}
			}
			for phase, want := range map[string][]string{
				tt.controlPlanes: {"cp-1"},
				tt.nodes:         {"w-1"},
				"control-plane":  {"cp-2"},
				"etcd-join":      {"cp-2"},
				"mark-nodes":     {"cp-1", "cp-2", "w-1", "w-2"},
			} {
				if got := on[phase]; !slices.Equal(got, want) {
					t.Errorf("%s is on %q, want %q", phase, got, want)
				}
			}
			last := -1
			for _, name := range []string{tt.controlPlanes, "addons", tt.nodes, "etcd-join", "move-endpoint"} {
				at := slices.Index(order, name)
				if at <= last {
					t.Errorf("%s comes too early in %q", name, order)
				}
				last = at
			}
			for _, name := range tt.without {
				if slices.Contains(order, name) {
					t.Errorf("there is %s in %q", name, order)
				}
			}
		})
	}
}
