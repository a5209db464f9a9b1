package phases

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/workflow"
)

// damage is something that somebody else does to a host that a phase has finished with.
type damage struct {
	name string
	do   func(m *machine)
	want []string // what Check says then
}

// hostPhase is a phase and what there is to know of it for the tests that all phases share.
type hostPhase struct {
	name    string
	prepare func(t testing.TB, c *cluster.Cluster, n *cluster.Node) // what earlier phases have done
	phase   func(c *cluster.Cluster, n *cluster.Node) workflow.Phase
	blank   []string // what Check says then
	damages []damage
	opaque  func(path string) bool // files with another content every time
}

func (p hostPhase) start(t testing.TB) (workflow.Phase, *cluster.Node, *machine) {
	c, machines := testCluster(t, "cp-1")
	if p.prepare != nil {
		p.prepare(t, c, c.Nodes[0])
	}
	return p.phase(c, c.Nodes[0]), c.Nodes[0], machines[0]
}

// TestHostPhasesConverge: Check tells what is to do, Apply does it, and then there is nothing left to do.
func TestHostPhasesConverge(t *testing.T) {
	for _, tt := range hostPhases {
		t.Run(tt.name, func(t *testing.T) {
			p, n, m := tt.start(t)
			m.ResetRecord()
			if diff := cmp.Diff(tt.blank, check(t, p, n)); diff != "" {
				t.Errorf("on a blank host (-want +got):\n%s", diff)
			}
			if len(m.Writes())+len(m.Runs())+len(m.Removed()) > 0 {
				t.Error("Check changed the host")
			}
			run(t, p)
			seen := map[string]bool{}
			for _, path := range m.Writes() {
				if seen[path] {
					t.Errorf("%s was written twice", path)
				}
				seen[path] = true
			}
			settled(t, p, n)
		})
	}
}

// TestHostPhasesMendDamage: what somebody else has changed is seen, and put right.
func TestHostPhasesMendDamage(t *testing.T) {
	for _, tt := range hostPhases {
		for _, d := range tt.damages {
			t.Run(tt.name+"/"+d.name, func(t *testing.T) {
				p, n, m := tt.start(t)
				run(t, p)
				whole := m.state(t, tt.opaque)
				d.do(m)
				if diff := cmp.Diff(d.want, check(t, p, n)); diff != "" {
					t.Errorf("after the damage (-want +got):\n%s", diff)
				}
				run(t, p)
				if diff := cmp.Diff(whole, m.state(t, tt.opaque)); diff != "" {
					t.Errorf("mended (-before +after):\n%s", diff)
				}
				settled(t, p, n)
			})
		}
	}
}

// TestHostPhasesGoOnAfterACut: wherever a run is killed, the next one ends where an undisturbed one does, and sends
// nothing again that is there.
func TestHostPhasesGoOnAfterACut(t *testing.T) {
	for _, tt := range hostPhases {
		t.Run(tt.name, func(t *testing.T) {
			p, _, whole := tt.start(t)
			run(t, p)
			want := whole.state(t, tt.opaque)
			for cut := 0; ; cut++ {
				for _, backward := range []bool{false, true} {
					p, n, m := tt.start(t)
					m.ResetRecord()
					m.left, m.backward = cut, backward
					_, err := new(workflow.Runner).Run(t.Context(), p)
					if err == nil {
						if cut == 0 {
							t.Error("nothing was done")
						}
						return
					}
					if !errors.Is(err, errCut) {
						t.Fatalf("cut after %d: %v", cut, err)
					}
					m.left = -1
					done := len(m.Writes())
					run(t, p)
					if diff := cmp.Diff(want, m.state(t, tt.opaque)); diff != "" {
						t.Errorf("cut after %d (-undisturbed +resumed):\n%s", cut, diff)
					}
					// Backward, a certificate may be there before its authority, and is of no use.
					if again := writtenAgain(m.Writes(), done); len(again) > 0 && !backward {
						t.Errorf("cut after %d: %q is made again", cut, again)
					}
					for _, unit := range []string{"containerd", "kubelet"} {
						if whole.units.Active(unit) != m.units.Active(unit) || whole.units.RunsCurrent(unit) != m.units.RunsCurrent(unit) {
							t.Errorf("cut after %d: %s does not run as it should", cut, unit)
						}
					}
					settled(t, p, n)
				}
			}
		})
	}
}

// writtenAgain are the files that were whole when the machine was cut off, after so many writes, and yet were written once
// more. One half of a key pair is not whole.
func writtenAgain(writes []string, done int) []string {
	before := writes[:done]
	var again []string
	for _, path := range writes[done:] {
		if slices.Contains(before, path) && (twin(path) == "" || slices.Contains(before, twin(path))) {
			again = append(again, path)
		}
	}
	return again
}

// twin is the other file of a key pair.
func twin(path string) string {
	if !strings.HasPrefix(path, config.PKIDir) {
		return ""
	}
	base, ext := strings.TrimSuffix(path, filepath.Ext(path)), filepath.Ext(path)
	switch {
	case ext == ".crt", ext == ".pub":
		return base + ".key"
	case strings.HasSuffix(base, "/sa"):
		return base + ".pub"
	}
	return base + ".crt"
}
