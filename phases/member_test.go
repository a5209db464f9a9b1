package phases

import (
	"slices"
	"testing"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/workflow"
)

// What is mended on hosts that are in their cluster is mended once, and nothing is found when all is well.
func TestMemberPhasesConverge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		phase  func(c *cluster.Cluster) workflow.Phase
		damage func(m *machine)
		want   []string
	}{
		{"the kubelet was stopped", func(c *cluster.Cluster) workflow.Phase { return ResumeKubelet(c.Nodes) }, systemctl("stop", "kubelet"), []string{"unit kubelet.service"}},
		{"folders that all can look into", func(c *cluster.Cluster) workflow.Phase { return Folders(c, c.Nodes) }, func(m *machine) {
			m.Mkdir(config.ManifestsDir, 0o755)
			m.Mkdir(config.EtcdDataDir, 0o755)
		}, []string{config.ManifestsDir, config.EtcdDataDir}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, machines := testCluster(t, "h1")
			n := c.Nodes[0]
			run(t, Binaries(c, c.Nodes), testKubelet(c, n), Etcd(c, c.Nodes))
			p := tt.phase(c)
			settled(t, p, n)
			tt.damage(machines[0])
			changes, err := p.Check(t.Context(), n)
			var got []string
			for _, change := range changes {
				got = append(got, change.Object)
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			run(t, p)
			settled(t, p, n)
		})
	}
}
