package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
)

// closing is a host that counts how often it was closed.
type closing struct {
	*hosttest.Fake
	mu     sync.Mutex
	closes int
}

func (c *closing) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closes++
	return nil
}

// lan is a network of hosts, each with the facts that it gives when it is asked.
type lan struct {
	t     *testing.T
	hosts map[string]*closing // by address
}

func newLAN(t *testing.T) *lan { return &lan{t: t, hosts: map[string]*closing{}} }

// add places a host with a machine-id of its own.
func (l *lan) add(address, hostname string) *closing {
	return l.addClone(address, hostname, "of-"+hostname)
}

func (l *lan) addClone(address, hostname, machineID string) *closing {
	f := &closing{Fake: hosttest.New(l.t, address)}
	f.On("sh", "-c", factsScript).Return(strings.NewReplacer(
		"hostname=cp-1", "hostname="+hostname, "10.0.0.1", address, answerFacts.MachineID, machineID).Replace(answer))
	l.hosts[address] = f
	return f
}

func (l *lan) open(_ context.Context, spec config.Host) (host.Host, error) {
	if h, ok := l.hosts[spec.Address]; ok {
		return h, nil
	}
	return nil, fmt.Errorf("%s: no route to host", spec.Address)
}

func (l *lan) cluster(hosts ...config.Host) (*Cluster, error) {
	cfg := &config.Cluster{Spec: config.Spec{Hosts: hosts}}
	config.SetDefaults(cfg)
	return Open(l.t.Context(), cfg, Options{Open: l.open, Now: func() time.Time { return answerTime }})
}

func TestOpenFillsInWhatTheDocumentLeavesOut(t *testing.T) {
	l := newLAN(t)
	l.add("10.0.0.1", "CP-1")
	l.add("10.0.0.2", "w-1")
	c, err := l.cluster(
		config.Host{Address: "10.0.0.1", Roles: []config.Role{config.RoleControlPlane}},
		config.Host{Address: "10.0.0.2", Name: "worker", AdvertiseAddress: "10.1.0.2"},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := [][2]string{{"cp-1", "10.0.0.1"}, {"worker", "10.1.0.2"}}
	for i, n := range c.Nodes {
		if got := [2]string{n.Spec.Name, n.AdvertiseAddress().String()}; got != want[i] {
			t.Errorf("node %d is %v, want %v", i, got, want[i])
		}
		if diff := cmp.Diff(n.Spec, c.Config.Spec.Hosts[i]); diff != "" {
			t.Errorf("the document says something else of node %d (-node +document):\n%s", i, diff)
		}
		if c.Node(n) != n || c.Node(n.Host) != n {
			t.Errorf("node %d is not found by its reader", i)
		}
	}
	if endpoint := c.Config.Endpoint(); endpoint != "10.0.0.1:6443" {
		t.Errorf("the endpoint is %s", endpoint)
	}
	if n := c.Node(hosttest.New(t, "stranger")); n != nil {
		t.Errorf("a stranger is taken for %s", n.Name())
	}
}

func TestOwnAddress(t *testing.T) {
	addrs := func(ss ...string) []netip.Addr {
		var all []netip.Addr
		for _, s := range ss {
			all = append(all, netip.MustParseAddr(s))
		}
		return all
	}
	tests := []struct {
		name      string
		address   string
		addresses []netip.Addr
		source    string
		want      string // empty: an error
	}{
		{"where SSH reaches it", "10.0.0.2", addrs("10.0.0.1", "10.0.0.2"), "10.0.0.1", "10.0.0.2"},
		{"translated on the way", "203.0.113.7", addrs("10.0.0.1", "10.0.0.2"), "10.0.0.2", "10.0.0.2"},
		{"reached by name", "cp-1.example", addrs("10.0.0.1", "10.0.0.2"), "10.0.0.2", "10.0.0.2"},
		{"this machine", "", addrs("10.0.0.1", "10.0.0.2"), "10.0.0.2", "10.0.0.2"},
		{"no default route", "", addrs("10.0.0.1", "10.0.0.2"), "", "10.0.0.1"},
		{"IPv6", "fd00::1", addrs("10.0.0.1", "fd00::1"), "10.0.0.1", "fd00::1"},
		{"no address", "203.0.113.7", nil, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := Node{Spec: config.Host{Name: "h1", Address: tt.address}, Facts: Facts{Addresses: tt.addresses}}
			if tt.source != "" {
				n.Facts.RouteSource = netip.MustParseAddr(tt.source)
			}
			err := n.resolve()
			if tt.want == "" {
				if err == nil || !strings.Contains(err.Error(), "hint: set advertiseAddress of host h1") {
					t.Errorf("got %v, want a hint", err)
				}
				return
			}
			if err != nil || n.Spec.AdvertiseAddress != tt.want {
				t.Errorf("got %s, %v, want %s", n.Spec.AdvertiseAddress, err, tt.want)
			}
		})
	}
}

func TestOpenGoesOnWithoutHostsThatFail(t *testing.T) {
	l := newLAN(t)
	good := l.add("10.0.0.1", "h1")
	mute := &closing{Fake: hosttest.New(t, "10.0.0.2")}
	mute.On("sh", "-c", factsScript).Fail(127, "no shell")
	l.hosts["10.0.0.2"] = mute
	c, err := l.cluster(
		config.Host{Address: "10.0.0.3"}, // nobody there
		config.Host{Address: "10.0.0.2"},
		config.Host{Address: "10.0.0.1"},
		config.Host{Address: "10.0.0.1", Name: "bad", AdvertiseAddress: "here"},
	)
	if len(c.Nodes) != 1 || c.Nodes[0].Spec.Name != "h1" {
		t.Errorf("%d nodes, want the one that answers", len(c.Nodes))
	}
	if c.Config.Spec.Hosts[2].Name != "h1" {
		t.Errorf("the document's third host is %+v", c.Config.Spec.Hosts[2])
	}
	if len(c.Missing) != 3 {
		t.Fatalf("missing %+v", c.Missing)
	}
	for i, part := range []string{"10.0.0.3: no route to host", "10.0.0.2: read facts: ", "advertiseAddress of host bad"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not hold %q", err, part)
		}
		if m := c.Missing[i]; !strings.Contains(m.Err.Error(), part) || m.Spec.Address == "" {
			t.Errorf("missing host %d is %+v", i, m)
		}
	}
	if mute.closes != 1 {
		t.Errorf("the connection to a host that is left out was closed %d times", mute.closes)
	}
	good.closes = 0 // the host with the bad address shares it
	if err := c.Close(); err != nil || good.closes != 1 || mute.closes != 1 {
		t.Errorf("Close: %v, %d times, and %d times what was closed before", err, good.closes, mute.closes)
	}
}

// All hosts are asked at the same time: each opener waits until every other was called.
func TestOpenConnectsToAllAtOnce(t *testing.T) {
	l := newLAN(t)
	hosts := make([]config.Host, 4)
	for i := range hosts {
		hosts[i].Address = fmt.Sprintf("10.0.0.%d", i+1)
		l.add(hosts[i].Address, fmt.Sprintf("h%d", i+1))
	}
	synctest.Test(t, func(t *testing.T) { // in which a wait without end fails at once
		called := make(chan struct{}, len(hosts))
		all := make(chan struct{})
		go func() {
			for range hosts {
				<-called
			}
			close(all)
		}()
		c, err := Open(t.Context(), &config.Cluster{Spec: config.Spec{Hosts: hosts}}, Options{
			Now: time.Now,
			Open: func(ctx context.Context, spec config.Host) (host.Host, error) {
				called <- struct{}{}
				<-all
				return l.open(ctx, spec)
			},
		})
		if err != nil || len(c.Nodes) != len(hosts) {
			t.Fatalf("%d nodes, %v", len(c.Nodes), err)
		}
		for i, n := range c.Nodes {
			if n.Spec.Address != hosts[i].Address {
				t.Errorf("node %d is %s, want the document's order", i, n.Spec.Address)
			}
		}
	})
}

func TestOpenRefusesHostsThatAreTakenForOne(t *testing.T) {
	tests := []struct {
		name string
		one  config.Host
		two  config.Host
		host string // the second's own name
		id   string // the second's machine-id
		want []string
	}{
		{"different", config.Host{}, config.Host{}, "h2", "2", nil},
		{"same own name", config.Host{}, config.Host{}, "h1", "2", []string{"10.0.0.1 and 10.0.0.2 both have the node name h1; hint: set name"}},
		{"names that differ in case", config.Host{}, config.Host{}, "H1", "2", []string{"both have the node name h1"}},
		{"own name as another's given name", config.Host{Name: "h2"}, config.Host{}, "h2", "2", []string{"both have the node name h2"}},
		{"same name, one renamed", config.Host{}, config.Host{Name: "other"}, "h1", "2", nil},
		{"same address", config.Host{AdvertiseAddress: "10.0.0.9"}, config.Host{AdvertiseAddress: "10.0.0.9"}, "h2", "2",
			[]string{"both have the address 10.0.0.9; hint: set advertiseAddress"}},
		{"clones", config.Host{}, config.Host{}, "h2", "1", []string{"both have the machine-id 1; hint: the hosts are clones"}},
		{"machine-ids that are not set", config.Host{}, config.Host{}, "h2", "", nil},
		{"all of it", config.Host{AdvertiseAddress: "10.0.0.9"}, config.Host{AdvertiseAddress: "10.0.0.9"}, "h1", "1",
			[]string{"node name h1", "address 10.0.0.9", "machine-id 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLAN(t)
			first := "1"
			if tt.id == "" {
				first = ""
			}
			l.addClone("10.0.0.1", "h1", first)
			l.addClone("10.0.0.2", tt.host, tt.id)
			tt.one.Address, tt.two.Address = "10.0.0.1", "10.0.0.2"
			_, err := l.cluster(tt.one, tt.two)
			if len(tt.want) == 0 && err != nil {
				t.Errorf("unexpected: %v", err)
			}
			if err != nil {
				if lines := strings.Split(err.Error(), "\n"); len(lines) != len(tt.want) {
					t.Errorf("%q, want %d errors", lines, len(tt.want))
				}
			}
			for _, part := range tt.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%v\ndoes not hold %q", err, part)
				}
			}
		})
	}
}

func TestRoles(t *testing.T) {
	node := func(name string, roles ...config.Role) *Node {
		return &Node{Host: hosttest.New(t, name), Spec: config.Host{Name: name, Roles: roles}}
	}
	c := &Cluster{Nodes: []*Node{
		node("w1", config.RoleWorker), node("cp", config.RoleControlPlane),
		node("both", config.RoleControlPlane, config.RoleWorker), node("w2", config.RoleWorker),
	}}
	names := func(nodes []*Node) []string {
		var all []string
		for _, h := range Hosts(nodes) {
			all = append(all, h.Name())
		}
		return all
	}
	for _, tt := range []struct {
		name string
		got  []*Node
		want []string
	}{
		{"control planes", c.ControlPlanes(), []string{"cp", "both"}},
		{"workers", c.WithRole(config.RoleWorker), []string{"w1", "both", "w2"}},
		{"workers", c.Workers(), []string{"w1", "w2"}},
	} {
		if diff := cmp.Diff(tt.want, names(tt.got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// The load balancers' list: whom the document and the cluster name, reached or not, but not who is leaving.
func TestAPIServers(t *testing.T) {
	cp := []config.Role{config.RoleControlPlane}
	at := netip.MustParseAddrPort
	hosts := []config.Host{
		{Name: "cp-3", Address: "203.0.113.3", AdvertiseAddress: "10.0.0.3", Roles: cp},
		{Name: "cp-1", Address: "10.0.0.1", Roles: cp}, // not reached, and so nothing but its address is known
		{Name: "w-1", Address: "10.0.0.9"},
		{Name: "cp-2", Address: "cp-2.example", Roles: cp}, // not even that
	}
	for _, tt := range []struct {
		name    string
		learned []netip.AddrPort
		leaving []config.Host
		want    []netip.AddrPort
	}{
		{"the document's", nil, nil, []netip.AddrPort{at("10.0.0.1:6443"), at("10.0.0.3:6443")}},
		{"and others that the cluster knows", []netip.AddrPort{at("10.0.0.3:6443"), at("10.0.0.20:6443")}, nil,
			[]netip.AddrPort{at("10.0.0.1:6443"), at("10.0.0.3:6443"), at("10.0.0.20:6443")}},
		{"one of which is leaving", []netip.AddrPort{at("10.0.0.3:6443"), at("10.0.0.20:6443")}, hosts[:1],
			[]netip.AddrPort{at("10.0.0.1:6443"), at("10.0.0.20:6443")}},
		{"a host without an address is leaving", nil, hosts[3:], []netip.AddrPort{at("10.0.0.1:6443"), at("10.0.0.3:6443")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := &config.Cluster{Spec: config.Spec{Hosts: slices.Clone(hosts)}}
			config.SetDefaults(cfg)
			c := &Cluster{Config: cfg, Learned: tt.learned, Leaving: tt.leaving}
			for range 2 { // what the cluster has told stays as it is
				if diff := cmp.Diff(tt.want, c.APIServers(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestCloseGathersErrors(t *testing.T) {
	broken := errors.New("broken pipe")
	c := &Cluster{Nodes: []*Node{{Host: failingClose{hosttest.New(t, "h1"), broken}}, {Host: hosttest.New(t, "h2")}}}
	if err := c.Close(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failingClose struct {
	*hosttest.Fake
	err error
}

func (f failingClose) Close() error { return f.err }

func TestOpenKeepsTheLimit(t *testing.T) {
	for limit, want := range map[int]int{0: 4, 1: 1, 3: 3} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLAN(t)
				var hosts []config.Host
				for i := range 4 {
					address := fmt.Sprintf("10.0.0.%d", i+1)
					l.add(address, fmt.Sprintf("h%d", i+1))
					hosts = append(hosts, config.Host{Address: address})
				}
				var mu sync.Mutex
				dialling, most := 0, 0
				count := func(n int) {
					mu.Lock()
					defer mu.Unlock()
					dialling += n
					most = max(most, dialling)
				}
				slow := func(ctx context.Context, spec config.Host) (host.Host, error) {
					count(1)
					defer count(-1)
					<-time.After(time.Second) // of the bubble's clock
					return l.open(ctx, spec)
				}
				cfg := &config.Cluster{Spec: config.Spec{Hosts: hosts}}
				config.SetDefaults(cfg)
				c, err := Open(t.Context(), cfg, Options{Open: slow, Now: func() time.Time { return answerTime }, Concurrency: limit})
				if err != nil || len(c.Nodes) != 4 || most != want {
					t.Errorf("%d of 4 hosts, %d at once, want %d; %v", len(c.Nodes), most, want, err)
				}
			})
		})
	}
}
