package phases

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
)

// keepalived is that of a machine, with the addresses of its network interface. It takes the virtual one away when it ends
// by itself.
type keepalived struct {
	running   bool
	killed    bool // when it is ended, because it does not end by itself
	addresses []string
}

const virtualAddr = "10.0.0.100/32"

// keepVirtualIP makes a machine one that has the virtual IP.
func keepVirtualIP(t testing.TB, c *cluster.Cluster, n *cluster.Node) *keepalived {
	c.Config.Spec.LoadBalancer = config.LoadBalancer{Type: config.LoadBalancerKeepalived, VirtualIP: "10.0.0.100", Port: 6444, RouterID: 51}
	n.Facts.Interfaces = map[netip.Addr]string{n.AdvertiseAddress(): "eth0"}
	m := n.Host.(*machine)
	m.balance()
	run(t, LoadBalancer(c, []*cluster.Node{n}))
	k := &keepalived{running: true, addresses: []string{"10.0.0.1/24", virtualAddr}}
	m.On("sh", "-c", virtualIPScript, "sh", manifests.KeepalivedConfigPath, "10.0.0.100", "eth0").Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		var b strings.Builder
		if k.running {
			b.WriteString("running=\n")
		}
		if slices.Contains(k.addresses, virtualAddr) {
			b.WriteString("present=\n")
		}
		return []byte(b.String()), nil
	})
	drop := func() { k.addresses = slices.DeleteFunc(k.addresses, func(a string) bool { return a == virtualAddr }) }
	m.On("sh", "-c", endKeepalivedScript, "sh", manifests.KeepalivedConfigPath, handoverPatience).Changes().Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		if k.running && !k.killed {
			drop()
		}
		k.running = false
		return nil, nil
	})
	m.On("ip", "address", "delete", virtualAddr, "dev", "eth0").Changes().Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		drop()
		return nil, nil
	})
	return k
}

func TestVirtualIP(t *testing.T) {
	tests := []struct {
		name   string
		change func(k *keepalived)
		want   []string // what Check says
		runs   int
	}{
		{"the host has it", func(*keepalived) {}, []string{"run keepalived", "delete address " + virtualAddr}, 1},
		{"another host has it", func(k *keepalived) { k.addresses = k.addresses[:1] }, []string{"run keepalived"}, 1},
		{"keepalived was killed", func(k *keepalived) { k.running = false }, []string{"delete address " + virtualAddr}, 2},
		{"keepalived hangs", func(k *keepalived) { k.killed = true }, []string{"run keepalived", "delete address " + virtualAddr}, 2},
		{"it is gone", func(k *keepalived) { k.running, k.addresses = false, k.addresses[:1] }, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, machines := testCluster(t, "cp-1")
			k := keepVirtualIP(t, c, c.Nodes[0])
			tt.change(k)
			machines[0].ResetRecord()
			p := VirtualIP(c.Nodes)
			if diff := cmp.Diff(tt.want, check(t, p, c.Nodes[0])); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			run(t, p)
			if k.running || !slices.Equal(k.addresses, []string{"10.0.0.1/24"}) || len(machines[0].Runs()) != tt.runs {
				t.Errorf("left %+v, after %q", k, machines[0].Runs())
			}
			settled(t, p, c.Nodes[0])
		})
	}
}

func FuzzParseVirtualIP(f *testing.F) {
	c, _ := testCluster(f, "cp-1")
	keepVirtualIP(f, c, c.Nodes[0])
	conf, _ := c.Nodes[0].Host.(*machine).Get(manifests.KeepalivedConfigPath)
	f.Add(conf.Data)
	f.Add([]byte("# Written by myadm\n\t10.0.0.1/33 dev eth0\n"))
	f.Fuzz(func(t *testing.T, conf []byte) {
		v, ok := parseVirtualIP(conf)
		if ok && (!v.address.IsSingleIP() || v.nic == "" || strings.HasPrefix(v.nic, "-") || strings.ContainsAny(v.nic, " /\n")) {
			t.Errorf("found %+v", v)
		}
	})
}

func TestParseVirtualIP(t *testing.T) {
	c, _ := testCluster(t, "cp-1")
	keepVirtualIP(t, c, c.Nodes[0])
	ours, _ := c.Nodes[0].Host.(*machine).Get(manifests.KeepalivedConfigPath)
	if v, ok := parseVirtualIP(ours.Data); !ok || v.address.String() != virtualAddr || v.nic != "eth0" {
		t.Errorf("found %+v, %t in\n%s", v, ok, ours.Data)
	}
	mark, rest, _ := strings.Cut(string(ours.Data), "\n")
	for name, conf := range map[string]string{
		"somebody else's": rest,
		"empty":           "",
		"cut":             mark + "\nvirtual_ipaddress {\n\t10.0.0.1",
		"a network":       mark + "\n\t\t10.0.0.0/24 dev eth0\n",
		"no address":      mark + "\n\t\t10.0.0.256/32 dev eth0\n",
		"an option":       mark + "\n\t\t10.0.0.1/32 dev -force\n",
	} {
		if v, ok := parseVirtualIP([]byte(conf)); ok {
			t.Errorf("%s: found %+v", name, v)
		}
	}
}

// keepalived's child has its command line. It ends with its parent, and is not ended before.
func TestEndKeepalivedScript(t *testing.T) {
	// On a line each: programs have no line breaks in their arguments.
	const parent = "trap 'echo parent ends; kill -TERM $child; wait $child; exit' TERM; " +
		"(trap 'echo child ends; exit' TERM; echo ready; while :; do sleep 9 & wait $!; done) & child=$!; " +
		"echo ready; while :; do sleep 9 & wait $!; done"
	const deaf = "trap '' TERM; echo ready; echo ready; while :; do sleep 9 & wait $!; done"
	conf := filepath.Join(t.TempDir(), "keepalived.conf")
	for _, tt := range []struct {
		name    string
		script  string
		argv    []string
		patient string
		want    []string // what it says; nil: it is left alone
	}{
		{"ours", parent, []string{"keepalived", "--dont-fork", "--use-file=" + conf}, "100", []string{"parent ends", "child ends"}},
		{"that does not end", deaf, []string{"/usr/sbin/keepalived", "--use-file=" + conf}, "1", []string{}},
		{"the user's", parent, []string{"keepalived", "--use-file=/etc/keepalived/own.conf"}, "100", nil},
		{"an editor", parent, []string{"vi", "keepalived", conf}, "100", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pretend(t, tt.script, tt.argv...)
			for range 2 {
				if got := p.line(); got != "ready" {
					t.Fatal(got)
				}
			}
			asked := func() bool {
				out, err := (shell{}).Query(t.Context(), host.Command("sh", "-c", virtualIPScript, "sh", conf, "192.0.2.1", "lo"))
				if err != nil || strings.Contains(string(out), "present") {
					t.Errorf("%s, %v", out, err)
				}
				return strings.Contains(string(out), "running=")
			}
			if got := asked(); got != (tt.want != nil) {
				t.Errorf("it is taken for ours: %t", got)
			}
			if _, err := (shell{}).Query(t.Context(), host.Command("sh", "-c", endKeepalivedScript, "sh", conf, tt.patient)); err != nil {
				t.Fatal(err)
			}
			if tt.want == nil {
				if err := p.cmd.Process.Signal(syscall.Signal(0)); err != nil {
					t.Errorf("it was ended: %v", err)
				}
				return
			}
			if asked() {
				t.Error("it still runs")
			}
			for _, want := range tt.want {
				if got := p.line(); got != want {
					t.Errorf("it says %q, want %q", got, want)
				}
			}
		})
	}
}

// The address is looked for on the one interface, and whole.
func TestVirtualIPScriptFindsTheAddress(t *testing.T) {
	s := shell{path: t.TempDir()}
	s.tool(t, "ip", `[ "$*" = "-oneline address show dev eth0" ] || exit 1
echo "2: eth0    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth0\       valid_lft forever preferred_lft forever"
echo "2: eth0    inet 10.0.0.100/32 scope global eth0\       valid_lft forever preferred_lft forever"
`)
	for _, tt := range []struct {
		address, nic string
		want         bool
	}{{"10.0.0.100", "eth0", true}, {"10.0.0.10", "eth0", false}, {"0.0.0.100", "eth0", false}, {"10.0.0.100", "eth1", false}} {
		out, err := s.Query(t.Context(), host.Command("sh", "-c", virtualIPScript, "sh", "/nowhere", tt.address, tt.nic))
		if err != nil || strings.Contains(string(out), "present=") != tt.want {
			t.Errorf("%s on %s: %q, %v, want it found: %t", tt.address, tt.nic, out, err, tt.want)
		}
	}
}
