package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// farmSizes are the numbers of hosts of which scaling is measured.
var farmSizes = []int{25, 50, 100, 200}

// farmPhases are the phases that need nothing but a host's files: the PKI and kubeconfigs of the first control plane, and on
// every host the runtime's registries, its proxy, the load balancer of the API servers, and the kubelet's key, certificate
// and kubeconfig.
const farmPhases = "certs,kubeconfigs,registries,proxy,load-balancer,credentials"

// usage is what one run of myadm took.
type usage struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpuSeconds"`      // of myadm alone
	Hosts   float64 `json:"hostsCPUSeconds"` // of the hosts, which share the machine with it
	Peak    float64 `json:"peakMB"`          // resident memory at most, in 10^6 bytes
}

// scaled is what a number of hosts took.
type scaled struct {
	Hosts int   `json:"hosts"`
	Apply usage `json:"apply"` // of hosts that have nothing yet
	Again usage `json:"again"` // of the same, which looks at all of it and changes nothing: what a plan does
}

// scale measures myadm on ever more hosts of a farm.
func (b *bench) scale(ctx context.Context, r *report) error {
	if os.Geteuid() != 0 {
		return errors.New("hosts of a farm have mount namespaces; hint: run bench as root")
	}
	for _, hosts := range farmSizes {
		s, err := b.farm(ctx, hosts)
		if err != nil {
			return fmt.Errorf("%d hosts: %w", hosts, err)
		}
		r.Scale = append(r.Scale, s)
		b.tell("%d hosts: apply %.1f s, again %.1f s, at most %.0f MB", hosts, s.Apply.Seconds, s.Again.Seconds, max(s.Apply.Peak, s.Again.Peak))
	}
	return nil
}

// farm measures one number of hosts.
func (b *bench) farm(ctx context.Context, hosts int) (s scaled, err error) {
	dir, err := os.MkdirTemp("", "myadm-farm-")
	if err != nil {
		return s, err
	}
	f, err := newFarm(ctx, dir, hosts)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	data, err := f.document()
	if err != nil {
		return s, err
	}
	document := filepath.Join(dir, "cluster.yaml")
	if err := os.WriteFile(document, data, 0o600); err != nil {
		return s, err
	}
	s.Hosts = hosts
	for _, run := range []struct {
		to   *usage
		none bool // whether it is to change nothing
	}{{&s.Apply, false}, {&s.Again, true}} {
		said, u, err := spend(ctx, b.myadm, "apply", "-f", document, "--only", farmPhases)
		if err != nil {
			return s, err
		}
		if none := strings.Contains(said, " with 0 changes"); none != run.none {
			return s, fmt.Errorf("it changed what it should not, or nothing: %s", said)
		}
		*run.to = u
	}
	return s, nil
}

// spend runs a command and tells what it printed and took.
func spend(ctx context.Context, argv ...string) (string, usage, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, log strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	before, began := spentHere(), time.Now()
	err := cmd.Run()
	u := usage{Seconds: time.Since(began).Seconds(), Hosts: spentHere() - before}
	if err != nil {
		text := log.String()
		return "", u, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, text[max(0, len(text)-2000):])
	}
	u.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	u.Hosts -= u.CPU
	if took, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.Peak = float64(took.Maxrss) * 1024 / 1e6 // getrusage(2) gives KiB
	}
	return out.String(), u, nil
}

// spentHere are the seconds of CPU that this process has taken, with those that it started and that have ended.
func spentHere() float64 {
	total := 0.0
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var took syscall.Rusage
		if syscall.Getrusage(who, &took) == nil {
			total += time.Duration(took.Utime.Nano() + took.Stime.Nano()).Seconds()
		}
	}
	return total
}

// slope is what a further host costs, from the first and the last of the sizes, in milliseconds or kB.
func slope(all []scaled, of func(scaled) float64) float64 {
	first, last := all[0], all[len(all)-1]
	return (of(last) - of(first)) / float64(last.Hosts-first.Hosts) * 1000
}

// scale prints the table of a farm's sizes, and what a further host costs.
func (p *printer) scale(all []scaled) {
	if len(all) == 0 {
		return
	}
	p.line("\nHosts that are SSH servers in one process, each with folders of its own for /etc and /run; phases %s.", farmPhases)
	p.line("The servers share the CPUs with myadm. \"again\" finds everything in place, as a plan does.\n")
	p.line("%6s  %8s %10s %10s %8s  %8s %10s %10s %8s", "", "apply", "of myadm", "of hosts", "peak", "again", "of myadm", "of hosts", "peak")
	p.line("%6s  %8s %10s %10s %8s  %8s %10s %10s %8s", "hosts", "s", "CPU s", "CPU s", "MB", "s", "CPU s", "CPU s", "MB")
	for _, s := range all {
		p.line("%6d  %8.1f %10.2f %10.1f %8.0f  %8.1f %10.2f %10.1f %8.0f", s.Hosts, s.Apply.Seconds, s.Apply.CPU, s.Apply.Hosts, s.Apply.Peak,
			s.Again.Seconds, s.Again.CPU, s.Again.Hosts, s.Again.Peak)
	}
	if len(all) < 2 {
		return
	}
	p.line("a further host: apply %.1f ms (%.1f ms of CPU) and %.0f kB, again %.1f ms (%.1f ms) and %.0f kB; 500 MB is the limit",
		slope(all, func(s scaled) float64 { return s.Apply.Seconds }), slope(all, func(s scaled) float64 { return s.Apply.CPU }),
		slope(all, func(s scaled) float64 { return s.Apply.Peak }), slope(all, func(s scaled) float64 { return s.Again.Seconds }),
		slope(all, func(s scaled) float64 { return s.Again.CPU }), slope(all, func(s scaled) float64 { return s.Again.Peak }))
}
