// Command bench measures myadm beside the real kubeadm, built from the same modules, on the same hosts of a lab: init, and
// the join of two workers at once, with the runtime, the binaries and the images in place for both; and the making of a
// whole cluster of three control planes and two workers, likewise. It also measures init on bare hosts, alone and in the
// two parts of which it consists.
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
	"syscall"

	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/build"
)

// options are the command line's.
type options struct {
	rounds int
	dir    string
	myadm  string
	output string
	phases bool
	keep   bool
	only   string
}

// The parts of the measurement, as -only names them.
const (
	partBare    = "bare"
	partSingle  = "single"
	partCluster = "cluster"
)

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
	f.IntVar(&o.rounds, "rounds", 3, "how often everything is measured")
	f.StringVar(&o.dir, "dir", filepath.Join(".lab", "bench"), "`folder` of the lab; what is in it is removed")
	f.StringVar(&o.myadm, "myadm", filepath.Join("bin", "myadm"), "the `binary` to measure")
	f.StringVar(&o.output, "o", "text", "how the result is written: `text or json`")
	f.BoolVar(&o.phases, "phases", false, "tell of myadm's phases; json always does")
	f.BoolVar(&o.keep, "keep", false, "leave the hosts as they are after the last turn")
	f.StringVar(&o.only, "only", "", "measure one `part`: bare (hosts), single (control plane) or cluster (of three control planes and two workers)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("bench takes no arguments, and got %q", f.Args())
	case o.rounds < 1:
		err = errors.New("-rounds is at least 1")
	case o.output != "text" && o.output != "json":
		err = fmt.Errorf("-o %s: it is text or json", o.output)
	case !o.wants(partBare) && !o.wants(partSingle) && !o.wants(partCluster):
		err = fmt.Errorf("-only %s: it is %s, %s or %s", o.only, partBare, partSingle, partCluster)
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
	if !o.keep {
		defer func() {
			// A Ctrl-C does not keep the hosts from being removed.
			err = errors.Join(err, b.down(context.WithoutCancel(ctx)))
		}()
	}
	r := &report{Kubernetes: b.version, CPUs: runtime.NumCPU()}
	err = b.measure(ctx, r, o)
	if len(r.Series) == 0 {
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
	b := &bench{version: lab.DefaultKubernetesVersion, log: log}
	cache, err := lab.CacheDir()
	if err != nil {
		return nil, err
	}
	components := build.Options{
		KubernetesVersion: b.version, CacheDir: cache, ComponentsDir: filepath.Join("e2e", "components"), Out: log,
	}
	if _, err := os.Stat(components.ComponentsDir); err != nil {
		return nil, fmt.Errorf("%w; hint: run bench at the root of the source tree, as make bench does", err)
	}
	if b.myadm, err = filepath.Abs(o.myadm); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.myadm); err != nil {
		return nil, fmt.Errorf("%w; hint: make build", err)
	}
	if b.dir, err = filepath.Abs(o.dir); err != nil {
		return nil, err
	}
	if b.bundle, err = build.Bundle(ctx, components); err != nil {
		return nil, err
	}
	b.kubeadm, err = build.Kubeadm(ctx, components)
	return b, err
}
