package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// maxJumps bounds a chain of bastions, which an ssh_config can make endless: Host *, ProxyJump bastion.
const maxJumps = 8

// relays are the connections to bastions. All hosts behind a bastion share one, which is closed after the last of them.
type relays struct {
	mu   sync.Mutex
	open map[string]*relay
}

func newRelays() *relays { return &relays{open: map[string]*relay{}} }

// relay is a bastion that is connected to, or about to be.
type relay struct {
	ready  chan struct{} // closed when client or err is set
	client *ssh.Client
	link   *link
	err    error

	all  *relays
	id   string
	uses int // guarded by all.mu
}

// acquire gives a use of the last of a route's bastions. The caller closes it.
func (rs *relays) acquire(ctx context.Context, d *Dialer, r *route) (*relay, error) {
	for {
		rs.mu.Lock()
		id := fmt.Sprintf("%d %q %q", r.depth, r.jumps, r.keyFiles) // the depth keeps one from waiting for itself
		v := rs.open[id]
		if v == nil {
			v = &relay{ready: make(chan struct{}), all: rs, id: id}
			rs.open[id] = v
			go v.connect(ctx, d, r)
		}
		v.uses++
		rs.mu.Unlock()

		select {
		case <-v.ready:
		case <-ctx.Done():
			v.Close()
			return nil, context.Cause(ctx)
		}
		if v.err == nil {
			return v, nil
		}
		v.Close()
		if ctx.Err() != nil || !isContext(v.err) {
			return nil, v.err
		}
		// It was another host that gave up while it was opening the bastion.
	}
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// connect opens the bastion, through the ones before it.
func (v *relay) connect(ctx context.Context, d *Dialer, r *route) {
	v.link, v.err = d.bastion(ctx, r)
	if v.err == nil {
		v.client = v.link.client
		go func() { // a bastion that is lost is not given to anybody else
			v.client.Wait() //nolint:errcheck // the hosts behind it tell what they lost
			v.drop()
		}()
	} else {
		v.drop()
	}
	close(v.ready)
}

// drop keeps the relay from being given to anybody else.
func (v *relay) drop() {
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	v.dropLocked()
}

func (v *relay) dropLocked() {
	if v.all.open[v.id] == v {
		delete(v.all.open, v.id)
	}
}

// Close ends one use. The last one closes the connection, once it is there.
func (v *relay) Close() error {
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	v.uses--
	if v.uses > 0 {
		return nil
	}
	v.dropLocked()
	go func() {
		<-v.ready
		if v.link != nil {
			v.link.close()
		}
	}()
	return nil
}

// bastion connects to the last jump of a route. A key that is named for the host is tried on the bastion too.
func (d *Dialer) bastion(ctx context.Context, r *route) (*link, error) {
	if len(r.jumps) > maxJumps || r.depth > maxJumps {
		return nil, fmt.Errorf("more than %d bastions in a row; hint: does the ProxyJump of ssh_config apply to the bastion itself?", maxJumps)
	}
	last := len(r.jumps) - 1
	target, err := parseJump(r.jumps[last])
	if err != nil {
		return nil, err
	}
	target.Bastion = strings.Join(r.jumps[:last], ",")
	b, err := d.config.resolve(target, d.opts)
	if err != nil {
		return nil, err
	}
	b.depth = r.depth + 1
	if r.keysOnly {
		b.keyFiles = append(r.keyFiles, b.keyFiles...)
	}
	return d.connect(ctx, b)
}
