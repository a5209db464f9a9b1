package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// farAway is how much longer a round trip to the hosts takes where latency is measured.
const farAway = 100 * time.Millisecond

// latency measures the making of a cluster, and an apply that finds it made, near and far away. The hosts are prepared.
func (b *bench) latency(ctx context.Context, r *report) (err error) {
	if err := b.up(ctx, b.version, 5, controlPlanes); err != nil {
		return err
	}
	if _, err := b.runMyadm(ctx, "apply", "--bundle", b.bundle); err != nil { // brings everything to the hosts
		return err
	}
	link, err := b.lab.OpenLink(ctx, 0)
	if err != nil {
		return err
	}
	defer link.Close()
	data, err := os.ReadFile(b.lab.Path(lab.ClusterFile))
	if err != nil {
		return err
	}
	if data, err = link.Document(data); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "myadm-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	document := filepath.Join(dir, "cluster.yaml")
	if err := os.WriteFile(document, data, 0o600); err != nil {
		return err
	}
	for _, trip := range []time.Duration{0, farAway} {
		link.SetLatency(trip)
		if err := b.clean(ctx, b.lab.Hosts); err != nil {
			return err
		}
		for _, what := range []string{farCluster, farAgain} {
			lines, took, err := execute(ctx, b.myadm, "apply", "-f", document, "--bundle", b.bundle)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(", %d ms added to round trips", trip.Milliseconds())
			r.add(what, nameMyadm, times{end: took, ready: took, phases: phasesOf(lines)})
			b.tell("%s: %.1f s", what, took.Seconds())
		}
	}
	return nil
}
