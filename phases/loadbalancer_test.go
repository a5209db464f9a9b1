package phases

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

var balancerPod = manifests.StaticPodPath(manifests.HAProxyName)

// nodeLocal prepares a machine for a load balancer of its own.
func nodeLocal(_ testing.TB, c *cluster.Cluster, n *cluster.Node) {
	c.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	n.Host.(*machine).balance()
}

// balancedNode is a node on which the load balancer is in place and runs.
func balancedNode(t testing.TB) (*cluster.Cluster, *cluster.Node, *machine) {
	c, machines := testCluster(t, "cp-1")
	nodeLocal(t, c, c.Nodes[0])
	run(t, LoadBalancer(c, c.Nodes))
	machines[0].balancer.start()
	return c, c.Nodes[0], machines[0]
}

// joins makes the cluster know of one more API server.
func joins(c *cluster.Cluster, server string) {
	c.Learned = append(c.Learned, netip.MustParseAddrPort(server))
}

func TestBalancedNodes(t *testing.T) {
	names := []string{"cp-1", "cp-2", "w-1"}
	for _, tt := range []struct {
		balancer string
		want     []string
	}{
		{config.LoadBalancerNodeLocal, names},
		{config.LoadBalancerKeepalived, names[:2]},
		{config.LoadBalancerExternal, nil},
		{"", nil},
	} {
		c, _ := testCluster(t, names...)
		c.Config.Spec.LoadBalancer.Type = tt.balancer
		var got []string
		for _, h := range LoadBalancer(c, c.Nodes).Hosts {
			got = append(got, h.Name())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.balancer, diff)
		}
		if p := LoadBalancer(c, c.Nodes); p.Hosts == nil {
			t.Errorf("%q: the phase is one on the cluster itself", tt.balancer)
		}
	}
}

// The kubelet starts what it finds a manifest of: by then its configuration is there.
func TestLoadBalancerWritesTheManifestLast(t *testing.T) {
	_, _, m := balancedNode(t)
	writes := m.Writes()
	if want := []string{manifests.HAProxyConfigPath, balancerPod}; !slices.Equal(writes, want) {
		t.Errorf("wrote %q, want %q", writes, want)
	}
}

// A list that has changed reaches the HAProxy that runs, and nothing is started anew for it.
func TestLoadBalancerIsToldOfAChangedList(t *testing.T) {
	c, n, m := balancedNode(t)
	p := LoadBalancer(c, c.Nodes)
	joins(c, "10.0.0.7:6443")
	m.ResetRecord()
	if diff := cmp.Diff([]string{"update " + manifests.HAProxyConfigPath, "run haproxy"}, check(t, p, n)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run(t, p)
	file, _ := m.Get(manifests.HAProxyConfigPath)
	if !strings.Contains(string(m.balancer.loaded), "10.0.0.7:6443") || string(m.balancer.loaded) != string(file.Data) {
		t.Errorf("HAProxy goes by\n%s", m.balancer.loaded)
	}
	if m.balancer.reloads != 1 || !slices.Equal(m.Writes(), []string{manifests.HAProxyConfigPath}) || len(m.Runs()) != 1 {
		t.Errorf("%d reloads; wrote %q, ran %q", m.balancer.reloads, m.Writes(), m.Runs())
	}
	settled(t, p, n)
}

// A HAProxy that has what is wanted is left alone, whatever else is mended, and so is one that does not run.
func TestLoadBalancerReloadsOnlyWhatIsOld(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(m *machine)
		reload int
	}{
		{"it has loaded the list, and somebody edited the file", func(m *machine) { m.touch(manifests.HAProxyConfigPath, 0o644, "global\n") }, 0},
		{"its manifest is gone", func(m *machine) { m.Delete(balancerPod) }, 0},
		{"it does not run", func(m *machine) { m.balancer.running = false; m.Delete(manifests.HAProxyConfigPath) }, 0},
		{"it goes by another list than the file's", func(m *machine) { m.balancer.runsOld() }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, n, m := balancedNode(t)
			tt.do(m)
			if tt.reload > 0 != slices.Contains(check(t, LoadBalancer(c, c.Nodes), n), "run haproxy") {
				t.Errorf("a check says %q", check(t, LoadBalancer(c, c.Nodes), n))
			}
			run(t, LoadBalancer(c, c.Nodes))
			if m.balancer.reloads != tt.reload {
				t.Errorf("%d reloads, want %d", m.balancer.reloads, tt.reload)
			}
			settled(t, LoadBalancer(c, c.Nodes), n)
		})
	}
}

// A configuration that HAProxy does not take is an error with HAProxy's own word on it.
func TestLoadBalancerThatStaysOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in which the patience takes no time
		c, _, m := balancedNode(t)
		joins(c, "10.0.0.7:6443")
		m.balancer.stuck = true
		m.On("sh", "-c", lastWordsScript, "sh", "haproxy").Return("[ALERT] cannot bind\n")
		_, err := new(workflow.Runner).Run(t.Context(), LoadBalancer(c, c.Nodes))
		for _, part := range []string{"cp-1: load-balancer: HAProxy has not loaded " + manifests.HAProxyConfigPath + " after 15s", "[ALERT] cannot bind"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%v\ndoes not hold %q", err, part)
			}
		}
	})
}

// Who answers at the health port need not be an HAProxy of ours, nor answer at all.
func TestLoadedVersion(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"a version", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd\n", "abcd"},
		{"an error", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nabcd", ""},
		{"no HTTP", "220 mail.example ESMTP\r\n", ""},
		{"cut off", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcd", ""},
		{"without end", "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("a", 1<<10), strings.Repeat("a", maxVersion)},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, machines := testCluster(t, "cp-1")
			machines[0].OnDial(func(_ context.Context, network, address string) (net.Conn, error) {
				if network != "tcp" || address != "127.0.0.1:6445" {
					t.Errorf("dialled %s %s", network, address)
				}
				near, far := net.Pipe()
				go func() {
					defer far.Close()
					if _, err := far.Read(make([]byte, 1<<10)); err == nil {
						_, _ = io.WriteString(far, tt.answer) // whose reader may have had enough
					}
				}()
				return near, nil
			})
			if got := loadedVersion(t.Context(), c.Nodes[0]); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c, machines := testCluster(t, "cp-1")
		machines[0].OnDial(func(ctx context.Context, _, _ string) (net.Conn, error) { // a machine that drops what it is sent
			<-ctx.Done()
			return nil, ctx.Err()
		})
		began := time.Now()
		if got := loadedVersion(t.Context(), c.Nodes[0]); got != "" || time.Since(began) != versionTimeout {
			t.Errorf("got %q after %s", got, time.Since(began))
		}
	})
}

func TestLoadBalancerIsInterrupted(t *testing.T) {
	c, n, m := balancedNode(t)
	stop := errors.New("the operator said stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	m.OnDial(func(context.Context, string, string) (net.Conn, error) {
		cancel(stop)
		return nil, ctx.Err()
	})
	if _, err := LoadBalancer(c, c.Nodes).Check(ctx, n); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

var priorities = regexp.MustCompile(`(?m)^\s*priority (\d+)$`)

// Of the control planes behind a virtual IP each knows all others, and no two are worth the same.
func TestKeepalivedKnowsItsPeers(t *testing.T) {
	c, machines := testCluster(t, "cp-1", "cp-2", "cp-3", "w-1")
	c.Config.Spec.LoadBalancer = config.LoadBalancer{Type: config.LoadBalancerKeepalived, VirtualIP: "10.0.0.100", Port: 6444, RouterID: 51}
	for i, m := range machines {
		m.balance()
		at := c.Nodes[i].AdvertiseAddress()
		c.Nodes[i].Facts.Interfaces = map[netip.Addr]string{at: "eth7"}
	}
	p := LoadBalancer(c, c.Nodes)
	run(t, p)
	for i, m := range machines[:3] {
		file, _ := m.Get(config.KeepalivedDir + "/keepalived.conf")
		text := string(file.Data)
		for k, other := range c.Nodes[:3] {
			if known := strings.Contains(text, "\t"+other.Spec.AdvertiseAddress+"\n"); known != (i != k) {
				t.Errorf("%s knows of %s: %t\n%s", m.Name(), other.Spec.Name, known, text)
			}
		}
		want := []string{"150", "149", "148"}[i]
		if got := priorities.FindStringSubmatch(text); len(got) != 2 || got[1] != want {
			t.Errorf("%s has priority %q, want %s", m.Name(), got, want)
		}
		if !strings.Contains(text, "interface eth7") {
			t.Errorf("%s: not the interface of its address:\n%s", m.Name(), text)
		}
		writes := m.Writes()
		if want := manifests.StaticPodPath(manifests.KeepalivedName); writes[len(writes)-1] != want {
			t.Errorf("%s: wrote %q, want %s last", m.Name(), writes, want)
		}
		settled(t, p, c.Nodes[i])
	}
	if writes := machines[3].Writes(); len(writes) > 0 {
		t.Errorf("a worker has got %q", writes)
	}
}

// A load balancer is told of a control plane that is set aside, and of its return, without another change: neither is it
// placed where there is none, nor started where it does not run.
func TestRebalance(t *testing.T) {
	c, machines := testCluster(t, "cp-1", "cp-2", "w-1")
	c.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	for _, m := range machines {
		m.balance()
	}
	run(t, LoadBalancer(c, c.Nodes))
	m := machines[2]
	m.balancer.start()
	m.touch(balancerPod, 0o600, "theirs\n")
	rebalance := func(reloads int, want ...string) {
		t.Helper()
		m.ResetRecord()
		before := m.balancer.reloads
		if err := Rebalance(t.Context(), c, c.Nodes[2]); err != nil {
			t.Fatal(err)
		}
		if got := asks(m); !slices.Equal(got, want) {
			t.Errorf("it asks %q, want %q", got, want)
		}
		if got := m.balancer.reloads - before; got != reloads || len(m.Writes()) != reloads || len(m.Runs()) != reloads {
			t.Errorf("%d reloads, want %d; wrote %q, ran %q", got, reloads, m.Writes(), m.Runs())
		}
	}
	rebalance(0, "10.0.0.1", "10.0.0.2")
	c.SetAside(c.Nodes[0])
	rebalance(1, "10.0.0.2")
	rebalance(0, "10.0.0.2")
	c.TakeBack()
	rebalance(1, "10.0.0.1", "10.0.0.2")

	c.SetAside(c.Nodes[1])
	machines[0].ResetRecord()
	if err := Rebalance(t.Context(), c, c.Nodes[0]); err != nil || len(machines[0].Runs()) > 0 {
		t.Errorf("one that does not run: %v, ran %q", err, machines[0].Runs())
	}
	if file, _ := machines[0].Get(manifests.HAProxyConfigPath); strings.Contains(string(file.Data), "10.0.0.2:") {
		t.Error("one that does not run would start with the old list")
	}
	c.Config.Spec.LoadBalancer.Type = config.LoadBalancerExternal
	m.ResetRecord()
	if err := Rebalance(t.Context(), c, c.Nodes[2]); err != nil || len(m.Commands())+len(m.Writes()) > 0 {
		t.Errorf("a host without one: %v, %q", err, m.Writes())
	}
}
