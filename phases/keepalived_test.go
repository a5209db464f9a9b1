package phases

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// router is the keepalived of a machine, which its kubelet starts anew whenever it ends.
type router struct {
	m       *machine
	started int64 // the machine's clock
	starts  int
	stuck   bool // the kubelet does not start it anew
}

func (r *router) start() { r.started, r.starts = r.m.now, r.starts+1 }

// route gives a machine a keepalived that runs.
func (m *machine) route() *router {
	r := &router{m: m}
	r.start()
	m.On("sh", "-c", keepalivedScript, "sh", manifests.KeepalivedConfigPath).Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		b := fmt.Appendf(nil, "written=%d\nhertz=100\nuptime=1000\nnow=%d\n", m.written[manifests.KeepalivedConfigPath], m.now)
		if r.started > 0 {
			ticks := 100 * (1000 - (m.now - r.started))
			b = fmt.Appendf(b, "started=%d\nstarted=%d\n", ticks, ticks+1)
		}
		return b, nil
	})
	m.On("sh", "-c", endKeepalivedScript, "sh", manifests.KeepalivedConfigPath, handoverPatience).Changes().Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.now++; r.stuck {
			r.started = 0
		} else {
			r.start()
		}
		return nil, nil
	})
	return r
}

// routed is control planes behind a virtual IP, where all runs.
func routed(t testing.TB, names ...string) (*cluster.Cluster, []*router) {
	c, machines := testCluster(t, names...)
	c.Config.Spec.LoadBalancer = config.LoadBalancer{Type: config.LoadBalancerKeepalived, VirtualIP: "10.0.0.100", Port: 6444, RouterID: 51}
	var routers []*router
	for i, n := range c.Nodes {
		n.Spec.Roles = []config.Role{config.RoleControlPlane}
		c.Config.Spec.Hosts[i] = n.Spec
		n.Facts.Interfaces = map[netip.Addr]string{n.AdvertiseAddress(): "eth0"}
		machines[i].balance()
	}
	run(t, LoadBalancer(c, c.Nodes))
	for _, m := range machines {
		m.balancer.start()
		routers = append(routers, m.route())
		m.ResetRecord()
	}
	return c, routers
}

// Of the hosts behind a virtual IP, one after the other starts keepalived anew: somebody always has the address.
func TestKeepalivedFollowsItsPeers(t *testing.T) {
	c, routers := routed(t, "cp-1", "cp-2", "cp-3")
	joins(c, "10.0.0.7:6443")
	p := LoadBalancer(c, c.Nodes)
	want := []string{"update " + manifests.HAProxyConfigPath, "update " + manifests.KeepalivedConfigPath, "run haproxy", "run keepalived"}
	if diff := cmp.Diff(want, check(t, p, c.Nodes[1])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var mu sync.Mutex
	var order []string
	runner := workflow.Runner{Report: func(e workflow.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == workflow.Applying || e.Kind == workflow.Applied {
			order = append(order, e.Host)
		}
	}}
	if _, err := runner.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if len(order) != 6 || order[0] != order[1] || order[2] != order[3] || order[4] != order[5] {
		t.Errorf("they did not take turns: %q", order)
	}
	for i, r := range routers {
		if r.starts != 2 {
			t.Errorf("%s: keepalived was started %d times", r.m.Name(), r.starts)
		}
		if writes := r.m.Writes(); slices.Contains(writes, manifests.StaticPodPath(manifests.KeepalivedName)) {
			t.Errorf("%s: wrote %q", r.m.Name(), writes)
		}
		settled(t, p, c.Nodes[i])
	}
}

// What was cut between the writing of the configuration and the new start is seen, and a keepalived that does not run is
// the kubelet's to start.
func TestKeepalivedIsStartedAnewOnlyWhenItIsOld(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(r *router)
		starts int
	}{
		{"it has what is wanted", func(*router) {}, 1},
		{"it is older than its configuration", func(r *router) {
			file, _ := r.m.Get(manifests.KeepalivedConfigPath)
			r.m.touch(file.Path, file.Mode, string(file.Data))
		}, 2},
		{"it does not run", func(r *router) { r.started = 0; r.m.Delete(manifests.KeepalivedConfigPath) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, routers := routed(t, "cp-1")
			tt.do(routers[0])
			run(t, LoadBalancer(c, c.Nodes))
			if routers[0].starts != tt.starts {
				t.Errorf("it was started %d times, want %d", routers[0].starts, tt.starts)
			}
			settled(t, LoadBalancer(c, c.Nodes), c.Nodes[0])
		})
	}
}

// One that does not come back is an error, with its own word on it, before the next one is ended.
func TestKeepalivedThatDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, routers := routed(t, "cp-1")
		routers[0].stuck = true
		routers[0].m.On("sh", "-c", lastWordsScript, "sh", "keepalived").Return("no such interface\n")
		joins(c, "10.0.0.7:6443")
		_, err := new(workflow.Runner).Run(t.Context(), LoadBalancer(c, c.Nodes))
		for _, part := range []string{"cp-1: load-balancer: keepalived does not run by " + manifests.KeepalivedConfigPath + " after 1m30s", "no such interface"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%v\ndoes not hold %q", err, part)
			}
		}
	})
}

func TestParseKeepalived(t *testing.T) {
	const clocks = "hertz=100\nuptime=50.25\nnow=1000.5\n" // it was booted at 950.25
	for _, tt := range []struct {
		name, out string
		want      keepalivedState
		err       bool
	}{
		{"not running", "written=990.0\n" + clocks, keepalivedState{}, false},
		{"newer", "started=4000\nstarted=4001\nwritten=990.0\n" + clocks, keepalivedState{running: true}, false},
		{"older", "started=3900\nstarted=3901\nwritten=990.0\n" + clocks, keepalivedState{running: true, old: true}, false},
		{"one of its processes is older", "started=4100\nstarted=3900\nwritten=990.0\n" + clocks, keepalivedState{running: true, old: true}, false},
		{"at about the same time", "started=3970\nwritten=990.0\n" + clocks, keepalivedState{running: true}, false},
		{"without a configuration", "started=3900\n" + clocks, keepalivedState{running: true}, false},
		{"no clock", "started=3900\nwritten=990.0\n", keepalivedState{}, true},
		{"no number", "started=x\n" + clocks, keepalivedState{}, true},
		{"nothing", "", keepalivedState{}, false},
	} {
		got, err := parseKeepalived([]byte(tt.out))
		if got != tt.want || (err != nil) != tt.err {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func FuzzParseKeepalived(f *testing.F) {
	f.Add([]byte("started=4000\nwritten=990.123456789\nhertz=100\nuptime=50.25\nnow=1000.500000000\n"))
	f.Add([]byte("started=NaN\nhertz=+Inf\nnow=1e999\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		if state, err := parseKeepalived(out); err == nil && state.old && !state.running {
			t.Errorf("%+v", state)
		}
	})
}

// A process is told from its configuration by the clocks of a real machine.
func TestKeepalivedScriptTellsWhatIsOlder(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "keepalived.conf")
	state := func() keepalivedState {
		t.Helper()
		out, err := (shell{}).Query(t.Context(), host.Command("sh", "-c", keepalivedScript, "sh", conf))
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseKeepalived(out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return s
	}
	write := func(at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(conf, nil, 0o600), os.Chtimes(conf, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	write(time.Now())
	if got := state(); got != (keepalivedState{}) {
		t.Errorf("nothing runs: %+v", got)
	}
	pretend(t, idle, "/usr/sbin/keepalived", "--use-file="+conf).line()
	pretend(t, idle, "keepalived", "--use-file=/etc/keepalived/own.conf").line()
	pretend(t, idle, "vi", conf).line()
	if got := state(); got != (keepalivedState{running: true}) {
		t.Errorf("started after the configuration was written: %+v", got)
	}
	write(time.Now().Add(time.Second))
	if got := state(); got != (keepalivedState{running: true, old: true}) {
		t.Errorf("started before: %+v", got)
	}
}
