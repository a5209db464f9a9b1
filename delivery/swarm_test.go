package delivery

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/bundle"
)

// A table's blobs are letters, and its hosts numbers. What each host has or gets is at the path /BLOB, or at /BLOB2 where
// the letter is followed by a 2.
func wantOf(name string) want {
	return want{name: name, blob: bundle.Blob{SHA256: name[:1], Size: 1}, path: "/" + name}
}

func wantsOf(names string) (wants []want) {
	for _, name := range strings.Fields(names) {
		wants = append(wants, wantOf(name))
	}
	return wants
}

func namesOf(wants []want) string {
	var names []string
	for _, w := range wants {
		names = append(names, w.name)
	}
	return strings.Join(names, " ")
}

// shownTask is a task in words: "send a", or "a from 2 3, b from 2".
func shownTask(sites []*site, t task) string {
	if t.send != nil {
		return "send " + t.send.name
	}
	var parts []string
	for _, p := range t.peers {
		part := p.name + " from"
		for _, h := range p.from {
			part += fmt.Sprintf(" %d", slices.Index(sites, h.site))
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

func TestNext(t *testing.T) {
	has := func(of int, names string) func(*swarm, []*site) {
		return func(w *swarm, s []*site) {
			for _, wanted := range wantsOf(names) {
				w.has(s[of], wanted)
			}
		}
	}
	takes := func(of int, names string) func(*swarm, []*site) { // a task that runs on
		return func(w *swarm, s []*site) { w.next(s[of], wantsOf(names)) }
	}
	lacks := func(of int, names string) func(*swarm, []*site) {
		return func(w *swarm, s []*site) { w.lacks(s[of], wantsOf(names)) }
	}
	shuns := func(of, peer int) func(*swarm, []*site) {
		return func(w *swarm, s []*site) { w.shun(s[of], s[peer]) }
	}
	type steps []func(*swarm, []*site)
	for _, test := range []struct {
		name             string
		before           steps
		wants            string // of host 0
		have, task, left string
	}{
		{"nothing is wanted", nil, "", "", "", ""},
		{"nobody has any: one is sent", nil, "a b", "", "send a", "b"},
		{"it is there", steps{has(0, "a")}, "a", "a", "", ""},
		{"some is there, the next is sent", steps{has(0, "a")}, "a b c", "a", "send b", "c"},
		{"there at another path: from itself", steps{has(0, "a")}, "a2", "", "a2 from 0", ""},
		{"peers have all", steps{has(1, "a"), has(2, "b")}, "a b", "", "a from 1, b from 2", ""},
		{"two peers have it, a third is not asked", steps{has(3, "a"), has(1, "a"), has(2, "a")}, "a", "", "a from 3 1", ""},
		{"what peers have goes first, the rest waits", steps{has(1, "b")}, "b a", "", "b from 1", "a"},
		{"what is to be sent goes alone", steps{has(1, "b")}, "a b", "", "send a", "b"},
		{"on its way to a peer: wait", steps{takes(1, "a")}, "a", "", "", "a"},
		{"another one meanwhile", steps{takes(1, "a")}, "a b", "", "send b", "a"},
		{"on its way to itself: wait", steps{takes(0, "a")}, "a", "", "", "a"},
		{"on its way to itself for another place: wait", steps{has(1, "a"), takes(0, "a2")}, "a", "", "", "a"},
		{"from a peer on its way to a peer", steps{has(1, "a"), takes(2, "a")}, "a", "", "a from 1", ""},
		{"the peer serves as many as it can: wait", steps{has(1, "a"), takes(2, "a"), takes(3, "a")}, "a", "", "", "a"},
		{"the one that serves fewer", steps{has(1, "a b"), takes(2, "b"), has(3, "a")}, "a", "", "a from 3 1", ""},
		{"a full peer is none to fall back on", steps{has(1, "a b"), takes(2, "b"), takes(4, "b"), has(3, "a")}, "a", "", "a from 3", ""},
		{"its only peer is shunned", steps{has(1, "a"), shuns(0, 1)}, "a", "", "send a", ""},
		{"another peer is shunned", steps{has(1, "a"), has(2, "a"), shuns(0, 1)}, "a", "", "a from 2", ""},
		{"somebody else shuns the peer", steps{has(1, "a"), shuns(2, 1)}, "a", "", "a from 1", ""},
		{"on its way to a shunned peer: not waited for", steps{takes(1, "a"), shuns(0, 1)}, "a", "", "send a", ""},
		{"it had it, and another place too", steps{has(0, "a a2"), lacks(0, "a")}, "a a2", "a2", "a from 0", ""},
		{"it was brought, and the task goes on: wait for another place", steps{has(1, "a"), takes(0, "a"), has(0, "a")}, "a2", "", "", "a2"},
		{"as many are sent as can be", steps{takes(1, "a"), takes(2, "b"), takes(3, "c"), takes(4, "d")}, "e", "", "", "e"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newSwarm()
			var sites []*site
			for range 5 {
				sites = append(sites, &site{shunned: map[*site]bool{}})
			}
			for _, step := range test.before {
				step(&w, sites)
			}
			have, task, left, changed := w.next(sites[0], wantsOf(test.wants))
			got := [3]string{namesOf(have), shownTask(sites, task), namesOf(left)}
			if diff := cmp.Diff([3]string{test.have, test.task, test.left}, got); diff != "" {
				t.Error(diff)
			}
			select {
			case <-changed:
				t.Error("something has changed already")
			default:
			}
			w.has(sites[4], wantOf("z"))
			<-changed // or the test hangs: a change was not told
		})
	}
}

// Passing on doubles the hosts that have a blob: of sixteen, each serves two at most at a time, and none is sent more.
func TestTree(t *testing.T) {
	w := newSwarm()
	var sites []*site
	for range 16 {
		sites = append(sites, &site{shunned: map[*site]bool{}})
	}
	var got []int // hosts that have the blob, after each round
	for round := 0; len(got) == 0 || got[len(got)-1] < len(sites); round++ {
		tasks := map[*site]task{}
		for _, s := range sites {
			if have, task, _, _ := w.next(s, wantsOf("a")); len(have) == 0 && (task.send != nil || len(task.peers) > 0) {
				tasks[s] = task
			}
		}
		for _, n := range w.served {
			if n > maxServed {
				t.Errorf("round %d: a host serves %d", round, n)
			}
		}
		if len(tasks) == 0 || (round > 0) == (w.sends > 0) {
			t.Fatalf("round %d: %d tasks, %d sends", round, len(tasks), w.sends)
		}
		for s, task := range tasks {
			w.has(s, wantOf("a"))
			w.ended(s, task, nil)
		}
		got = append(got, len(w.of("a").holders))
	}
	if diff := cmp.Diff([]int{1, 3, 9, 16}, got); diff != "" {
		t.Error(diff)
	}
	for s, n := range w.served {
		if n != 0 || w.sends != 0 {
			t.Errorf("%p serves %d still; %d sends", s, n, w.sends)
		}
	}
}

// A host shuns the peers that did not give it a blob, and is sent it when there are no others.
func TestShun(t *testing.T) {
	w := newSwarm()
	var sites []*site
	for range 4 {
		sites = append(sites, &site{shunned: map[*site]bool{}})
	}
	for _, s := range sites[1:] {
		w.has(s, wantOf("a"))
	}
	w.has(sites[1], wantOf("b"))
	var tasks []string
	for {
		_, task, left, _ := w.next(sites[0], wantsOf("a"))
		tasks = append(tasks, shownTask(sites, task))
		if task.send != nil || len(left) > 0 || len(tasks) == 5 {
			break
		}
		w.ended(sites[0], task, []failure{{want: wantOf("a")}})
	}
	if diff := cmp.Diff([]string{"a from 1 2", "a from 3", "send a"}, tasks); diff != "" {
		t.Error(diff)
	}
}
