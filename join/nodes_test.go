package join

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
)

var myadmConfig = kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "myadm-config"}

// present are the files by which a control plane is known to be in the cluster.
var present = []string{
	config.KubeletConf, manifests.StaticPodPath(manifests.APIServerName), manifests.StaticPodPath(manifests.ControllerManagerName),
	manifests.StaticPodPath(manifests.SchedulerName),
}

// A control plane that a run was cut on joins again; a worker is asked for nothing.
func TestPresent(t *testing.T) {
	n := newNetwork(t, "cp-2", "cp-3", "w-1")
	for _, name := range []string{"cp-1", "cp-2", "w-1"} {
		for _, path := range present {
			n.fakes[name].Put(host.File{Path: path, Mode: 0o600, Data: []byte("there")})
		}
	}
	for _, path := range present {
		file, _ := n.fakes["cp-2"].Get(path)
		n.fakes["cp-2"].Delete(path)
		in, out, err := Present(t.Context(), n.cluster)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Concat(nodeNames(in), []string{"|"}, nodeNames(out)); !slices.Equal(got, []string{"cp-1", "|", "cp-2", "cp-3", "w-1"}) {
			t.Errorf("without %s: %q", path, got)
		}
		n.fakes["cp-2"].Put(file)
	}
	in, out, err := Present(t.Context(), n.cluster)
	if err != nil || len(in) != 2 || len(out) != 2 {
		t.Errorf("%q and %q, %v", nodeNames(in), nodeNames(out), err)
	}
	gone := errors.New("gone")
	n.fakes["cp-3"].Lose(gone)
	if _, _, err := Present(t.Context(), n.cluster); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func nodeNames(nodes []*cluster.Node) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Spec.Name)
	}
	return names
}

// The load balancer is the cluster's, whatever the document says; the document has a word only when a cluster that had no
// need of one gets its second control plane.
func TestLoadBalancerOfTheCluster(t *testing.T) {
	keepalived := config.LoadBalancer{Type: config.LoadBalancerKeepalived, VirtualIP: "10.0.0.100", Port: 6444, RouterID: 51}
	for _, tt := range []struct {
		name    string
		cluster string                         // its load balancer
		arrange func(t *testing.T, n *network) // what is different
		wanted  func(cfg *config.Cluster)      // the document's word
		joiners []string
		want    func(t *testing.T, c *cluster.Cluster, j *Joining) // what becomes of it
	}{
		{"it has one, and the document says another", config.LoadBalancerNodeLocal, nil,
			func(cfg *config.Cluster) { cfg.Spec.LoadBalancer = keepalived }, []string{"w-1"},
			func(t *testing.T, c *cluster.Cluster, _ *Joining) {
				if got := c.Config.Spec.LoadBalancer.Type; got != config.LoadBalancerNodeLocal {
					t.Errorf("it is %s", got)
				}
			}},
		{"it has none and one control plane", "", nil, func(*config.Cluster) {}, []string{"w-1"},
			func(t *testing.T, c *cluster.Cluster, _ *Joining) {
				if got := c.Config.Spec.LoadBalancer.Type; got != "" || c.Config.NodeEndpoint() != apiServer {
					t.Errorf("it is %q; nodes go to %s", got, c.Config.NodeEndpoint())
				}
			}},
		{"a second control plane comes", "", nil, func(*config.Cluster) {}, []string{"cp-2"},
			func(t *testing.T, c *cluster.Cluster, _ *Joining) {
				if c.Config.NodeEndpoint() != "127.0.0.1:6444" {
					t.Errorf("nodes go to %s", c.Config.NodeEndpoint())
				}
			}},
		{"a second control plane comes, for a virtual IP", "", nil,
			func(cfg *config.Cluster) { cfg.Spec.LoadBalancer = keepalived }, []string{"cp-2"},
			func(t *testing.T, c *cluster.Cluster, j *Joining) {
				// Nothing answers there before the first control plane has its load balancer.
				if c.Config.NodeEndpoint() != "10.0.0.100:6444" || j.endpoint() != apiServer {
					t.Errorf("nodes go to %s, and are to reach %s first", c.Config.NodeEndpoint(), j.endpoint())
				}
			}},
		{"kubeadm made it, for an endpoint", "", func(t *testing.T, n *network) {
			n.server.Remove(myadmConfig)
			n.kubeadmSays(t, "controlPlaneEndpoint: lb.example:443\n")
		}, func(*config.Cluster) {}, []string{"cp-2"}, func(t *testing.T, c *cluster.Cluster, j *Joining) {
			if got := c.Config.Spec.LoadBalancer.Type; got != config.LoadBalancerExternal || c.Config.NodeEndpoint() != "lb.example:443" || j.endpoint() != "lb.example:443" {
				t.Errorf("it is %q; nodes go to %s, and are to reach %s", got, c.Config.NodeEndpoint(), j.endpoint())
			}
		}},
		{"a second control plane comes, for an endpoint that the cluster does not know", "", nil, func(cfg *config.Cluster) {
			cfg.Spec.ControlPlaneEndpoint, cfg.Spec.LoadBalancer.Type = "lb.example:443", config.LoadBalancerExternal
		}, []string{"cp-2"}, func(t *testing.T, c *cluster.Cluster, _ *Joining) {
			if c.Config.NodeEndpoint() != "127.0.0.1:6444" {
				t.Errorf("nodes go to %s", c.Config.NodeEndpoint())
			}
		}},
		{"it has a virtual IP", config.LoadBalancerKeepalived, nil, func(*config.Cluster) {}, []string{"cp-2"},
			func(t *testing.T, c *cluster.Cluster, j *Joining) {
				if c.Config.NodeEndpoint() != "10.0.0.100:6444" || j.endpoint() != "10.0.0.100:6444" {
					t.Errorf("nodes go to %s, and are to reach %s", c.Config.NodeEndpoint(), j.endpoint())
				}
			}},
		{"kubeadm made it, and without one", "", func(t *testing.T, n *network) {
			n.server.Remove(myadmConfig)
			n.kubeadmSays(t, "controlPlaneEndpoint: \"\"\n")
		},
			func(*config.Cluster) {}, []string{"cp-2"}, func(t *testing.T, c *cluster.Cluster, _ *Joining) {
				if got := c.Config.Spec.LoadBalancer; got.Type != config.LoadBalancerNodeLocal || c.Config.NodeEndpoint() != "127.0.0.1:6444" {
					t.Errorf("it is %+v; nodes go to %s", got, c.Config.NodeEndpoint())
				}
			}},
		{"control planes that the document does not name", "", func(t *testing.T, n *network) {
			n.knows(t, "10.0.0.1:6443,10.0.0.7:6443")
		}, func(*config.Cluster) {}, []string{"w-1"}, func(t *testing.T, c *cluster.Cluster, _ *Joining) {
			want := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:6443"), netip.MustParseAddrPort("10.0.0.7:6443")}
			if got := c.APIServers(); !slices.Equal(got, want) {
				t.Errorf("its API servers are %v", got)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newRealm(t, tt.cluster, nil, tt.joiners...)
			if tt.arrange != nil {
				tt.arrange(t, n)
			}
			tt.wanted(n.cluster.Config)
			j, err := Prepare(t.Context(), n.cluster, n.present(n.cluster), n.joiners, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !j.signs || !j.administers {
				t.Errorf("certificates are signed: %t, by an administrator: %t", j.signs, j.administers)
			}
			tt.want(t, n.cluster, j)
		})
	}
}

// kubeadmSays adds lines to kubeadm's configuration of the cluster.
func (n *network) kubeadmSays(t *testing.T, lines string) {
	t.Helper()
	ref := kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kubeadm-config"}
	cm, err := kube.Get[corev1.ConfigMap](t.Context(), n.server.Client(t, kube.Options{}), ref)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(cm.Data["ClusterConfiguration"]) {
		if key, _, _ := strings.Cut(lines, ":"); !strings.HasPrefix(line, key+":") {
			kept = append(kept, line)
		}
	}
	cm.Data["ClusterConfiguration"] = strings.Join(kept, "") + lines
	n.server.Put(t, cm)
}

// knows sets the API servers that the cluster knows of.
func (n *network) knows(t *testing.T, servers string) {
	t.Helper()
	cm, err := kube.Get[corev1.ConfigMap](t.Context(), n.server.Client(t, kube.Options{}), myadmConfig)
	if err != nil {
		t.Fatal(err)
	}
	cm.Data["apiServers"] = servers
	n.server.Put(t, cm)
}

// kube-proxy keeps the configuration that it has when its endpoint moves.
func TestPrepareLearnsOfKubeProxy(t *testing.T) {
	ref := kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kube-proxy"}
	for _, tt := range []struct {
		name    string
		arrange func(t *testing.T, n *network)
		want    map[string]any // parts of it; nil: none
		err     string
	}{
		{"as it is", func(*testing.T, *network) {}, map[string]any{"kind": "KubeProxyConfiguration"}, ""},
		{"the cluster goes without", func(_ *testing.T, n *network) { n.server.Remove(ref) }, nil, ""},
		{"nobody can read it", func(t *testing.T, n *network) {
			cm, err := kube.Get[corev1.ConfigMap](t.Context(), n.server.Client(t, kube.Options{}), ref)
			if err != nil {
				t.Fatal(err)
			}
			cm.Data["config.conf"] = "["
			n.server.Put(t, cm)
		}, nil, "ConfigMap kube-system/kube-proxy: key config.conf holds no KubeProxyConfiguration; hint: myadm init phase addons"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newRealm(t, "", nil, "cp-2")
			tt.arrange(t, n)
			_, err := Prepare(t.Context(), n.cluster, n.present(n.cluster), n.joiners, Options{})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := n.cluster.Config.Spec.KubeProxy
			for key, value := range tt.want {
				if got[key] != value {
					t.Errorf("%s is %v, want %v", key, got[key], value)
				}
			}
			if (len(got) == 0) != (tt.want == nil) {
				t.Errorf("its configuration is %v", got)
			}
		})
	}
}

// A cluster that is being made of the document needs nobody to be asked.
func TestFresh(t *testing.T) {
	n := newRealm(t, config.LoadBalancerNodeLocal, nil, "cp-2")
	j := Fresh(n.cluster, n.cluster.Nodes[0])
	shared, err := j.pki(t.Context())
	if err != nil || len(shared[caKey]) == 0 || !j.signs || !j.administers || j.token != nil {
		t.Errorf("%d files, signs %t, administers %t, %v", len(shared), j.signs, j.administers, err)
	}
	want, err := phases.KubeletConfig(n.cluster)()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := j.kubelet(); err != nil || string(got) != string(want) {
		t.Errorf("kubelets go by\n%s\n%v", got, err)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A worker that has asked for its certificate at a control plane goes through its own load balancer from then on.
func TestNodeReadyMovesAKubeletToItsEndpoint(t *testing.T) {
	n := newNetwork(t, "w-1")
	n.cluster.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	w, f := n.joiners[0], n.fakes["w-1"]
	n.joined("w-1")
	f.OnPrefix("sh", "-c") // the waits for files
	restart := f.On("systemctl", "restart", "kubelet.service").Changes()
	n.server.Put(t, readyNode("w-1", corev1.ConditionTrue, testNow))
	j, _ := joining(t, n)
	p := NodeReady(n.cluster, n.joiners, j, time.Minute)
	if diff := cmp.Diff([]string{"update " + config.KubeletConf}, check(t, p, w)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run(t, p)
	file, _ := f.Get(config.KubeletConf)
	if !strings.Contains(string(file.Data), "server: "+balancer) || !strings.Contains(string(file.Data), config.KubeletClientCert) || file.Mode != 0o600 {
		t.Errorf("mode %04o\n%s", file.Mode, file.Data)
	}
	if restart.Calls() != 1 {
		t.Errorf("the kubelet was restarted %d times", restart.Calls())
	}
	settled(t, p, f)
	// A control plane's kubelet goes elsewhere, and where there is none in between, so does a worker's.
	n.cluster.Config.Spec.LoadBalancer.Type = ""
	n.joined("w-1")
	settled(t, p, f)
}
