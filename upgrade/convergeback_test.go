package upgrade

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// sickening are edits of a document with which a program does not run, and on which host that shows first.
var sickening = []struct {
	name string
	edit func(s *config.Spec)
	do   func(f *fleet) // what else is amiss; may be nil
	ill  func(name string, p program) bool
	on   string
	want string // a part of the error
}{
	{
		name: "an API server",
		edit: func(s *config.Spec) {
			s.APIServer = policy("rules: wrong\n")
			s.Certificates.APIServerSANs = []string{"api.example.org"}
			s.Kubelet = map[string]any{"maxPods": int64(60)}
		},
		ill: func(name string, p program) bool {
			return name == manifests.APIServerName && strings.Contains(p.manifest, policyFile)
		},
		on: "cp-1", want: "cp-1: converge-control-planes: kube-apiserver " + newVersion + ": it was started",
	},
	{
		name: "a scheduler that there was none of",
		edit: func(s *config.Spec) { s.Scheduler.ExtraArgs = []config.Arg{{Name: "wrong", Value: "1"}} },
		do:   func(f *fleet) { f.host("cp-1").lose(schedulerPod) },
		ill: func(name string, p program) bool {
			return name == manifests.SchedulerName && strings.Contains(p.manifest, "--wrong")
		},
		on: "cp-1", want: "cp-1: converge-control-planes: kube-scheduler " + newVersion + ": it was started",
	},
	{
		name: "a kubelet of a worker, whose drop-in was gone",
		edit: func(s *config.Spec) { s.Kubelet = map[string]any{"maxPods": int64(60)} },
		do:   func(f *fleet) { f.host("w-1").lose(manifests.KubeletDropInPath) },
		ill: func(name string, p program) bool {
			return name == kubelet && strings.Contains(p.manifest, "maxPods: 60")
		},
		on: "w-1", want: "w-1: converge-workers: kubelet: it was started",
	},
}

// sicken edits a fleet's document, and has programs fail on the host that the edit shows on first.
func (f *fleet) sicken(i int) {
	tt := sickening[i]
	if tt.do != nil {
		tt.do(f)
	}
	tt.edit(&f.Config.Spec)
	f.host(tt.on).ill = tt.ill
}

// TestHostIsPutBackAsItWas: what does not become healthy runs with the files from before, the error says which it was, and
// no other host is begun. With the cause mended, the next run does it all.
func TestHostIsPutBackAsItWas(t *testing.T) {
	q := newQuorum(t, "cp-1", "cp-2")
	for i, tt := range sickening {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t, q, nil)
			f.sicken(i)
			before := f.wholeState()
			_, err := f.runCut(rigOptions())
			if err == nil {
				t.Fatal("it is no error")
			}
			for _, part := range []string{tt.want, "panic: ", "what ran before is back and healthy; hint: mend the cause"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v\ndoes not hold %q", err, part)
				}
			}
			f.asBefore(before, tt.on)
			f.host(tt.on).ill = nil
			f.again()
			perform(t, f.converge(rigOptions())...)
			f.finished()
		})
	}
}

// asBefore fails the test unless the host has been put back, and those after it have not been begun.
func (f *fleet) asBefore(before map[string]string, on string) {
	f.t.Helper()
	begun := false
	for _, h := range f.hosts {
		if begun = begun || h.node.Name == on; !begun || h.node.HasRole(config.RoleControlPlane) != f.host(on).node.HasRole(config.RoleControlPlane) {
			continue
		}
		want, got := only(before, h.node.Name), only(f.wholeState(), h.node.Name)
		if diff := cmp.Diff(want, got); diff != "" {
			f.t.Errorf("%s (-before +after):\n%s", h.node.Name, diff)
		}
	}
	f.inService()
}

// only are the files of one host, without those of a run that is to be carried on.
func only(state map[string]string, name string) map[string]string {
	files := map[string]string{}
	for path, text := range state {
		if file, ok := strings.CutPrefix(path, name+":"); ok && !strings.HasPrefix(file, folder) {
			files[file] = text
		}
	}
	return files
}

// TestPuttingBackGoesOnAfterACut: a run that is killed while it puts a host back, or before that, is carried on: with the
// cause still there to the host as it was, and with the cause mended to the end.
func TestPuttingBackGoesOnAfterACut(t *testing.T) {
	for i, tt := range sickening {
		for _, mended := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", tt.name, mended), func(t *testing.T) {
				t.Parallel()
				q := newQuorum(t, "cp-1", "cp-2")
				whole := newFleet(t, q, nil)
				whole.sicken(i)
				if _, err := whole.runCut(rigOptions()); err == nil {
					t.Fatal("it is no error")
				}
				for _, cut := range chosen(len(whole.done)) {
					t.Run(strconv.Itoa(cut), func(t *testing.T) {
						f := newFleet(t, q, nil)
						f.sicken(i)
						before := f.wholeState()
						f.left, f.kill = cut, true
						if ended, err := f.runCut(rigOptions()); !ended || err == nil {
							t.Fatalf("it did not end: %v", err)
						}
						at := len(f.done)
						if mended {
							f.host(tt.on).ill = nil
							f.host(tt.on).starts() // systemd starts a kubelet again that has ended
						}
						f.again()
						_, err := new(workflow.Runner).Run(t.Context(), f.converge(rigOptions())...)
						switch {
						case mended && err != nil:
							t.Errorf("the next run fails: %v", err)
						case mended:
							f.finished()
						case err == nil || !strings.Contains(err.Error(), tt.want):
							t.Errorf("the next run: %v\nwant %s", err, tt.want)
						default:
							f.asBefore(before, tt.on)
						}
						if t.Failed() {
							t.Logf("the runs did\n%s", f.log(at))
						}
					})
				}
			})
		}
	}
}
