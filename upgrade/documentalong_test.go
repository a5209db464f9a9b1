package upgrade

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// An upgrade by the document takes all of it to a host in one go. Pods leave only a node that gets another version.
func TestUpgradeTakesTheDocumentAlong(t *testing.T) {
	f := newFleet(t, newQuorum(t, "cp-1", "cp-2"), nil)
	older := f.host("cp-2")
	pod, _ := older.Get(schedulerPod)
	image, err := manifests.PodImage(pod.Data)
	if err != nil {
		t.Fatal(err)
	}
	behind, _, err := manifests.WithPodImage(pod.Data, imagesAt(t, oldVersion).Scheduler)
	if err != nil || image == imagesAt(t, oldVersion).Scheduler {
		t.Fatal(err, image)
	}
	older.Put(host.File{Path: schedulerPod, Mode: 0o600, Data: behind})
	f.Config.Spec.APIServer.ExtraArgs = []config.Arg{{Name: "v", Value: "4"}}
	f.Config.Spec.Kubelet = map[string]any{"maxPods": int64(99)}

	opts := rigOptions()
	opts.Document = true
	both := []workflow.Phase{ControlPlanes(f.Cluster, f.ControlPlanes(), opts), Workers(f.Cluster, f.Workers(), opts)}
	got := map[string][]string{}
	for _, p := range both {
		for _, h := range p.Hosts {
			changes, err := p.Check(t.Context(), h)
			if err != nil {
				t.Fatalf("%s: %v", h.Name(), err)
			}
			for _, c := range changes {
				got[h.Name()] = append(got[h.Name()], string(c.Action)+" "+c.Object)
			}
		}
	}
	want := map[string][]string{
		"cp-1": {"update " + apiServerPod, updateKubelet},
		"cp-2": {"update " + apiServerPod, "update " + schedulerPod, updateKubelet, "run Node cp-2"},
		"w-1":  {updateKubelet},
		"w-2":  {updateKubelet},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("to do (-want +got):\n%s", diff)
	}
	perform(t, both[0], both[1], Tidy(f.Cluster, f.Nodes))
	if diff := cmp.Diff([]string{"cp-1: " + wholeAPI, "cp-2: " + wholeAPI, "w-1:", "w-2:"}, f.exchanges()); diff != "" {
		t.Errorf("exchanges (-want +got):\n%s", diff)
	}
	f.finished()
}

// A worker alone is no cluster's whole upgrade.
func TestNodeStepsOfAWorker(t *testing.T) {
	r := newRig(t, "w-1", "w-2")
	var names []string
	for _, step := range NodeSteps(r.Cluster, r.Nodes[1:2], rigOptions()) {
		for _, p := range step.Phases() {
			for _, h := range p.Hosts {
				names = append(names, h.Name())
			}
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); !slices.Equal(names, []string{"w-1"}) {
		t.Errorf("it is about %q", names)
	}
}
