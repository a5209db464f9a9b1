//go:build e2e

package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

var (
	killRuns = flag.Int("kill-runs", 3, "how many runs of the kill matrix a fault strikes")
	killSeed = flag.Uint64("kill-seed", 0, "of what the kill matrix chooses at random")
)

// step is one of the things that apply does with a cluster, and that are interrupted.
type step struct {
	name  string
	every func(cycle int) bool // whether it comes in the cycle with this number
	spec  func(spec map[string]any)
}

// A cluster has three control planes, or one, which another step may add two to; and a worker.
func large(cycle int) bool { return cycle%3 == 1 }
func grows(cycle int) bool { return cycle%3 == 2 }

// steps follow each other on a cluster: each one's document has what those before it have.
var steps = []step{
	{"new cluster", func(int) bool { return true }, func(spec map[string]any) {}},
	{"change", func(cycle int) bool { return cycle%2 == 0 || cycle%3 == 1 }, func(spec map[string]any) {
		spec["apiServer"] = map[string]any{"extraArgs": []any{map[string]any{"name": "goaway-chance", "value": "0.001"}}}
		spec["certificates"] = map[string]any{"apiServerSANs": []any{"api.example.org"}}
		spec["kubelet"].(map[string]any)["maxPods"] = 99
		spec["scheduler"] = map[string]any{"patch": map[string]any{"metadata": map[string]any{"labels": map[string]any{"team": "a"}}}}
		spec["dns"] = map[string]any{"replicas": 3}
	}},
	{"upgrade", func(cycle int) bool { return !grows(cycle) }, func(spec map[string]any) { spec["kubernetesVersion"] = newest }},
	{growth, grows, func(spec map[string]any) {}},
}

const growth = "growth"

// faultRota is the kinds of faults in the order in which they strike a step; the empty one is a SIGKILL at the end of a phase
// that has not had one. Each step begins at another place, so that a short matrix has all kinds.
var faultRota = []string{"", faultKill, "", faultCut, "", "", faultPower, ""}

// inTurn are the phases that do one host after the other, so that the end of each host's part is a boundary of its own.
var inTurn = []string{"control-planes", "converge-control-planes", "etcd-join"}

// failuresEnough end the matrix: what is wrong with all runs need not be seen in all of them.
const failuresEnough = 6

// longest is how long after the beginning of a phase it is struck at most, by phase; other phases take about a second.
var longest = map[string]time.Duration{
	"control-planes": 15 * time.Second, "converge-control-planes": 10 * time.Second, "workers": 4 * time.Second,
	"images": 5 * time.Second, "binaries": 4 * time.Second, "wait-api": 5 * time.Second, "etcd-join": 3 * time.Second,
}

// killMatrix is the cluster that is made, changed and upgraded over and over, and what has come of it.
type killMatrix struct {
	*site
	link     *lab.Link
	random   *rand.Rand
	turns    map[string]int             // by step: runs so far
	struck   map[string]map[string]bool // by step: boundaries at which myadm was killed
	objects  map[string]listing         // by step and layout: what a cluster had after it, the first time
	faults   map[string]int             // by step and kind: how many struck
	runs     int
	failures []string
	missed   int // faults whose moments did not come
}

// TestKillMatrix has apply make clusters, change and upgrade them, and a fault strike each run: SIGKILL as a phase ends, each of
// them in its turn, or somewhere within; lost SSH connections; hosts that lose their power. Each time the same command is
// run once more, and after that the cluster has to be whole.
func TestKillMatrix(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 4, KubernetesVersion: older})
	k := &killMatrix{
		site: s, link: s.takeLink(t, 0), random: rand.New(rand.NewPCG(*killSeed, 0)),
		turns: map[string]int{}, struck: map[string]map[string]bool{}, objects: map[string]listing{}, faults: map[string]int{},
	}
	t.Cleanup(func() { t.Log(k.report()) })
	for cycle := 0; k.runs < *killRuns && len(k.failures) < failuresEnough; cycle++ {
		k.cycle(t, cycle)
		s.document = s.write(t, []string{"h1", "h2", "h3"}, []string{"h4"}, nil)
		s.myadm(t, nil, "reset", "--all", "-f", s.document, "--yes").want(t, 0)
	}
}

// cycle follows a cluster of bare hosts, as far as it goes: a step that fails is the last one.
func (k *killMatrix) cycle(t *testing.T, cycle int) {
	all, workers := []string{"h1", "h2", "h3"}, []string{"h4"}
	servers := all
	if !large(cycle) {
		servers = all[:1]
	}
	spec := func(map[string]any) {}
	for _, s := range steps {
		if k.runs == *killRuns || !s.every(cycle) {
			continue
		}
		if s.name == growth {
			servers = all
		}
		before := spec
		spec = func(document map[string]any) { before(document); s.spec(document) }
		k.document, k.bundle = k.write(t, servers, workers, spec), made.older
		if s.name == "upgrade" {
			k.bundle = made.bundle
		}
		name := fmt.Sprintf("%d: %s of %d+%d", k.runs+1, s.name, len(servers), len(workers))
		if !t.Run(name, func(t *testing.T) { k.step(t, s.name, servers, workers) }) {
			k.failures = append(k.failures, name)
			return
		}
	}
}

// step interrupts an apply, carries on with it, and checks the cluster.
func (k *killMatrix) step(t *testing.T, name string, servers, workers []string) {
	hosts := slices.Concat(servers, workers)
	m, f := k.choose(t, name, hosts)
	t.Logf("%s, %s", f, m)
	r, struck := k.strike(t, m, f, k.applyArgs("--log-format", "json")...)
	if struck {
		k.runs++
		k.faults[name+": "+f.kind]++
		if !slices.Contains(f.codes, r.code) || strings.Contains(r.stderr, "goroutine ") {
			t.Errorf("%s: it ended with code %d, want one of %d: %s", f, r.code, f.codes, r)
		}
	} else {
		k.missed++
		t.Logf("its moment did not come")
	}
	again := k.myadm(t, nil, k.applyArgs("--log-format", "json", "--lock-timeout", "30s")...)
	t.Logf("%.1f s with code %d, again %.1f s", r.took.Seconds(), r.code, again.took.Seconds())
	if again.code != 0 {
		t.Fatalf("%s, %s: it does not carry on, code %d: %s\n--- before\n%s", f, m, again.code, told(again), told(r))
	}
	k.wantWhole(t, servers, workers)
	what := fmt.Sprintf("%s of %d", name, len(servers))
	objects := k.inventory(t)
	if k.objects[what] == nil {
		k.objects[what] = objects
	}
	if diff := k.objects[what].difference(objects); diff != "" {
		t.Errorf("objects (-another time +now):\n%s", diff)
	}
	if t.Failed() {
		t.Logf("%s, %s: %s\n--- again\n%s", f, m, told(r), told(again))
	}
}

// told is what a run said, but for what it only looked at.
func told(r result) string {
	var out strings.Builder
	for line := range strings.Lines(r.stderr) {
		if !strings.Contains(line, `"DEBUG"`) && !strings.Contains(line, `"unchanged"`) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// choose says what strikes the next run of a step, and when: the plan tells which phases it will have.
func (k *killMatrix) choose(t *testing.T, name string, hosts []string) (moment, fault) {
	t.Helper()
	first := 3*slices.IndexFunc(steps, func(s step) bool { return s.name == name }) + int(*killSeed%uint64(len(faultRota)))
	kind := faultRota[(first+k.turns[name])%len(faultRota)]
	k.turns[name]++
	phases := boundariesOf(k.plan(t))
	f := k.newFault(cmp.Or(kind, faultKill), k.link, hosts, k.random)
	if kind == "" {
		if k.struck[name] == nil {
			k.struck[name] = map[string]bool{}
		}
		for _, at := range k.random.Perm(len(phases)) {
			key := phases[at].phase
			if slices.Contains(inTurn, key) {
				key = phases[at].String()
			}
			if !k.struck[name][key] {
				k.struck[name][key] = true
				return moment{boundary: phases[at]}, f
			}
		}
	}
	m := moment{boundary: phases[k.random.IntN(len(phases))], within: true}
	m.after = time.Duration(k.random.Int64N(int64(cmp.Or(longest[m.phase], time.Second))))
	return m, f
}

// boundariesOf are the ends of all phases that a plan names.
func boundariesOf(p planned) []boundary {
	var all []boundary
	for _, h := range p.Hosts {
		for _, phase := range h.Phases {
			all = append(all, boundary{phase.Name, h.Name})
		}
	}
	for _, phase := range p.ClusterPhases {
		all = append(all, boundary{phase.Name, ""})
	}
	return all
}

// report is what a reader wants to know of all runs.
func (k *killMatrix) report() string {
	var out strings.Builder
	fmt.Fprintf(&out, "kill matrix: seed %d, %d runs that a fault struck, %d failures, %d moments that did not come", *killSeed, k.runs, len(k.failures), k.missed)
	for _, what := range slices.Sorted(maps.Keys(k.faults)) {
		fmt.Fprintf(&out, "\n\t%3d %s", k.faults[what], what)
	}
	for _, s := range steps {
		fmt.Fprintf(&out, "\n\tkilled at the end of these phases in a %s: %s", s.name, strings.Join(slices.Sorted(maps.Keys(k.struck[s.name])), ", "))
	}
	return out.String()
}
