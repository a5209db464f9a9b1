package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/myadm/myadm/courier/wire"
)

const (
	// maxSends is how many blobs are sent from here at once, over all hosts: the sooner one is whole somewhere, the sooner
	// it is passed on.
	maxSends = 4
	// maxServed is how many hosts a host serves at once. The others wait for one of those to have it: so passing on
	// doubles the hosts that have a blob each time, in a tree.
	maxServed = 2
	// maxTasks is how many transfers of one delivery to one host are under way at once.
	maxTasks = 3
)

// swarm knows which hosts have which blobs, and what is on its way to them.
type swarm struct {
	mu      sync.Mutex
	blobs   map[string]*spread // by SHA-256
	sends   int
	served  map[*site]int
	changed chan struct{} // closed and made anew when something has changed
}

// spread is how far a blob has come.
type spread struct {
	holders []holder
	coming  map[*site]bool // by courier
	sent    map[*site]bool // to where it is being sent from here
}

// holder is a host that has a blob, and where.
type holder struct {
	*site
	path string
}

func newSwarm() swarm {
	return swarm{blobs: map[string]*spread{}, served: map[*site]int{}, changed: make(chan struct{})}
}

// of is a blob's spread; the lock is held.
func (w *swarm) of(sum string) *spread {
	b := w.blobs[sum]
	if b == nil {
		b = &spread{coming: map[*site]bool{}, sent: map[*site]bool{}}
		w.blobs[sum] = b
	}
	return b
}

// tell wakes those who wait for a change; the lock is held.
func (w *swarm) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// has remembers that a host has a blob. A task that brought it goes on until ended.
func (w *swarm) has(s *site, got want) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.of(got.blob.SHA256)
	if h := (holder{s, got.path}); !slices.Contains(b.holders, h) {
		b.holders = append(b.holders, h)
	}
	w.tell()
}

// lacks remembers that a host does not have what it wants, although it may have had it: who asks for a file has looked.
func (w *swarm) lacks(s *site, wants []want) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wanted := range wants {
		b := w.of(wanted.blob.SHA256)
		b.holders = slices.DeleteFunc(b.holders, func(h holder) bool { return h == holder{s, wanted.path} })
	}
}

// task is one transfer to a host: blobs from peers, or one from here.
type task struct {
	peers []passed
	send  *want
}

// passed is a blob with the peers to ask for it, best first.
type passed struct {
	want
	from []holder
}

// next takes from wants what can be brought to a host now: what it has already, as have, and a task. With neither of them,
// changed tells when to ask again.
func (w *swarm) next(s *site, wants []want) (have []want, t task, left []want, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wanted := range wants {
		b := w.of(wanted.blob.SHA256)
		switch {
		case slices.Contains(b.holders, holder{s, wanted.path}):
			have = append(have, wanted)
		case b.coming[s] || b.sent[s]:
			left = append(left, wanted)
		case t.send != nil:
			left = append(left, wanted)
		default:
			usable := w.usable(s, b)
			free := slices.DeleteFunc(slices.Clone(usable), func(h holder) bool { return w.served[h.site] >= maxServed })
			switch {
			case len(free) > 0:
				b.coming[s] = true
				t.peers = append(t.peers, passed{wanted, free[:min(len(free), 2)]})
			case len(usable) == 0 && len(t.peers) == 0 && w.sends < maxSends && !w.awaited(s, b):
				b.sent[s] = true
				w.sends++
				t.send = &wanted
			default:
				left = append(left, wanted)
			}
		}
	}
	for server := range servers(t.peers) {
		w.served[server]++
	}
	return have, t, left, w.changed
}

// usable are the holders that a host can get a blob from, those that serve the fewest first; the lock is held.
func (w *swarm) usable(s *site, b *spread) []holder {
	usable := slices.DeleteFunc(slices.Clone(b.holders), func(h holder) bool { return s.shunned[h.site] })
	slices.SortStableFunc(usable, func(a, b holder) int { return w.served[a.site] - w.served[b.site] })
	return usable
}

// awaited tells whether a host had better wait for a blob that is on its way to one of its peers; the lock is held.
func (w *swarm) awaited(s *site, b *spread) bool {
	for _, under := range []map[*site]bool{b.coming, b.sent} {
		for peer := range under {
			if !s.shunned[peer] {
				return true
			}
		}
	}
	return false
}

// servers are the peers that a task asks first.
func servers(peers []passed) map[*site]bool {
	first := map[*site]bool{}
	for _, p := range peers {
		first[p.from[0].site] = true
	}
	return first
}

// shun remembers that a host gets nothing from a peer.
func (w *swarm) shun(s, peer *site) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.shunned[peer] = true
}

// ended remembers how a task ended. failed are those of its blobs that peers did not give: the host shuns those peers.
// What has arrived was told to has.
func (w *swarm) ended(s *site, t task, failed []failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.send != nil {
		w.sends--
		delete(w.of(t.send.blob.SHA256).sent, s)
	}
	for server := range servers(t.peers) {
		w.served[server]--
	}
	for _, p := range t.peers {
		delete(w.of(p.blob.SHA256).coming, s)
		if slices.ContainsFunc(failed, func(f failure) bool { return f.blob.SHA256 == p.blob.SHA256 }) {
			for _, h := range p.from {
				s.shunned[h.site] = true
			}
		}
	}
	w.tell()
}

// share brings blobs to a host from its peers, and from here those that no peer has.
func (d *Delivery) share(ctx context.Context, s *site, wants []want) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		left []want // what a task did not bring
		err  error
	}
	outcomes := make(chan outcome)
	left, running := wants, 0
	var failed error
	for {
		var changed <-chan struct{}
		for failed == nil && len(left) > 0 && running < maxTasks {
			var have []want
			var t task
			have, t, left, changed = d.swarm.next(s, left)
			for _, w := range have {
				w.told(w.blob.Size)
			}
			if t.send == nil && len(t.peers) == 0 {
				break
			}
			running++
			go func() {
				again, err := d.carryOut(ctx, s, t)
				outcomes <- outcome{again, err}
			}()
		}
		if running == 0 && (failed != nil || len(left) == 0) {
			return failed
		}
		select {
		case <-changed:
		case o := <-outcomes:
			running--
			left = append(left, o.left...)
			if o.err != nil && failed == nil {
				failed = o.err
				cancel()
			}
		case <-ctx.Done():
			if failed == nil {
				failed = context.Cause(ctx)
			}
			for ; running > 0; running-- {
				<-outcomes
			}
			return failed
		}
	}
}

// carryOut returns what peers did not give after all.
func (d *Delivery) carryOut(ctx context.Context, s *site, t task) (left []want, err error) {
	var failed []failure
	defer func() { d.swarm.ended(s, t, failed) }()
	if t.send != nil {
		if err := d.send(ctx, s, *t.send); err != nil {
			return nil, err
		}
		d.swarm.has(s, *t.send)
		return nil, nil
	}
	var missed []failure
	request := &wire.Fetch{}
	asked := map[string]parcel{}
	for _, p := range t.peers {
		var sources []wire.Source
		var refused error
		for _, h := range p.from {
			source, err := h.source(ctx, p.blob.SHA256, h.path)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err != nil {
				d.swarm.shun(s, h.site)
				refused = errors.Join(refused, fmt.Errorf("%s: %w", h.Name(), err))
				continue
			}
			sources = append(sources, source)
		}
		if len(sources) == 0 {
			missed = append(missed, lost(p.want, refused))
			continue
		}
		asked[p.blob.SHA256] = parcel{[]want{p.want}, p.blob.Size}
		request.Blobs = append(request.Blobs, blobOf(p.want, sources...))
	}
	if len(asked) > 0 {
		unfetched, err := s.fetch(ctx, request, asked, func(w want) { d.swarm.has(s, w) })
		if err != nil {
			return nil, err
		}
		missed = append(missed, unfetched...)
	}
	failed = missed
	for _, f := range missed {
		left = append(left, f.want)
	}
	if len(missed) > 0 {
		d.Warn(ctx, fmt.Sprintf("other hosts did not give it %d of %d blobs, which come another way: %v",
			len(missed), len(t.peers), missed[0].err()))
	}
	return left, nil
}
