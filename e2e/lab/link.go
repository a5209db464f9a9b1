package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/e2e/lab/delay"
)

// Link is the operator's line to the hosts: a proxy in front of every host's SSH port. All of them share one rate in each
// direction, as hosts behind one uplink do, and each counts what travels. A link may be long: then every round trip takes a
// while. What hosts send each other passes it by.
type Link struct {
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	up     *rate.Limiter // to the hosts
	down   *rate.Limiter
	trip   atomic.Int64 // nanoseconds of a round trip
	busy   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	ports []*linkPort
	conns map[net.Conn]string // of which host
}

// Traffic is what travelled on a link, in bytes: SSH's packets as they are on the wire, without TCP's headers.
type Traffic struct {
	Sent     int64 // from the operator
	Received int64
}

// linkPort is the proxy of one host.
type linkPort struct {
	name, target   string // of the host: its name, ADDRESS:PORT
	listener       net.Listener
	sent, received atomic.Int64
}

// linkBuffer is how much of a connection is let through at once.
const linkBuffer = 16 << 10

// OpenLink lays a link to all hosts of the lab. bytesPerSecond holds for each direction; 0 is as fast as it goes. It lasts
// until Close, or until ctx ends.
func (l *Lab) OpenLink(ctx context.Context, bytesPerSecond int64) (*Link, error) {
	k := NewLink(ctx, bytesPerSecond)
	for _, h := range l.Hosts {
		if err := k.Add(h.Name, net.JoinHostPort(h.Address.String(), "22")); err != nil {
			k.Close()
			return nil, err
		}
	}
	return k, nil
}

// NewLink is a link to no host yet.
func NewLink(ctx context.Context, bytesPerSecond int64) *Link {
	ctx, cancel := context.WithCancel(ctx)
	k := &Link{ctx: ctx, cancel: cancel, up: rate.NewLimiter(0, 0), down: rate.NewLimiter(0, 0), conns: map[net.Conn]string{}}
	k.SetRate(bytesPerSecond)
	context.AfterFunc(ctx, k.cut)
	return k
}

// SetRate changes the rate of each direction, in bytes per second; 0 is as fast as it goes.
func (k *Link) SetRate(bytesPerSecond int64) {
	limit := rate.Limit(bytesPerSecond)
	if bytesPerSecond == 0 {
		limit = rate.Inf
	}
	for _, limiter := range []*rate.Limiter{k.up, k.down} {
		// What 20 ms let through at once: less would make a fast link slow, since timers are not exact.
		limiter.SetBurst(max(linkBuffer, int(bytesPerSecond/50)))
		limiter.SetLimit(limit)
	}
}

// SetLatency makes round trips of connections that are opened from now on take so much longer, half of it each way.
func (k *Link) SetLatency(roundTrip time.Duration) { k.trip.Store(int64(roundTrip)) }

// Add puts a proxy in front of target (ADDRESS:PORT).
func (k *Link) Add(name, target string) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(k.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("link to %s: %w", name, err)
	}
	p := &linkPort{name: name, target: target, listener: listener}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ports = append(k.ports, p)
	k.busy.Go(func() { k.accept(p) })
	return nil
}

func (k *Link) accept(p *linkPort) {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		k.busy.Go(func() { k.join(p, near) })
	}
}

// join connects a client with the host until both have said all, or until one of them is lost.
func (k *Link) join(p *linkPort, near net.Conn) {
	defer near.Close()
	way := time.Duration(k.trip.Load()) / 2
	// The client believes to be connected, and speaks already. Over a line of this length it would not have known for a round
	// trip, that of SYN and SYN-ACK.
	if delay.Wait(k.ctx, 2*way) != nil {
		return
	}
	var dialer net.Dialer
	far, err := dialer.DialContext(k.ctx, "tcp", p.target)
	if err != nil {
		return // the client sees a connection that ends
	}
	defer far.Close()
	if !k.keep(p.name, near, far) {
		return
	}
	defer k.forget(near, far)
	var both sync.WaitGroup
	both.Go(func() { k.carry(far, near, way, k.up, &p.sent) })
	both.Go(func() { k.carry(near, far, way, k.down, &p.received) })
	both.Wait()
}

// carry moves bytes in one direction at the link's rate. An end is passed on as what it is: the end of what one side says,
// or the loss of the connection.
func (k *Link) carry(to, from net.Conn, way time.Duration, limiter *rate.Limiter, count *atomic.Int64) {
	if delay.Carry(k.ctx, counting{to, count}, paced{k.ctx, from, limiter}, way) == nil {
		_ = to.(*net.TCPConn).CloseWrite() // lost already, and then the other direction sees it
		return
	}
	to.Close()
	from.Close()
}

// paced reads at a rate.
type paced struct {
	ctx     context.Context
	from    io.Reader
	limiter *rate.Limiter
}

func (p paced) Read(b []byte) (int, error) {
	n, err := p.from.Read(b[:min(len(b), linkBuffer)])
	if waited := p.limiter.WaitN(p.ctx, n); err == nil {
		err = waited
	}
	return n, err
}

// counting counts what is written.
type counting struct {
	to    io.Writer
	count *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.count.Add(int64(n))
	return n, err
}

// keep notes connections to a host for cut and Drop, unless the link is closed.
func (k *Link) keep(host string, conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil {
		return false
	}
	for _, c := range conns {
		k.conns[c] = host
	}
	return true
}

func (k *Link) forget(conns ...net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		delete(k.conns, c)
	}
}

// cut ends everything once ctx has ended.
func (k *Link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.ports {
		p.listener.Close()
	}
	for c := range k.conns {
		c.Close()
	}
}

// Drop ends the connections that there are to some hosts, as a router does that was restarted. New ones go through.
func (k *Link) Drop(hosts ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c, host := range k.conns {
		if slices.Contains(hosts, host) {
			c.Close()
		}
	}
}

// Close takes the link away, and ends its connections.
func (k *Link) Close() {
	k.cancel()
	k.cut() // also what add has put there since ctx ended
	k.busy.Wait()
}

// Traffic is what has travelled so far, on all proxies together.
func (k *Link) Traffic() Traffic {
	var all Traffic
	for _, t := range k.HostTraffic() {
		all.Sent += t.Sent
		all.Received += t.Received
	}
	return all
}

// HostTraffic is what has travelled so far, by the hosts' names.
func (k *Link) HostTraffic() map[string]Traffic {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[string]Traffic{}
	for _, p := range k.ports {
		all[p.name] = Traffic{Sent: p.sent.Load(), Received: p.received.Load()}
	}
	return all
}

// Address is where the proxy of a host listens.
func (k *Link) Address(host string) (netip.AddrPort, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.ports {
		if p.name == host {
			return p.listener.Addr().(*net.TCPAddr).AddrPort(), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("no link to host %q", host)
}

// Document is a Cluster document in which every host of the link is reached by its proxy. To the other hosts they have the
// addresses that they had.
func (k *Link) Document(document []byte) ([]byte, error) {
	var all map[string]any
	if err := yaml.Unmarshal(document, &all); err != nil {
		return nil, err
	}
	spec, _ := all["spec"].(map[string]any)
	hosts, _ := spec["hosts"].([]any)
	for _, h := range hosts {
		host, _ := h.(map[string]any)
		name, _ := host["name"].(string)
		near, err := k.Address(name)
		if err != nil {
			return nil, err
		}
		if _, named := host["advertiseAddress"]; !named {
			host["advertiseAddress"] = host["address"]
		}
		ssh, _ := host["ssh"].(map[string]any)
		if ssh == nil {
			ssh = map[string]any{}
			host["ssh"] = ssh
		}
		host["address"], ssh["port"] = near.Addr().String(), near.Port()
	}
	return yaml.Marshal(all)
}

// SSHConfig is what an ssh_config, such as ~/.ssh/config of the operator, says so that whoever logs in at a host's name or
// address takes the link. The Cluster document stays as it is: it has the hosts' own addresses and keys.
func (k *Link) SSHConfig() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out strings.Builder
	for _, p := range k.ports {
		address, _, _ := net.SplitHostPort(p.target)
		near := p.listener.Addr().(*net.TCPAddr)
		fmt.Fprintf(&out, "Host %s %s\n  HostName %s\n  Port %d\n", p.name, address, near.IP, near.Port)
	}
	return out.String()
}
