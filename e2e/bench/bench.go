package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// bench is what is measured, and where.
type bench struct {
	release         // what is measured
	old     release // what is upgraded from; empty where no upgrade is measured
	myadm   string  // path of the binary
	dir     string  // of the lab
	lab     *lab.Lab
	log     io.Writer
}

// release is one version of Kubernetes.
type release struct {
	version string
	bundle  string // path of a bundle of it, a folder
	kubeadm string // path of its kubeadm
}

// times are those of one command that makes nodes.
type times struct {
	end    time.Duration // until it ended
	ready  time.Duration // until its nodes were Ready
	phases []phase       // of what it consisted, if it tells
}

// contender is a tool in one of its ways, with what it does; nil is what is not measured.
type contender struct {
	name    string
	cluster func(ctx context.Context) (times, error) // makes the whole cluster; alone
	init    func(ctx context.Context) (times, error) // makes a cluster of the first host
	join    func(ctx context.Context) (times, error) // makes nodes of the others, all at once
}

// measure measures everything that is asked for and adds it to a report. The bare hosts come first: what is read for the
// first time, such as the bundle, counts against them and not against one of the contenders.
func (b *bench) measure(ctx context.Context, r *report, o options) error {
	if o.wants(partScale) {
		if err := b.scale(ctx, r); err != nil {
			return err
		}
	}
	if o.wants(partLatency) {
		if err := b.latency(ctx, r); err != nil {
			return err
		}
	}
	if o.wants(partBare) {
		for range o.rounds {
			if err := b.bare(ctx, r); err != nil {
				return err
			}
		}
		if err := b.fiveBare(ctx, r, o.rounds); err != nil {
			return err
		}
	}
	if o.wants(partSingle) {
		if err := b.up(ctx, b.version, 3, 1); err != nil {
			return err
		}
		contenders, err := b.prepare(ctx, r)
		if err != nil {
			return err
		}
		if err := b.rounds(ctx, r, o.rounds, contenders); err != nil {
			return err
		}
	}
	if o.wants(partCluster) {
		if err := b.up(ctx, b.version, 5, controlPlanes); err != nil {
			return err
		}
		contenders, err := b.prepareCluster(ctx, r)
		if err != nil {
			return err
		}
		if err := b.rounds(ctx, r, o.rounds, contenders); err != nil {
			return err
		}
	}
	if o.wants(partUpgrade) {
		return b.upgrades(ctx, r, o.upgradeRounds)
	}
	return nil
}

// rounds lets every contender have its turn in each round.
func (b *bench) rounds(ctx context.Context, r *report, rounds int, contenders []contender) error {
	for round := range rounds {
		for i := range contenders { // another one begins every round, should the machine be getting faster or slower
			c := contenders[(round+i)%len(contenders)]
			if err := b.turn(ctx, r, c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

// bare measures init on a host that has nothing, and what of it is copying and importing on another such host.
func (b *bench) bare(ctx context.Context, r *report) error {
	for _, m := range []struct {
		what string
		args []string
	}{
		{bareInit, nil},
		{bareShare, []string{"--only", "kernel,runtime,binaries,images"}},
	} {
		if err := b.up(ctx, b.version, 1, 1); err != nil {
			return err
		}
		t, err := b.runMyadm(ctx, append([]string{"init", "--bundle", b.bundle}, m.args...)...)
		if err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
		r.add(m.what, nameMyadm, t)
		b.tell("%s: %.1f s", m.what, t.ready.Seconds())
	}
	return nil
}

// prepare brings everything to the hosts that is not to be measured, by way of a cluster that is then unmade.
func (b *bench) prepare(ctx context.Context, r *report) ([]contender, error) {
	m := b.myadmContender()
	contenders := []contender{m}
	for _, algorithm := range []string{"", "ECDSA-P256"} {
		c, err := b.kubeadmContender(algorithm)
		if err != nil {
			return nil, err
		}
		contenders = append(contenders, c)
	}
	for _, h := range b.lab.Hosts {
		if err := b.lab.Copy(ctx, h.Name, b.kubeadm, kubeadmPath); err != nil {
			return nil, err
		}
	}
	if _, err := m.init(ctx); err != nil {
		return nil, err
	}
	t, err := m.join(ctx)
	if err != nil {
		return nil, err
	}
	r.add(bareJoin, nameMyadm, t)
	b.tell("%s: %.1f s", bareJoin, t.ready.Seconds())
	return contenders, nil
}

// turn measures one contender once. The first join follows init at once, while the controllers that sign certificates are
// still starting: its time is that of the whole. The second one finds a cluster that runs.
func (b *bench) turn(ctx context.Context, r *report, c contender) error {
	if err := b.clean(ctx, b.lab.Hosts); err != nil {
		return err
	}
	if c.cluster != nil {
		t, err := c.cluster(ctx)
		if err != nil {
			return err
		}
		r.add(preparedCluster, c.name, t)
		b.tell("%s: all Ready %.1f s", c.name, t.ready.Seconds())
		return nil
	}
	init, err := c.init(ctx)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	r.add(preparedInit, c.name, init)
	b.tell("%s: init %.1f s, Ready %.1f s", c.name, init.end.Seconds(), init.ready.Seconds())
	if c.join == nil {
		return nil
	}
	join, err := c.join(ctx)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	r.add(preparedBoth, c.name, times{end: init.end + join.end, ready: init.end + join.ready})
	if err := b.clean(ctx, b.lab.Hosts[1:]); err != nil {
		return err
	}
	if join, err = c.join(ctx); err != nil {
		return fmt.Errorf("join again: %w", err)
	}
	r.add(preparedJoin, c.name, join)
	b.tell("%s: join %.1f s, Ready %.1f s", c.name, join.end.Seconds(), join.ready.Seconds())
	return nil
}

// tell logs a line of progress.
func (b *bench) tell(format string, args ...any) {
	fmt.Fprintf(b.log, "%s  "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}
