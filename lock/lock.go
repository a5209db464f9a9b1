// Package lock keeps two operators from changing a cluster at the same time.
//
// A run has up to two kinds of lock. It takes both, and goes on for as long as it has one that every other run would meet:
//
//   - One on each control plane that it reaches, before there is an API and also when the API is away, as it is in the
//     middle of an upgrade. It is an flock(2) on a file in /run, had by a command that runs for as long as the run feeds
//     it (see script). A file with times in it would be simpler, and wrong: a killed run would block the next one until
//     it expires, and clocks would have to be compared. A file lock is let go of by the kernel: with the command, which
//     ends with its connection or, when the network is cut and nobody tells the host, by the host's own timer. Only that
//     host's clock is ever looked at, and a reboot leaves nothing.
//   - A Lease in the API, kube-system/myadm, once there is an API, for runs whose documents name other control planes. It
//     is created and deleted, so that none is left between runs.
//
// Hosts are locked in the order of their IDs, the first one alone: of two runs that begin at the same moment with the
// same hosts, one has it, and the other has nothing that the first could stumble over.
//
// Whose Lease may be taken? That of a run that has ended without deleting it. If it had locked only hosts that are now
// ours, it is dead, or cut off from the whole cluster: this makes a rerun after a SIGKILL wait for nothing. Else its age
// counts, both of its times being by the API server's clock, and it is watched for a while on top: a holder whose API was
// away could not renew its Lease, and will as soon as it can.
//
// Two runs are not kept apart when no API answers and their documents name no control plane in common, or when a host joins
// by a token, which has no right to the Lease: then only the hosts themselves are locked. The first of the two that
// reaches the API has the Lease, and the other stops when it meets it.
//
// A run that has lost its lock has to stop: its context ends with a *LostError as the cause. That is so when somebody has
// taken it, and when no part of it could be renewed for two thirds of its life, since after all of that somebody may take
// it. What is under way on a host at that moment ends a little later. A machine that wakes from sleep renews first of all.
package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/myadm/myadm/kube"
)

const (
	// DefaultExpiry is how long a lock lives that is not renewed. It is as that of the leader election of Kubernetes'
	// own components.
	DefaultExpiry = 15 * time.Second

	// Path is the file on a host. It is gone when the lock is.
	Path = "/run/myadm.lock"

	// releaseTimeout is how long giving a lock up may take. What it does not reach expires.
	releaseTimeout = 3 * time.Second
)

// errPatience is that a lock was waited for as long as the user wants.
var errPatience = errors.New("the lock was waited for as long as --lock-timeout says")

// Options of Acquire. Holder is to be set.
type Options struct {
	Holder   Record        // with an ID, without Hosts
	What     string        // is locked, in messages; empty: "the cluster"
	Break    bool          // take it from whoever has it
	Patience time.Duration // how long somebody else is waited for; 0: not at all

	// Waiting is told whom is waited for. It may be told of the same one again.
	Waiting func(*HeldError)

	// API connects to the cluster's API as an administrator, with a client that the lock closes. It is called again
	// whenever the API is not reached, and gives an error as long as there is none. nil: there is nobody to ask.
	API func(ctx context.Context) (*kube.Client, error)

	Expiry time.Duration // 0: DefaultExpiry
	Path   string        // empty: Path
}

func (o *Options) what() string          { return cmp.Or(o.What, "the cluster") }
func (o *Options) path() string          { return cmp.Or(o.Path, Path) }
func (o *Options) expiry() time.Duration { return cmp.Or(o.Expiry, DefaultExpiry) }

// renewal lies between two renewals.
func (o *Options) renewal() time.Duration { return o.expiry() / 4 }

// giveUp is how long a run goes on without an answer to a renewal.
func (o *Options) giveUp() time.Duration { return o.expiry() * 2 / 3 }

// Lock is a lock that is held. Release gives it up.
type Lock struct {
	opts   Options
	hosts  []*hostGuard
	lease  *leaseGuard // nil: no API will ever be asked
	lose   context.CancelCauseFunc
	ended  chan struct{} // gets one whenever the lock of a host has ended
	stop   context.CancelFunc
	keeper sync.WaitGroup
}

// Acquire takes the lock, with that of each host, which have IDs that differ. Without hosts it is held by nobody. The context
// that it returns ends with ctx, and when the lock is lost. A lock that somebody else has gives a *HeldError.
func Acquire(ctx context.Context, hosts []Host, opts Options) (*Lock, context.Context, error) {
	run, lose := context.WithCancelCause(ctx)
	l := &Lock{opts: opts, lose: lose, ended: make(chan struct{}, 1)}
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	if len(hosts) == 0 {
		return l, run, nil
	}
	if opts.API != nil {
		l.lease = &leaseGuard{opts: &l.opts}
	}
	if err := l.acquire(ctx, hosts); err != nil {
		l.Release(ctx)
		return nil, nil, err
	}
	l.keeper.Go(func() { l.keepHosts(keeping) })
	if l.lease != nil {
		l.keeper.Go(func() { l.keepLease(keeping) })
	}
	return l, run, nil
}

func (l *Lock) acquire(ctx context.Context, hosts []Host) error {
	if l.opts.Patience > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, l.opts.Patience, errPatience)
		defer cancel()
		ctx = limited
	}
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	if l.lease != nil {
		looking.Go(func() {
			limited, cancel := context.WithTimeout(ctx, l.opts.giveUp())
			defer cancel()
			l.lease.look(limited)
		})
	}
	hosts = slices.SortedFunc(slices.Values(hosts), func(a, b Host) int { return strings.Compare(a.ID, b.ID) })
	var errs []error
	for i := 0; i < len(hosts); {
		next := hosts[i:]
		if len(l.hosts) == 0 {
			next = next[:1] // alone: whoever has the first one gets the others
		}
		i += len(next)
		err := l.lockHosts(ctx, next)
		var held *HeldError
		var lost *LostError
		if errors.As(err, &held) || errors.As(err, &lost) || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	if len(l.hosts) == 0 {
		return errors.Join(errs...)
	}
	if l.lease == nil {
		return nil
	}
	looking.Wait()
	return l.takeLease(ctx)
}

// lockHosts locks hosts at the same time, and keeps those that it gets.
func (l *Lock) lockHosts(ctx context.Context, hosts []Host) error {
	mode := modeRefuse
	switch {
	case l.opts.Break:
		mode = modeBreak
	case l.opts.Patience > 0:
		mode = modeWait
	}
	guards := make([]*hostGuard, len(hosts))
	for i, h := range hosts {
		guards[i] = lockHost(ctx, h, mode, &l.opts)
	}
	errs := make([]error, len(hosts))
	for i, g := range guards {
		if errs[i] = g.wait(ctx); errs[i] != nil {
			g.cancel() // it may be waiting, and does not hear of the end of its input
			<-g.ended
			continue
		}
		l.hosts = append(l.hosts, g)
		go func() {
			<-g.ended
			select {
			case l.ended <- struct{}{}:
			default:
			}
		}()
	}
	return errors.Join(errs...)
}

// takeLease takes the Lease. An API that does not answer is no error: there may be none yet, and the hosts are locked.
func (l *Lock) takeLease(ctx context.Context) error {
	if l.opts.Patience == 0 {
		limited, cancel := context.WithTimeout(ctx, l.opts.expiry())
		defer cancel()
		ctx = limited
	}
	err := l.lease.take(ctx, l.locked(), l.opts.Patience > 0)
	var held *HeldError
	if errors.As(err, &held) {
		return held
	}
	return nil
}

// locked are the IDs of the hosts that were locked.
func (l *Lock) locked() []string {
	ids := make([]string, len(l.hosts))
	for i, g := range l.hosts {
		ids[i] = g.host.ID
	}
	return ids
}

// Release gives the lock up, also when ctx has ended. Whoever wants it can have it then.
func (l *Lock) Release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	l.stop()
	l.keeper.Wait()
	var all sync.WaitGroup
	if l.lease != nil {
		all.Go(func() { l.lease.release(ctx) })
	}
	for _, g := range l.hosts {
		all.Go(func() { g.release(ctx) })
	}
	all.Wait()
	l.lose(nil)
}

// pace tells when something is due. It counts by both clocks: the one that stands still while the machine sleeps, and the
// one that can be set.
type pace struct{ last time.Time }

func (p *pace) due(every time.Duration) bool {
	now := time.Now()
	if max(now.Sub(p.last), now.Round(0).Sub(p.last.Round(0))) < every {
		return false
	}
	p.last = now
	return true
}

// keepHosts renews the locks of hosts, and sees whether anything is still held.
func (l *Lock) keepHosts(ctx context.Context) {
	tick := time.NewTicker(l.opts.renewal() / 4)
	defer tick.Stop()
	var renewal pace
	for {
		if renewal.due(l.opts.renewal()) {
			for _, g := range l.hosts {
				g.renew()
			}
		}
		if lost := l.lost(); lost != nil {
			l.lose(lost)
		}
		select {
		case <-tick.C:
		case <-l.ended:
		case <-ctx.Done():
			return
		}
	}
}

// lost tells that somebody has taken the lock, or that nothing is left of it.
func (l *Lock) lost() error {
	var renewed time.Time
	var errs []error
	for _, g := range l.hosts {
		at, ok := g.alive()
		if !ok {
			var taken *LostError
			if errors.As(g.err, &taken) {
				return taken
			}
			errs = append(errs, g.err)
		} else if at.After(renewed) {
			renewed = at
		}
	}
	if l.lease != nil {
		if at := l.lease.alive(); at.After(renewed) {
			renewed = at
		}
	}
	if !renewed.IsZero() && time.Since(renewed) <= l.opts.giveUp() {
		return nil
	}
	return &LostError{What: l.opts.what(), Err: errors.Join(append(errs, fmt.Errorf("no renewal was answered for %s", l.opts.giveUp()))...)}
}

// keepLease renews the Lease, and takes it once there is an API.
func (l *Lock) keepLease(ctx context.Context) {
	tick := time.NewTicker(l.opts.renewal() / 4)
	defer tick.Stop()
	renewal, failed := pace{time.Now()}, false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !failed && !renewal.due(l.opts.renewal()) {
			continue
		}
		if lost := l.lost(); lost != nil { // a machine that slept: somebody may have been here in the meantime
			l.lose(lost)
			return
		}
		var err error
		if taken := !l.lease.alive().IsZero(); taken {
			err = l.within(ctx, l.opts.renewal(), l.lease.renew)
			failed = err != nil
		} else {
			err = l.within(ctx, l.opts.expiry(), func(ctx context.Context) error { return l.lease.take(ctx, l.locked(), false) })
		}
		var lost *LostError
		var held *HeldError
		switch {
		case errors.As(err, &held):
			lost = &LostError{By: held.By, What: held.What}
		case !errors.As(err, &lost):
			continue
		}
		l.lose(lost)
		return
	}
}

func (l *Lock) within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return do(ctx)
}
