package workflow

import (
	"context"
	"slices"
	"sync"

	"github.com/myadm/myadm/host"
)

// slots are the places for hosts in work: Runner.Concurrency of them. A host takes one, however many phases are under way
// on it, and hosts that wait get theirs in the order in which they came.
type slots struct {
	mu      sync.Mutex
	limit   int            // 0: as many as there are hosts
	uses    map[string]int // of hosts in work, by name: phases, and what holds the host between them
	waiting []*waiter
}

// waiter is a host that waits for its slot, on behalf of everything that is to run on it.
type waiter struct {
	host string
	uses int
	come chan struct{} // closed when it has it
}

func newSlots(limit int) *slots { return &slots{limit: max(limit, 0), uses: map[string]int{}} }

// enter waits until the host is in work; it reports false when ctx ends first. Whatever enters leaves. The cluster itself,
// nil, takes no slot.
func (s *slots) enter(ctx context.Context, h host.Host) bool {
	if h == nil || s.limit == 0 {
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	w := s.request(h.Name())
	if w == nil {
		return true
	}
	select {
	case <-w.come:
		if ctx.Err() == nil {
			return true
		}
	case <-ctx.Done():
	}
	s.giveUp(w)
	return false
}

// request puts the host to work if there is a slot, else it gives what to wait for.
func (s *slots) request(name string) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.waiting, func(w *waiter) bool { return w.host == name })
	switch {
	case s.uses[name] > 0 || len(s.uses) < s.limit && i < 0:
		s.uses[name]++
		return nil
	case i >= 0:
		s.waiting[i].uses++
		return s.waiting[i]
	}
	w := &waiter{host: name, uses: 1, come: make(chan struct{})}
	s.waiting = append(s.waiting, w)
	return w
}

// giveUp takes one use of a waiter back, whether its slot has come in the meantime or not.
func (s *slots) giveUp(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-w.come:
		s.release(w.host)
	default:
		if w.uses--; w.uses == 0 {
			s.waiting = slices.DeleteFunc(s.waiting, func(o *waiter) bool { return o == w })
		}
	}
}

// lead puts a host to work without waiting, past the limit if need be: others wait for what is done on it.
func (s *slots) lead(h host.Host) {
	if s.limit == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses[h.Name()]++
	if i := slices.IndexFunc(s.waiting, func(w *waiter) bool { return w.host == h.Name() }); i >= 0 {
		s.admit(i)
	}
}

// leave ends one use of a host, and gives its slot to the next when it was the last.
func (s *slots) leave(h host.Host) {
	if h == nil || s.limit == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(h.Name())
}

func (s *slots) release(name string) {
	if s.uses[name]--; s.uses[name] > 0 {
		return
	}
	delete(s.uses, name)
	for len(s.waiting) > 0 && len(s.uses) < s.limit {
		s.admit(0)
	}
}

// admit puts the host of a waiter to work.
func (s *slots) admit(i int) {
	w := s.waiting[i]
	s.waiting = slices.Delete(s.waiting, i, i+1)
	s.uses[w.host] += w.uses
	close(w.come)
}
