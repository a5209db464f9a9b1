package phases

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// proxySteps are what gives a proxy to a host that init makes a node.
func proxySteps(c *cluster.Cluster) []workflow.Step {
	return []workflow.Step{Proxy(c, c.Nodes), Runtime(c, c.Nodes), Binaries(c, c.Nodes), testKubelet(c, c.Nodes[0])}
}

// starts are how often containerd and the kubelet were started.
func starts(m *machine) [2]int {
	return [2]int{m.units.Starts("containerd"), m.units.Starts("kubelet")}
}

func TestAProxyNeedsOneRestart(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	m := machines[0]
	described(t, c, c.Nodes[0])
	run(t, proxySteps(c)...)
	if got := starts(m); got != [2]int{1, 1} {
		t.Errorf("a new host: started %v times", got)
	}
	c.Config.Spec.Proxy.NoProxy = []string{".example.org"}
	run(t, proxySteps(c)...)
	if got := starts(m); got != [2]int{2, 2} {
		t.Errorf("another proxy: started %v times", got)
	}
	if summary := run(t, proxySteps(c)...); summary.Changes > 0 {
		t.Errorf("then there are %d changes", summary.Changes)
	}
}

// A proxy that a document no longer has is taken from the host, and from what runs there, wherever a run is cut.
func TestAProxyThatIsTakenAway(t *testing.T) {
	start := func() (*cluster.Cluster, *machine, map[string]string) {
		c, machines := testCluster(t, "cp-1")
		document(t, c, t.TempDir(), " {}")
		run(t, proxySteps(c)...)
		before := machines[0].state(t, nil)
		described(t, c, c.Nodes[0])
		c.Config.Spec.Registries = nil
		run(t, proxySteps(c)...)
		document(t, c, t.TempDir(), " {}")
		return c, machines[0], before
	}
	c, m, before := start()
	want := []string{"delete " + manifests.KubeletProxyPath, "delete " + manifests.ContainerdProxyPath, "delete " + config.ProxyEnv}
	if diff := cmp.Diff(want, check(t, Proxy(c, c.Nodes), c.Nodes[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run(t, proxySteps(c)...)
	if diff := cmp.Diff(before, m.state(t, nil)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if got := starts(m); got != [2]int{3, 3} {
		t.Errorf("started %v times", got)
	}
	for cut := 0; ; cut++ {
		c, m, before := start()
		m.left = cut
		_, err := new(workflow.Runner).Run(t.Context(), proxySteps(c)...)
		if err == nil {
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("cut after %d: %v", cut, err)
		}
		m.left = -1
		run(t, proxySteps(c)...)
		if diff := cmp.Diff(before, m.state(t, nil)); diff != "" {
			t.Errorf("cut after %d (-before +after):\n%s", cut, diff)
		}
		for _, unit := range []string{"containerd.service", "kubelet.service"} {
			if m.started[unit] < m.written[config.ProxyEnv] || !m.units.RunsCurrent(unit) && m.units.Starts(unit) < 3 {
				t.Errorf("cut after %d: %s runs with the old environment", cut, unit)
			}
		}
		for _, s := range proxySteps(c) {
			for _, p := range s.Phases() {
				settled(t, p, c.Nodes[0])
			}
		}
	}
}
