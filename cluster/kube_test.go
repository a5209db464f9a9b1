package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

func controlPlane(t *testing.T, name string, files ...host.File) (*Node, *hosttest.Fake) {
	f := hosttest.New(t, name)
	f.Put(files...)
	f.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	})
	return &Node{Host: f, Spec: config.Host{Name: name, Roles: []config.Role{config.RoleControlPlane}}}, f
}

func conf(path string, data []byte) host.File { return host.File{Path: path, Mode: 0o600, Data: data} }

func TestAdminKubeconfigIsTheStrongest(t *testing.T) {
	super, admin := conf(config.SuperAdminConf, []byte("super")), conf(config.AdminConf, []byte("admin"))
	for _, tt := range []struct {
		name  string
		files []host.File
		want  string // empty: none
	}{
		{"the first control plane", []host.File{super, admin}, "super"},
		{"any other", []host.File{admin}, "admin"},
		{"before there is a cluster", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, f := controlPlane(t, "cp-1", tt.files...)
			got, err := AdminKubeconfig(t.Context(), f)
			if string(got) != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestKubeGoesThroughTheControlPlane(t *testing.T) {
	server := kubetest.NewServer(t)
	blank, _ := controlPlane(t, "cp-1")
	n, f := controlPlane(t, "cp-2", conf(config.AdminConf, server.Kubeconfig()))
	dialled := 0
	f.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled++
		return new(net.Dialer).DialContext(ctx, network, address)
	})
	worker, _ := controlPlane(t, "w-1", conf(config.AdminConf, server.Kubeconfig()))
	worker.Spec.Roles = []config.Role{config.RoleWorker} // and so it is not asked
	c := &Cluster{Config: &config.Cluster{}, Nodes: []*Node{worker, blank, n}}
	client, err := c.Kube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := client.Get(t.Context(), kube.Ref{APIVersion: "v1", Kind: "Namespace", Name: "kube-system"}); err != nil {
		t.Error(err)
	}
	if dialled == 0 {
		t.Error("the API was not reached through the control plane")
	}
	f.Lose(errors.New("gone"))
	if again, err := c.Kube(t.Context()); again != client || err != nil {
		t.Errorf("the client is made twice: %v", err)
	}
}

func TestKubeWithoutACluster(t *testing.T) {
	blank, _ := controlPlane(t, "cp-1")
	lost, f := controlPlane(t, "cp-2")
	f.Lose(errors.New("no answer"))
	bad, _ := controlPlane(t, "cp-3", conf(config.AdminConf, []byte("{")))

	c := &Cluster{Config: &config.Cluster{}, Nodes: []*Node{blank}}
	if _, err := c.Kube(t.Context()); !errors.Is(err, ErrNoCluster) || !strings.Contains(err.Error(), "hint: run myadm init") {
		t.Errorf("blank: got %v, want ErrNoCluster", err)
	}
	// After init, the same Cluster finds its API.
	blank.Host.(*hosttest.Fake).Put(conf(config.AdminConf, kubetest.NewServer(t).Kubeconfig()))
	client, err := c.Kube(t.Context())
	if err != nil {
		t.Errorf("after init: %v", err)
	} else {
		client.Close()
	}

	// A control plane that cannot be asked may have a cluster: that is no ErrNoCluster.
	for _, n := range []*Node{lost, bad} {
		c := &Cluster{Config: &config.Cluster{}, Nodes: []*Node{n}}
		_, err := c.Kube(t.Context())
		if err == nil || errors.Is(err, ErrNoCluster) || !strings.HasPrefix(err.Error(), fmt.Sprintf("%s: ", n.Name())) {
			t.Errorf("%s: got %v", n.Name(), err)
		}
	}
}

// withAPI is a control plane whose own API server is a test's.
func withAPI(t *testing.T, name string) (*Node, *kubetest.Server) {
	server := kubetest.NewServer(t)
	n, _ := controlPlane(t, name, conf(config.AdminConf, server.Kubeconfig()))
	return n, server
}

func refuse(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("connection refused")
}

// Whatever the state of the others, the API is asked where it is ready, and that control plane is kept to.
func TestKubePicksALivingControlPlane(t *testing.T) {
	starting := func(_ *Node, s *kubetest.Server) { s.SetHealth("/readyz", "etcd is not ready") }
	down := func(n *Node, _ *kubetest.Server) { n.Host.(*hosttest.Fake).OnDial(refuse) }
	lost := func(n *Node, _ *kubetest.Server) { n.Host.(*hosttest.Fake).Lose(errors.New("gone")) }
	blank := func(n *Node, _ *kubetest.Server) { n.Host.(*hosttest.Fake).Delete(config.AdminConf) }
	ready := func(*Node, *kubetest.Server) {}
	type state = func(*Node, *kubetest.Server)
	for _, tt := range []struct {
		name   string
		states [3]state
		want   int  // the one that is asked
		keeps  bool // to it, for good
	}{
		{"all are ready", [3]state{ready, ready, ready}, 0, true},
		{"the first one is starting", [3]state{starting, ready, ready}, 1, true},
		{"nothing listens on the first one", [3]state{down, ready, ready}, 1, true},
		{"the first one is lost", [3]state{lost, starting, ready}, 2, true},
		{"the first ones have not joined", [3]state{blank, blank, ready}, 2, false},
		{"none is ready", [3]state{down, starting, starting}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Cluster{Config: &config.Cluster{}}
			var servers []*kubetest.Server
			for i, arrange := range tt.states {
				n, s := withAPI(t, fmt.Sprintf("cp-%d", i+1))
				arrange(n, s)
				c.Nodes, servers = append(c.Nodes, n), append(servers, s)
			}
			pick := func() int {
				client, err := c.Kube(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(client.Close)
				for i, s := range servers {
					if strings.HasSuffix(client.Server(), s.Address()) {
						return i
					}
				}
				return -1
			}
			if got := pick(); got != tt.want {
				t.Fatalf("the API of %d is asked, want that of %d", got, tt.want)
			}
			// Now all others are ready, and it is not.
			for i, s := range servers {
				n := c.Nodes[i].Host.(*hosttest.Fake)
				n.Lose(nil)
				n.Put(conf(config.AdminConf, s.Kubeconfig()))
				n.OnDial(new(net.Dialer).DialContext)
				s.SetHealth("/readyz", "")
			}
			servers[tt.want].SetHealth("/readyz", "etcd is not ready")
			if got := pick(); (got == tt.want) != tt.keeps {
				t.Errorf("then that of %d is asked; it should be kept to: %t", got, tt.keeps)
			}
		})
	}
}

func TestKubeIsInterruptedWhileItAsks(t *testing.T) {
	c := &Cluster{Config: &config.Cluster{}}
	stop := errors.New("the operator said stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	for _, name := range []string{"cp-1", "cp-2"} {
		n, _ := withAPI(t, name)
		n.Host.(*hosttest.Fake).OnDial(func(ctx context.Context, _, _ string) (net.Conn, error) { // a host that was powered off
			cancel(stop)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		c.Nodes = append(c.Nodes, n)
	}
	if client, err := c.Kube(ctx); client != nil || !errors.Is(err, stop) {
		t.Errorf("got %v, %v", client, err)
	}
}

// A control plane that is at work on itself is not asked, and no load balancer is told of it, until it is taken back. It
// is nevertheless asked where nobody else can be.
func TestSetAside(t *testing.T) {
	c := &Cluster{Config: &config.Cluster{}}
	config.SetDefaults(c.Config)
	var servers []*kubetest.Server
	for i := range 2 {
		n, s := withAPI(t, fmt.Sprintf("cp-%d", i+1))
		n.Spec.AdvertiseAddress = fmt.Sprintf("10.0.0.%d", i+1)
		c.Nodes, servers = append(c.Nodes, n), append(servers, s)
		c.Config.Spec.Hosts = append(c.Config.Spec.Hosts, n.Spec)
	}
	asked := func(want int, known ...string) {
		t.Helper()
		client, err := c.Kube(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		if !strings.HasSuffix(client.Server(), servers[want].Address()) {
			t.Errorf("%s is asked, want that of cp-%d", client.Server(), want+1)
		}
		var got []string
		for _, s := range c.APIServers() {
			got = append(got, s.String())
		}
		if !slices.Equal(got, known) {
			t.Errorf("API servers %q, want %q", got, known)
		}
	}
	asked(0, "10.0.0.1:6443", "10.0.0.2:6443")
	c.SetAside(c.Nodes[0])
	asked(1, "10.0.0.2:6443")
	c.SetAside(c.Nodes[1]) // one at a time
	asked(0, "10.0.0.1:6443")
	c.TakeBack()
	asked(0, "10.0.0.1:6443", "10.0.0.2:6443")
	servers[1].SetHealth("/readyz", "etcd is not ready")
	c.SetAside(c.Nodes[0])
	asked(0, "10.0.0.2:6443")
	c.TakeBack()
	c.Nodes = c.Nodes[1:]
	c.Config.Spec.Hosts = c.Config.Spec.Hosts[1:]
	servers = servers[1:]
	c.SetAside(c.Nodes[0]) // nobody else serves
	asked(0, "10.0.0.2:6443")
}

// While the way to an API server is looked for, which may take seconds, all else goes on. A control plane that is set aside
// meanwhile is not kept to.
func TestNobodyWaitsForKube(t *testing.T) {
	c := &Cluster{Config: &config.Cluster{}}
	config.SetDefaults(c.Config)
	dialled, goOn := make(chan struct{}, 2), make(chan struct{})
	var servers []*kubetest.Server
	for i := range 2 {
		n, s := withAPI(t, fmt.Sprintf("cp-%d", i+1))
		n.Host.(*hosttest.Fake).OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled <- struct{}{}
			<-goOn
			return new(net.Dialer).DialContext(ctx, network, address)
		})
		c.Nodes, servers = append(c.Nodes, n), append(servers, s)
	}
	client := begin(func() (*kube.Client, error) { return c.Kube(t.Context()) })
	<-dialled
	c.APIServers()
	c.Delivery()
	c.SetAside(c.Nodes[0])
	close(goOn)
	for i, get := range []func() (*kube.Client, error){client, func() (*kube.Client, error) { return c.Kube(t.Context()) }} {
		got, err := get()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(got.Close)
		if !strings.HasSuffix(got.Server(), servers[i].Address()) {
			t.Errorf("call %d: got %s, want that of cp-%d", i, got.Server(), i+1)
		}
	}
}

// A client of one's own sees what has come since, and is not what Kube gives.
func TestFreshKubeKeepsNothing(t *testing.T) {
	sick, well := kubetest.NewServer(t), kubetest.NewServer(t)
	sick.SetHealth("/readyz", "not yet")
	first, f := controlPlane(t, "cp-1")
	second, g := controlPlane(t, "cp-2")
	c := &Cluster{Config: &config.Cluster{}, Nodes: []*Node{first, second}}
	if _, err := c.FreshKube(t.Context()); !errors.Is(err, ErrNoCluster) {
		t.Errorf("before there is a cluster: %v", err)
	}
	f.Put(conf(config.AdminConf, sick.Kubeconfig()))
	wantServer(t, c, sick)
	g.Put(conf(config.AdminConf, well.Kubeconfig()))
	wantServer(t, c, well)
	f.Put(conf(config.SuperAdminConf, well.Kubeconfig()))
	wantServer(t, c, well)
	if c.client != nil || len(c.clients) > 0 {
		t.Error("the cluster has kept a client")
	}
}

func wantServer(t *testing.T, c *Cluster, server *kubetest.Server) {
	t.Helper()
	client, err := c.FreshKube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if want := "https://" + server.Address(); client.Server() != want {
		t.Errorf("got the server %s, want %s", client.Server(), want)
	}
}

// A control plane whose connection has ended is not waited for: a request through it fails at once, and the next one goes
// through another control plane.
func TestKubeLeavesAControlPlaneThatIsGone(t *testing.T) {
	first, _ := withAPI(t, "cp-1")
	second, other := withAPI(t, "cp-2")
	c := &Cluster{Config: &config.Cluster{}, Nodes: []*Node{first, second}}
	client, err := c.Kube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	gone := errors.New("no power")
	first.Host.(*hosttest.Fake).Lose(gone)
	client.Close() // connections through it

	began := time.Now()
	_, err = client.Get(t.Context(), kube.Ref{APIVersion: "v1", Kind: "Namespace", Name: "kube-system"})
	if !errors.Is(err, kube.ErrGone) || !errors.Is(err, gone) {
		t.Errorf("through cp-1: %v", err)
	}
	if took := time.Since(began); took > kube.DefaultPatience/2 {
		t.Errorf("it was tried for %s", took)
	}
	next, err := c.Kube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(next.Close)
	if !strings.HasSuffix(next.Server(), other.Address()) {
		t.Errorf("then %s is asked", next.Server())
	}
}
