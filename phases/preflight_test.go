package phases

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/workflow"
)

// ground is what a preflight test looks at and changes: a control plane cp-1 and a worker w-1, both fit.
type ground struct {
	c      *cluster.Cluster
	cp, w  *cluster.Node
	cm, wm *machine
	opts   PreflightOptions
}

func newGround(t testing.TB) *ground {
	c, machines := testCluster(t, "cp-1", "w-1")
	for _, m := range machines {
		m.OnDial(func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			return near, far.Close()
		})
	}
	return &ground{c: c, cp: c.Nodes[0], w: c.Nodes[1], cm: machines[0], wm: machines[1]}
}

// needFile has the API server need files of its host, as a cluster tells of those that a document has for it.
func needFile(c *cluster.Cluster, paths ...string) {
	for _, path := range paths {
		c.Config.Spec.APIServer.ExtraVolumes = append(c.Config.Spec.APIServer.ExtraVolumes, config.HostPathMount{
			Name: "v" + strings.ReplaceAll(filepath.Base(path), ".", "-"), HostPath: path, MountPath: path, PathType: corev1.HostPathFile,
		})
	}
}

func TestPreflightFindings(t *testing.T) {
	put := func(m *machine, paths ...string) {
		for _, p := range paths {
			m.touch(p, 0o600, "there")
		}
	}
	const refused, warned = true, false
	tests := []struct {
		name    string
		arrange func(g *ground)
		on      string // the host that has it; empty: nobody
		finding string
		fatal   bool
		message string // part of it
	}{
		{"fit hosts", func(*ground) {}, "", "", false, ""},
		{"no systemd", func(g *ground) { g.w.Facts.Systemd = false }, "w-1", "SystemdRunning", refused, "systemd is not PID 1"},
		{"an architecture that is not known", func(g *ground) { g.w.Facts.Arch = "riscv64" }, "w-1", "Arch", refused, "riscv64"},
		{"arm64", func(g *ground) { g.c.Bundle, g.w.Facts.Arch = nil, "arm64" }, "", "", false, ""},
		{"arm64 and a bundle without it", func(g *ground) { g.w.Facts.Arch = "arm64" }, "w-1", "Bundle", refused, "has kubelet for [amd64], not for arm64; hint: use a bundle"},
		{"cgroup v1", func(g *ground) { g.w.Facts.CgroupV2 = false }, "w-1", "Cgroups", refused, "hint: boot with systemd.unified_cgroup_hierarchy=1"},
		{"cgroup v1, which the document allows", func(g *ground) {
			g.w.Facts.CgroupV2 = false
			g.c.Config.Spec.Kubelet = map[string]any{"failCgroupV1": false}
		}, "", "", false, ""},
		{"a host's name that is none of a node", func(g *ground) { g.w.Spec.Name = "w_1" }, "w-1", "Hostname", refused, `"w_1"`},
		{"no machine-id", func(g *ground) { g.w.Facts.MachineID = "" }, "w-1", "MachineID", refused, "hint: run systemd-machine-id-setup"},
		{"swap", func(g *ground) { g.wm.survey.swaps = []string{"/dev/sda2", "/swap"} }, "w-1", "Swap", refused, "/dev/sda2, /swap"},
		{"swap, which the document allows", func(g *ground) {
			g.wm.survey.swaps = []string{"/dev/sda2"}
			g.c.Config.Spec.Kubelet = map[string]any{"failSwapOn": false}
		}, "", "", false, ""},
		{"a control plane with one processor", func(g *ground) { g.cp.Facts.CPUs = 1 }, "cp-1", "NumCPU", refused, "1 processors"},
		{"a worker with one processor", func(g *ground) { g.w.Facts.CPUs = 1 }, "", "", false, ""},
		{"a control plane with little memory", func(g *ground) { g.cp.Facts.MemoryKiB = 1 << 20 }, "cp-1", "Mem", refused, "1024 MiB"},
		{"a worker with little memory", func(g *ground) { g.w.Facts.MemoryKiB = 1 << 20 }, "", "", false, ""},
		{"a full disk", func(g *ground) { g.wm.survey.freeKiB = 1 << 20 }, "w-1", "Disk", refused, "/var/lib has 1024 MiB free"},
		{"a full disk for images", func(g *ground) { g.wm.survey.raw = "free=/var/lib/containerd 1024\n" }, "w-1", "Disk", refused, "/var/lib/containerd has 1 MiB free"},
		{"an external etcd's files that are not there", func(g *ground) {
			g.c.Config.Spec.Etcd.External = &config.ExternalEtcd{Endpoints: []string{"https://192.0.2.1:2379"}, CAFile: "/nowhere/ca.crt"}
		}, "cp-1", "ExternalEtcd", refused, "spec.etcd.external.caFile: "},
		{"a clock that is a bit off", func(g *ground) { g.w.Facts.ClockSkew = -6 * time.Second }, "w-1", "ClockSkew", warned, "off by 6s"},
		{"a clock that is far off", func(g *ground) { g.w.Facts.ClockSkew = 3 * time.Minute }, "w-1", "ClockSkew", refused, "off by 3m0s"},
		{"a clock that is off by next to nothing", func(g *ground) { g.w.Facts.ClockSkew = 4 * time.Second }, "", "", false, ""},

		{"the API's port in use", func(g *ground) { g.cm.survey.ports = []int{6443} }, "cp-1", "Port-6443", refused, "hint: ss -ltnp"},
		{"the API's other port in use", func(g *ground) {
			g.c.Config.Spec.APIServerPort = 443
			g.cm.survey.ports = []int{443, 6443}
		}, "cp-1", "Port-443", refused, "port 443"},
		{"etcd's port in use", func(g *ground) { g.cm.survey.ports = []int{2380} }, "cp-1", "Port-2380", refused, ""},
		{"the kubelet's port in use on a worker", func(g *ground) { g.wm.survey.ports = []int{10250} }, "w-1", "Port-10250", refused, ""},
		{"ports of a control plane in use on a worker", func(g *ground) { g.wm.survey.ports = []int{6443, 2379, 2380, 10257, 10259} }, "", "", false, ""},
		{"other ports in use", func(g *ground) { g.cm.survey.ports = []int{22, 80, 8080} }, "", "", false, ""},
		{"ports that our own components use", func(g *ground) {
			g.cm.survey.ports = []int{6443, 2379, 2380, 10257, 10259, 10250}
			put(g.cm, config.ManifestsDir+"/kube-apiserver.yaml", config.ManifestsDir+"/etcd.yaml", config.ManifestsDir+"/kube-scheduler.yaml",
				config.ManifestsDir+"/kube-controller-manager.yaml", config.KubeletConfigFile, config.PKIDir+"/ca.key", config.KubeletConf)
		}, "", "", false, ""},

		{"a worker of some cluster is to be a control plane", func(g *ground) { put(g.cm, config.KubeletConf) }, "cp-1", "Leftovers", refused, "a worker of some cluster already"},
		{"an init that was interrupted", func(g *ground) { put(g.cm, config.KubeletConf, config.PKIDir+"/ca.key") }, "", "", false, ""},
		{"an etcd's data without its PKI", func(g *ground) { put(g.cm, config.EtcdDataDir+"/member/wal") }, "cp-1", "Leftovers", refused, "hint: myadm reset"},
		{"an etcd's data elsewhere", func(g *ground) {
			g.c.Config.Spec.Etcd.DataDir = "/srv/etcd"
			put(g.cm, "/srv/etcd/member/wal")
		}, "cp-1", "Leftovers", refused, "/srv/etcd"},
		{"an etcd's data with its PKI", func(g *ground) { put(g.cm, config.EtcdDataDir+"/member/wal", config.PKIDir+"/etcd/ca.crt") }, "", "", false, ""},
		{"a control plane is to be a worker", func(g *ground) { put(g.wm, config.ManifestsDir+"/kube-apiserver.yaml") }, "w-1", "Leftovers", refused, "a control plane already"},
		{"a worker of this cluster", func(g *ground) {
			g.opts.CA = []byte("this CA\n")
			put(g.wm, config.KubeletConf)
			g.wm.touch(config.PKIDir+"/ca.crt", 0o644, "this CA\n\n")
		}, "", "", false, ""},
		{"a worker of another cluster", func(g *ground) {
			g.opts.CA = []byte("this CA\n")
			put(g.wm, config.KubeletConf)
			g.wm.touch(config.PKIDir+"/ca.crt", 0o644, "another CA\n")
		}, "w-1", "Leftovers", refused, "a node of another cluster"},
		{"another cluster's CA, and no node of it", func(g *ground) {
			g.opts.CA = []byte("this CA\n")
			g.wm.touch(config.PKIDir+"/ca.crt", 0o644, "another CA\n")
		}, "", "", false, ""},
		{"a node that is to have another name", func(g *ground) {
			put(g.wm, config.KubeletConf)
			g.wm.touch(config.KubeletClientCert, 0o600, nodeCredentials(t, "w-9"))
		}, "w-1", "NodeName", refused, "is the node w-9 of its cluster, and would be w-1: a node keeps its name, which its certificate has; hint: give it name: w-9 in the document, or "},
		{"a node that has its name", func(g *ground) { g.wm.touch(config.KubeletClientCert, 0o600, nodeCredentials(t, "w-1")) }, "", "", false, ""},
		{"a node of another name and another cluster", func(g *ground) {
			g.opts.CA = []byte("this CA\n")
			put(g.wm, config.KubeletConf)
			g.wm.touch(config.PKIDir+"/ca.crt", 0o644, "another CA\n")
			g.wm.touch(config.KubeletClientCert, 0o600, nodeCredentials(t, "w-9"))
		}, "w-1", "Leftovers", refused, "a node of another cluster"},
		{"a containerd of somebody else's", func(g *ground) { put(g.wm, foreignContainerd) }, "w-1", "Leftovers", refused, "set spec.runtime.type: existing"},
		{"a containerd of somebody else's that is to be used", func(g *ground) {
			aContainerd().install(t, g.c, g.cm, g.wm)
			put(g.wm, foreignContainerd)
		}, "", "", false, ""},
		{"a containerd of somebody else's beside ours", func(g *ground) { put(g.wm, foreignContainerd, manifestContainerdUnit) }, "", "", false, ""},

		{"a file of a component's that is not there", func(g *ground) { needFile(g.c, "/etc/audit.yaml") }, "cp-1", "File", refused,
			"spec.apiServer.extraVolumes[0]: /etc/audit.yaml is not there, and without it the component does not start; hint: "},
		{"a folder in place of a component's file", func(g *ground) {
			needFile(g.c, "/etc/audit.yaml")
			g.cm.Mkdir("/etc/audit.yaml", 0o755)
		}, "cp-1", "File", refused, "/etc/audit.yaml is a folder"},
		{"a file of a component's that is there", func(g *ground) {
			needFile(g.c, "/etc/audit.yaml")
			put(g.cm, "/etc/audit.yaml")
		}, "", "", false, ""},
		{"a file of a component's that the document places", func(g *ground) {
			needFile(g.c, "/etc/audit.yaml")
			g.c.Config.Spec.APIServer.ExtraVolumes[0].File = "audit.yaml"
		}, "", "", false, ""},
		{"files of components that myadm makes", func(g *ground) { needFile(g.c, config.PKIDir+"/ca.crt", config.SchedulerConf) }, "", "", false, ""},
		{"a file that is gone from a control plane that runs", func(g *ground) {
			needFile(g.c, "/etc/audit.yaml")
			put(g.cm, config.ManifestsDir+"/kube-apiserver.yaml")
		}, "", "", false, ""},

		{"registries and a proxy for ours", func(g *ground) {
			g.c.Config.Spec.Proxy.HTTPSProxy = "http://ops:s3cret@proxy"
			g.c.Config.Spec.Registries = []config.Registry{{Name: "registry.k8s.io", Mirrors: []string{"https://mirror.example.org"}}}
		}, "", "", false, ""},

		{"a control plane that cannot be reached", func(g *ground) {
			g.wm.OnDial(func(_ context.Context, _, address string) (net.Conn, error) {
				return nil, fmt.Errorf("no route to host")
			})
		}, "w-1", "Reachable", refused, "10.0.0.1:22 cannot be reached from the host: no route to host; hint: "},
		{"a control plane whose SSH server is elsewhere", func(g *ground) {
			g.cp.Spec.SSH.Port = 2222
			g.wm.OnDial(dialOnly("10.0.0.1:2222"))
		}, "", "", false, ""},
		{"a port where nothing listens yet", func(g *ground) {
			g.wm.OnDial(func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("dial tcp: connection refused")
			})
		}, "", "", false, ""},
		{"an API that cannot be reached", func(g *ground) {
			g.opts.Dial = []string{"10.0.0.1:6443"}
			g.wm.OnDial(dialOnly("10.0.0.1:22"))
		}, "w-1", "Reachable", refused, "10.0.0.1:6443"},
		{"a control plane that is this machine need not have SSH", func(g *ground) {
			g.cp.Spec.Address = ""
			g.wm.OnDial(dialOnly())
		}, "", "", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGround(t)
			tt.arrange(g)
			refused, warnings := preflighted(t, g)
			want := map[string]string{}
			if tt.finding != "" {
				want[tt.on] = tt.finding
			}
			got, other := refused, warnings
			if !tt.fatal {
				got, other = warnings, refused
			}
			names := map[string]string{}
			for node, f := range got {
				names[node] = f.Name
				if !strings.Contains(f.Message, tt.message) {
					t.Errorf("%s: %q does not hold %q", node, f.Message, tt.message)
				}
			}
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(other) > 0 {
				t.Errorf("there is also %v", other)
			}
			for _, m := range []*machine{g.cm, g.wm} {
				if len(m.Runs())+len(m.Removed()) > 0 {
					t.Errorf("%s was changed: %q", m.Name(), m.Runs())
				}
			}
		})
	}
}

// nodeCredentials are a kubelet's client certificate and its key, as it keeps them: in one file.
func nodeCredentials(t testing.TB, node string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: certificate.Raw})) + string(private)
}

// A runtime of the user's is not told of registries and a proxy, and the user is told of that.
func TestPreflightOfARuntimeThatIsNotTold(t *testing.T) {
	for name, set := range map[string]func(*config.Spec){
		"Registries": func(s *config.Spec) {
			s.Registries = []config.Registry{{Name: "registry.k8s.io", Mirrors: []string{"https://mirror.example.org"}}}
		},
		"Proxy": func(s *config.Spec) { s.Proxy.HTTPSProxy = "http://ops:s3cret@proxy" },
	} {
		g := newGround(t)
		aContainerd().install(t, g.c, g.cm, g.wm)
		set(&g.c.Config.Spec)
		refused, warnings := preflighted(t, g)
		for _, on := range []string{"cp-1", "w-1"} {
			if f := warnings[on]; f.Name != name || !strings.Contains(f.Message, "; hint: ") || strings.Contains(f.Message, "s3cret") {
				t.Errorf("%s: warned of %+v", on, f)
			}
		}
		if len(refused) > 0 {
			t.Errorf("refused: %v", refused)
		}
	}
}

// preflighted is what preflight has against each host, one finding at most, and what it warns of.
func preflighted(t *testing.T, g *ground) (refused, warnings map[string]Finding) {
	t.Helper()
	refused, warnings = map[string]Finding{}, map[string]Finding{}
	r := workflow.Runner{Report: serial(func(e workflow.Event) {
		switch e.Kind {
		case workflow.Warning:
			name, message, _ := strings.Cut(strings.TrimPrefix(e.Message, "["), "] ")
			warnings[e.Host] = Finding{Name: name, Message: message}
		case workflow.Failed:
			var err *PreflightError
			if !errors.As(e.Err, &err) || len(err.Findings) != 1 {
				t.Errorf("%s: got %v, want one finding", e.Host, e.Err)
				return
			}
			refused[e.Host] = err.Findings[0]
		}
	})}
	if _, err := r.Run(t.Context(), Preflight(g.c, g.c.Nodes, g.opts)); (err != nil) != (len(refused) > 0) {
		t.Errorf("the run ends with %v", err)
	}
	return refused, warnings
}

// dialOnly reaches the addresses and no others.
func dialOnly(addresses ...string) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		if !slices.Contains(addresses, address) {
			return nil, errors.New("no route to host")
		}
		near, far := net.Pipe()
		return near, far.Close()
	}
}

func TestPreflightTellsEverythingAtOnce(t *testing.T) {
	g := newGround(t)
	g.cp.Facts.CPUs, g.cp.Facts.MachineID, g.cp.Facts.ClockSkew = 1, "", time.Minute
	g.cm.survey.ports, g.cm.survey.swaps = []int{6443, 10250}, []string{"/swap"}
	_, err := new(workflow.Runner).Run(t.Context(), Preflight(g.c, g.c.Nodes, g.opts))
	var refused *PreflightError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	var names []string
	for _, f := range refused.Findings {
		names = append(names, f.Name)
		if !f.Fatal || !strings.Contains(err.Error(), "["+f.Name+"] "+f.Message) {
			t.Errorf("%+v is not in %v", f, err)
		}
	}
	if diff := cmp.Diff([]string{"MachineID", "Swap", "NumCPU", "Port-6443", "Port-10250"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPreflightIgnores(t *testing.T) {
	for _, tt := range []struct {
		ignore  []string
		refused []string
		warned  int
	}{
		{nil, []string{"Swap", "Port-6443"}, 0},
		{[]string{"swap"}, []string{"Port-6443"}, 1},
		{[]string{"PORT-6443", "Swap"}, nil, 2},
		{[]string{"All"}, nil, 2},
		{[]string{"Port"}, []string{"Swap", "Port-6443"}, 0},
	} {
		t.Run(strings.Join(tt.ignore, ","), func(t *testing.T) {
			g := newGround(t)
			g.cm.survey.ports, g.cm.survey.swaps = []int{6443}, []string{"/swap"}
			warnings := 0
			r := workflow.Runner{Report: serial(func(e workflow.Event) {
				if e.Kind == workflow.Warning {
					warnings++
				}
			})}
			_, err := r.Run(t.Context(), Preflight(g.c, g.c.Nodes, PreflightOptions{Ignore: tt.ignore}))
			var refused *PreflightError
			var names []string
			if errors.As(err, &refused) {
				for _, f := range refused.Findings {
					names = append(names, f.Name)
				}
			}
			if diff := cmp.Diff(tt.refused, names); diff != "" || warnings != tt.warned {
				t.Errorf("%d warnings, want %d; refused (-want +got):\n%s", warnings, tt.warned, diff)
			}
		})
	}
}

// A warning is told once for each host, however often the phase is checked.
func TestPreflightWarnsOnce(t *testing.T) {
	g := newGround(t)
	g.cp.Facts.ClockSkew, g.w.Facts.ClockSkew = time.Minute, time.Minute
	p := Preflight(g.c, g.c.Nodes, g.opts)
	var hosts []string
	r := workflow.Runner{Report: serial(func(e workflow.Event) {
		if e.Kind == workflow.Warning {
			hosts = append(hosts, e.Host)
		}
	})}
	if _, err := r.Run(t.Context(), p, p); err != nil {
		t.Fatal(err)
	}
	slices.Sort(hosts)
	if diff := cmp.Diff([]string{"cp-1", "w-1"}, hosts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// All that is asked of a host is asked in one trip, while the ways to the others are tried.
func TestPreflightIsOneTrip(t *testing.T) {
	c, machines := testCluster(t, "cp-1", "w-1", "w-2")
	var mu sync.Mutex
	dialled := map[string][]string{}
	for _, m := range machines {
		m.OnDial(func(_ context.Context, _, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled[m.Name()] = append(dialled[m.Name()], address)
			return nil, errors.New("refused")
		})
	}
	// Room behind the addresses, as append may leave it: hosts must not write there at the same time.
	opts := PreflightOptions{Dial: append(make([]string, 0, 8), "10.0.0.1:6443")}
	run(t, Preflight(c, c.Nodes, opts))
	want := map[string][]string{
		"cp-1": {"10.0.0.1:6443"}, "w-1": {"10.0.0.1:22", "10.0.0.1:6443"}, "w-2": {"10.0.0.1:22", "10.0.0.1:6443"},
	}
	for _, addresses := range dialled {
		slices.Sort(addresses)
	}
	if diff := cmp.Diff(want, dialled); diff != "" {
		t.Errorf("dialled (-want +got):\n%s", diff)
	}
	for _, m := range machines {
		if n := len(m.Commands()); n != 1 {
			t.Errorf("%s: %d commands", m.Name(), n)
		}
	}
}

func TestPreflightOfAHostThatFails(t *testing.T) {
	g := newGround(t)
	g.wm.OnPrefix("sh", "-c", surveyScript, "sh").Do(func(_ *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		return []byte("port=none\n"), nil
	})
	_, err := new(workflow.Runner).Run(t.Context(), Preflight(g.c, g.c.Nodes, g.opts))
	var refused *PreflightError
	if err == nil || errors.As(err, &refused) || !strings.Contains(err.Error(), "w-1: preflight: survey the host: listening port: ") {
		t.Errorf("got %v", err)
	}
}
