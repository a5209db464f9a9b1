//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

const (
	// farAway is how much longer a round trip to the hosts takes.
	farAway = 100 * time.Millisecond

	// What that may cost: a new cluster so much more than near hosts, and an apply of a finished one so much in all, or so much
	// more than near hosts where the machine is busy with other things. Near it takes two seconds.
	farCluster   = 15 * time.Second
	farAgain     = 10 * time.Second
	farAgainMore = 8 * time.Second
)

// TestLatency makes the same cluster near and far away.
func TestLatency(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 5, ControlPlanes: 3})
	link, err := s.OpenLink(t.Context(), 0)
	must(t, err)
	defer link.Close()
	document, err := os.ReadFile(s.document)
	must(t, err)
	document, err = link.Document(document)
	must(t, err)
	s.document = filepath.Join(s.home, "far.yaml")
	must(t, os.WriteFile(s.document, document, 0o600))
	reset := func() { s.myadm(t, nil, "reset", "--all", "-f", s.document, "--yes").want(t, 0) }

	s.apply(t) // the first time everything is read from disk
	took, tookAgain := map[time.Duration]time.Duration{}, map[time.Duration]time.Duration{}
	for _, trip := range []time.Duration{0, farAway} {
		reset()
		link.SetLatency(trip)
		before := link.Traffic()
		made, again := s.apply(t), s.apply(t)
		if !strings.Contains(again.stdout, " 0 changes") {
			t.Errorf("the second apply changes something: %s", again)
		}
		took[trip], tookAgain[trip] = made.took, again.took
		after := link.Traffic()
		t.Logf("with %s added to round trips: a new cluster in %.1f s, apply again %.1f s; %d MiB sent", trip, made.took.Seconds(), again.took.Seconds(), (after.Sent-before.Sent)>>20)
		if limit := max(farAgain, tookAgain[0]+farAgainMore); trip > 0 && again.took > limit {
			t.Errorf("apply of a finished cluster took %s, want at most %s: %s", again.took, limit, again)
		}
		link.SetLatency(0)
	}
	if more := took[farAway] - took[0]; more > farCluster {
		t.Errorf("a new cluster took %s longer than near, want at most %s", more, farCluster)
	}
	s.wantReady(t, "h1", "h2", "h3", "h4", "h5")
}
