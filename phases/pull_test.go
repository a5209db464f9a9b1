package phases

import (
	"strings"
	"testing"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/workflow"
)

// A host that has a runtime gets its images and nothing else, one that has none is told of and left alone.
func TestPull(t *testing.T) {
	c, machines := testCluster(t, "h1", "h2")
	run(t, Runtime(c, c.Nodes[:1]))
	c.Nodes[0].Host = withSocket{machines[0], config.ContainerdSocket}
	for _, m := range machines {
		m.ResetRecord()
	}
	for round, want := range []int{8, 0} { // the second run finds nothing to do
		summary, err := new(workflow.Runner).Run(t.Context(), Pull(c, c.Nodes)...)
		if err == nil || !strings.Contains(err.Error(), "h2: runtime: no container runtime listens at "+config.ContainerdSocket+"; hint: `myadm apply --only registries,proxy,runtime`") ||
			strings.Contains(err.Error(), "h1") {
			t.Errorf("round %d: %v", round, err)
		}
		if summary.Changes != want || len(machines[0].containerd.images) != 8 {
			t.Errorf("round %d: %d changes, want %d, and the host has %d images", round, summary.Changes, want, len(machines[0].containerd.images))
		}
	}
	if n := len(machines[0].Writes()); n > 0 || len(machines[1].Writes())+len(machines[1].containerd.images) > 0 {
		t.Errorf("%d files were written on h1; h2 has %d images", n, len(machines[1].containerd.images))
	}
}

// A runtime of the user's is found at its own socket.
func TestPullForAnExistingRuntime(t *testing.T) {
	c, machines := testCluster(t, "h1")
	c.Config.Spec.Runtime = config.Runtime{Type: config.RuntimeExisting, Socket: "/run/crio/crio.sock"}
	c.Nodes[0].Host = withSocket{machines[0], config.ContainerdSocket}
	_, err := new(workflow.Runner).Run(t.Context(), Pull(c, c.Nodes)...)
	if err == nil || !strings.Contains(err.Error(), "no container runtime listens at /run/crio/crio.sock") {
		t.Errorf("%v", err)
	}
}
