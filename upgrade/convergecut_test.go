package upgrade

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// everyCut takes minutes: go test ./upgrade -run Cut -every-cut. Else it is one of eleven.
var everyCut = flag.Bool("every-cut", false, "cut runs before each thing that they do, not only some")

// chosen are the cuts to try of so many, the last one among them.
func chosen(cuts int) []int {
	var all []int
	for cut := range cuts {
		if *everyCut || (cuts-1-cut)%11 == 0 {
			all = append(all, cut)
		}
	}
	return all
}

// runCut runs steps that end at what f was told to end at, and reports whether they did.
func (f *fleet) runCut(opts Options) (ended bool, err error) {
	ctx, end := context.WithCancel(f.t.Context())
	defer end()
	f.end = end
	_, err = new(workflow.Runner).Run(ctx, f.converge(opts)...)
	return ctx.Err() != nil, err
}

// TestConvergenceGoesOnAfterACut: wherever a run ends, between any two things that it does to hosts, the next one comes to
// where an undisturbed one does. A run that is killed does nothing any more; one that its user stops has all API servers in
// service when it ends, whether or not the host has done what it was told last; and a host that loses its power may have
// replaced half of what it should.
func TestConvergenceGoesOnAfterACut(t *testing.T) {
	for _, servers := range [][]string{{"cp-1", "cp-2"}, {"cp-1"}} {
		for _, way := range []struct {
			name string
			set  func(f *fleet, cut int)
		}{
			{"killed", func(f *fleet, cut int) { f.left, f.kill = cut, true }},
			{"stopped", func(f *fleet, cut int) { f.left = cut }},
			{"stopped and done", func(f *fleet, cut int) { f.left, f.late = cut, true }},
			{"without power", func(f *fleet, cut int) { f.steps = cut }},
		} {
			t.Run(fmt.Sprintf("%d/%s", len(servers), way.name), func(t *testing.T) {
				t.Parallel()
				q := newQuorum(t, servers...)
				whole := newFleet(t, q, nil)
				muchDiffers(whole)
				perform(t, whole.converge(rigOptions())...)
				whole.finished()
				want, cuts := whole.state(), len(whole.done)
				if way.name == "without power" {
					cuts = whole.taken
				}
				for _, cut := range chosen(cuts) {
					t.Run(strconv.Itoa(cut), func(t *testing.T) {
						f := newFleet(t, q, nil)
						muchDiffers(f)
						way.set(f, cut)
						if ended, err := f.runCut(rigOptions()); !ended || err == nil {
							t.Fatalf("it did not end: %v; it did\n%s", err, strings.Join(f.done, "\n"))
						}
						f.resume(want)
					})
				}
			})
		}
	}
}

// resume goes on after a cut, and fails the test unless that ends where it is to.
func (f *fleet) resume(want map[string]string) {
	f.t.Helper()
	if !f.kill {
		f.inService()
	}
	cut := len(f.done)
	f.again()
	if _, err := new(workflow.Runner).Run(f.t.Context(), f.converge(rigOptions())...); err != nil {
		f.t.Fatalf("the next run fails: %v; it did\n%s", err, f.log(cut))
	}
	f.finished()
	if diff := cmp.Diff(want, f.state()); diff != "" {
		f.t.Errorf("(-undisturbed +resumed):\n%s", diff)
	}
	if f.t.Failed() {
		f.t.Logf("the runs did\n%s", f.log(cut))
	}
}

// log is what was done to hosts, with a line where a run was cut.
func (f *fleet) log(cut int) string {
	return strings.Join(slices.Concat(f.done[:cut], []string{"--- cut"}, f.done[cut:]), "\n")
}

// inService fails the test unless all load balancers send to all API servers that run.
func (f *fleet) inService() {
	f.t.Helper()
	for _, h := range f.hosts {
		file, _ := h.Get(manifests.HAProxyConfigPath)
		for _, n := range f.ControlPlanes() {
			if f.host(n.Spec.Name).serves(manifests.APIServerName) && !strings.Contains(string(file.Data), n.Spec.AdvertiseAddress+":6443") {
				f.t.Errorf("%s: its load balancer sends nothing to %s", h.node.Name, n.Spec.Name)
			}
		}
	}
}
