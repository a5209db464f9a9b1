package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// bareWorkers is how many of the five bare hosts are workers. There is one control plane: of several, kubeadm adds one after
// the other, and what that costs would hide what is compared here. It is measured on prepared hosts instead.
const bareWorkers = 4

// scriptWays are the two ways of script/cluster.sh, and how reports call them.
var scriptWays = map[string]string{nameScript: "one-by-one", nameScriptAtOnce: "at-once"}

// fiveBare measures the making of a cluster of hosts that have nothing: by myadm with a bundle, in one command, and by the
// script. Every turn has new hosts.
func (b *bench) fiveBare(ctx context.Context, r *report, rounds int) error {
	dir, err := os.MkdirTemp("", "bench-kit-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	k, err := newKit(ctx, dir, b.release)
	if err != nil {
		return fmt.Errorf("the script's kit: %w", err)
	}
	var network []byte // flannel's objects, of the first cluster
	contenders := []contender{{name: nameMyadm, cluster: func(ctx context.Context) (times, error) {
		t, err := b.runMyadm(ctx, "apply", "--bundle", b.bundle)
		if err == nil && network == nil {
			network, err = b.networkObjects(ctx)
		}
		return t, err
	}}}
	for _, name := range []string{nameScript, nameScriptAtOnce} {
		contenders = append(contenders, contender{name: name, cluster: func(ctx context.Context) (times, error) {
			return b.runScript(ctx, k, network, scriptWays[name])
		}})
	}
	for round := range rounds {
		for i := range contenders {
			c := contenders[(round+i)%len(contenders)]
			if err := b.up(ctx, b.version, 1+bareWorkers, 1); err != nil {
				return err
			}
			t, err := c.cluster(ctx)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", bareFive, c.name, err)
			}
			r.add(bareFive, c.name, t)
			b.tell("%s: %s %.1f s", bareFive, c.name, t.ready.Seconds())
		}
	}
	return nil
}

// runScript runs the script on the lab's hosts and waits until they are Ready nodes.
func (b *bench) runScript(ctx context.Context, k kit, network []byte, way string) (times, error) {
	document, err := os.ReadFile(b.lab.Path(lab.ClusterFile))
	if err != nil {
		return times{}, err
	}
	if err := k.configure(document, network, b.lab.Hosts[0].Address.String()); err != nil {
		return times{}, err
	}
	argv := []string{"env", "IGNORED=" + ignored, "bash", filepath.Join(k.dir, "cluster.sh"), k.dir, b.lab.Path(lab.SSHConfig), way}
	for _, h := range b.lab.Hosts {
		argv = append(argv, h.Name)
	}
	lines, took, err := execute(ctx, argv...)
	t := times{end: took, phases: stepsOf(lines)}
	if err != nil {
		return t, err
	}
	start := time.Now()
	err = b.awaitReady(ctx, b.lab.Hosts)
	t.ready = t.end + time.Since(start)
	return t, err
}

// stepsOf finds in what the script wrote when it did what on which host.
func stepsOf(lines []line) []phase {
	type place struct{ host, step string }
	began := map[place]float64{}
	var steps []phase
	for _, l := range lines {
		words := strings.Fields(l.text)
		if len(words) != 3 {
			continue
		}
		at := place{words[0], words[1]}
		switch from, known := began[at]; {
		case words[2] == "begins":
			began[at] = l.at.Seconds()
		case words[2] == "ends" && known:
			steps = append(steps, phase{Name: at.step, Host: at.host, From: from, To: l.at.Seconds(), Text: "done"})
			delete(began, at)
		}
	}
	slices.SortStableFunc(steps, func(a, b phase) int { return cmp.Compare(a.From, b.From) })
	return steps
}
