// Command bench measures myadm beside the real kubeadm, built from the same modules, on the same hosts of a lab: init, and
// the join of two workers at once, with the runtime, the binaries and the images in place for both; and the making of a
// whole cluster of three control planes and two workers, likewise; and the upgrade of such a cluster. It also measures init
// on bare hosts, alone and in the two parts of which it consists, and the making of a cluster of five bare hosts, beside a
// script of scp, tar, ctr and kubeadm that does the same. What distance costs it measures on hosts 100 ms away, and what
// numbers cost on up to 200 hosts that are SSH servers without machines.
//
// The tools take turns, and before every turn the hosts are brought into the same state. kubeadm runs as its users run it:
// by ssh, on each host. A ratio below one says that myadm is faster. Being slow is no failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/build"
)

// options are the command line's.
type options struct {
	rounds        int
	upgradeRounds int
	dir           string
	myadm         string
	output        string
	phases        bool
	keep          bool
	only          string
}

// The parts of the measurement, as -only names them.
const (
	partBare    = "bare"
	partSingle  = "single"
	partCluster = "cluster"
	partUpgrade = "upgrade"
	partScale   = "scale"
	partLatency = "latency"
)

var parts = []string{partScale, partLatency, partBare, partSingle, partCluster, partUpgrade}

// wants tells whether a part is to be measured.
func (o options) wants(part string) bool { return o.only == "" || o.only == part }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		os.Exit(2) // the flag package has told why
	}
	err = run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.rounds, "rounds", 3, "how often everything else than upgrades is measured")
	f.IntVar(&o.upgradeRounds, "upgrade-rounds", 1, "how often upgrades are measured; a round takes a quarter of an hour")
	f.StringVar(&o.dir, "dir", filepath.Join(".lab", "bench"), "`folder` of the lab; what is in it is removed")
	f.StringVar(&o.myadm, "myadm", filepath.Join("bin", "myadm"), "the `binary` to measure")
	f.StringVar(&o.output, "o", "text", "how the result is written: `text or json`")
	f.BoolVar(&o.phases, "phases", false, "tell of myadm's phases; json always does, and so do upgrades")
	f.BoolVar(&o.keep, "keep", false, "leave the hosts as they are after the last turn")
	f.StringVar(&o.only, "only", "", "measure one `part`: bare (hosts, and five of them beside a script), single (control plane), cluster (of three control planes and two workers), upgrade (of such a cluster), latency (such a cluster, 100 ms away) or scale (up to 200 hosts, which are SSH servers without machines)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("bench takes no arguments, and got %q", f.Args())
	case o.rounds < 1 || o.upgradeRounds < 1:
		err = errors.New("-rounds and -upgrade-rounds are at least 1")
	case o.output != "text" && o.output != "json":
		err = fmt.Errorf("-o %s: it is text or json", o.output)
	case o.only != "" && !slices.Contains(parts, o.only):
		err = fmt.Errorf("-only %s: it is one of %s", o.only, strings.Join(parts, ", "))
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
	}
	return o, err
}

func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	b, err := newBench(ctx, o, stderr)
	if err != nil {
		return err
	}
	if !o.keep && o.only != partScale {
		defer func() {
			// A Ctrl-C does not keep the hosts from being removed.
			err = errors.Join(err, b.down(context.WithoutCancel(ctx)))
		}()
	}
	r := &report{Kubernetes: b.version, CPUs: runtime.NumCPU()}
	err = b.measure(ctx, r, o)
	if len(r.Series) == 0 && len(r.Scale) == 0 {
		return err
	}
	// What was measured before something failed is told, too.
	if o.output == "json" {
		return errors.Join(err, r.writeJSON(stdout))
	}
	return errors.Join(err, r.writeText(stdout, o.phases))
}

// newBench builds what is measured.
func newBench(ctx context.Context, o options, log io.Writer) (*bench, error) {
	b := &bench{log: log}
	var err error
	if b.myadm, err = filepath.Abs(o.myadm); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.myadm); err != nil {
		return nil, fmt.Errorf("%w; hint: make build", err)
	}
	if b.dir, err = filepath.Abs(o.dir); err != nil {
		return nil, err
	}
	if o.only == partScale {
		b.release.version = lab.DefaultKubernetesVersion
		return b, nil
	}
	if b.release, err = newRelease(ctx, lab.DefaultKubernetesVersion, log); err != nil {
		return nil, err
	}
	if o.wants(partUpgrade) {
		b.old, err = newRelease(ctx, oldVersion, log)
	}
	return b, err
}

// newRelease builds a version's bundle and kubeadm.
func newRelease(ctx context.Context, version string, log io.Writer) (release, error) {
	r := release{version: version}
	cache, err := lab.CacheDir()
	if err != nil {
		return r, err
	}
	components := build.Options{
		KubernetesVersion: version, CacheDir: cache, ComponentsDir: filepath.Join("e2e", "components"), Out: log,
	}
	if _, err := os.Stat(components.ComponentsDir); err != nil {
		return r, fmt.Errorf("%w; hint: run bench at the root of the source tree, as make bench does", err)
	}
	if r.bundle, err = build.Bundle(ctx, components); err != nil {
		return r, err
	}
	r.kubeadm, err = build.Kubeadm(ctx, components)
	return r, err
}
