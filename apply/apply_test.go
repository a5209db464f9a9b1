package apply

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
)

// document is a cluster of hosts that are open, of which those whose names begin with cp- are control planes.
func document(t testing.TB, names ...string) (*cluster.Cluster, []*hosttest.Fake) {
	t.Helper()
	cfg := &config.Cluster{Spec: config.Spec{KubernetesVersion: "v1.37.2"}}
	for i, name := range names {
		h := config.Host{Name: name, AdvertiseAddress: fmt.Sprintf("10.0.0.%d", i+1)}
		if strings.HasPrefix(name, "cp-") {
			h.Roles = []config.Role{config.RoleControlPlane}
		}
		cfg.Spec.Hosts = append(cfg.Spec.Hosts, h)
	}
	config.SetDefaults(cfg)
	c := &cluster.Cluster{Config: cfg, Now: time.Now, Rand: rand.Reader, Version: "test"}
	var fakes []*hosttest.Fake
	for _, h := range cfg.Spec.Hosts {
		f := hosttest.New(t, h.Name)
		fakes = append(fakes, f)
		c.Nodes = append(c.Nodes, &cluster.Node{Host: f, Spec: h, Facts: cluster.Facts{Hostname: h.Name, Arch: "amd64"}})
	}
	return c, fakes
}

func put(f *hosttest.Fake, path, data string) {
	f.Put(host.File{Path: path, Mode: 0o600, Data: []byte(data)})
}

// member makes a host a control plane that is in its cluster.
func member(f *hosttest.Fake) {
	for _, component := range []string{manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName} {
		put(f, manifests.StaticPodPath(component), "pod")
	}
	put(f, config.KubeletConf, "kubeconfig")
}

func TestFounder(t *testing.T) {
	for _, tt := range []struct {
		name    string
		arrange func(c *cluster.Cluster, fakes []*hosttest.Fake)
		want    string // empty: refused
	}{
		{"there is no cluster", func(*cluster.Cluster, []*hosttest.Fake) {}, "cp-1"},
		{"one is in it, and the first is new", func(_ *cluster.Cluster, fakes []*hosttest.Fake) { member(fakes[2]) }, "cp-3"},
		{"two are in it", func(_ *cluster.Cluster, fakes []*hosttest.Fake) { member(fakes[1]); member(fakes[2]) }, "cp-2"},
		{"an earlier run began with another", func(_ *cluster.Cluster, fakes []*hosttest.Fake) {
			put(fakes[1], config.SuperAdminConf, "kubeconfig")
		}, "cp-2"},
		{"a join was cut", func(_ *cluster.Cluster, fakes []*hosttest.Fake) { put(fakes[1], config.AdminConf, "kubeconfig") }, "cp-1"},
		{"one was not reached, and none of the others is in a cluster", func(c *cluster.Cluster, _ []*hosttest.Fake) {
			c.Nodes = c.Nodes[1:]
		}, ""},
		{"one was not reached, and another is in the cluster", func(c *cluster.Cluster, fakes []*hosttest.Fake) {
			c.Nodes = c.Nodes[1:]
			member(fakes[2])
		}, "cp-3"},
		{"a worker was not reached", func(c *cluster.Cluster, _ []*hosttest.Fake) { c.Nodes = c.Nodes[:3] }, "cp-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, fakes := document(t, "cp-1", "cp-2", "cp-3", "w-1")
			tt.arrange(c, fakes)
			n, err := Founder(t.Context(), c)
			if tt.want == "" {
				if err == nil || !strings.Contains(err.Error(), "one that was not reached may be; hint: start it, or take it out of the document") {
					t.Errorf("got %v, %v", n, err)
				}
				return
			}
			if err != nil || n.Spec.Name != tt.want {
				t.Errorf("got %v, %v, want %s", n, err, tt.want)
			}
		})
	}
	c, fakes := document(t, "cp-1", "cp-2")
	gone := errors.New("gone")
	fakes[1].Lose(gone)
	if _, err := Founder(t.Context(), c); !errors.Is(err, gone) {
		t.Errorf("of a host that is lost: %v", err)
	}
}

func TestCheckVersion(t *testing.T) {
	pod := func(image string) string {
		return "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: " + image + "\n"
	}
	for _, tt := range []struct {
		name, manifest string
		want           string // a part of the error; empty: none
	}{
		{"there is none yet", "", ""},
		{"the document's", pod("registry.k8s.io/kube-apiserver:v1.37.2"), ""},
		{"another", pod("registry.k8s.io/kube-apiserver:v1.36.3"), "the cluster runs registry.k8s.io/kube-apiserver:v1.36.3, and the document wants registry.k8s.io/kube-apiserver:v1.37.2; hint: "},
		{"not a pod", "[", "cp-1: " + manifests.StaticPodPath(manifests.APIServerName) + " is no pod; hint: remove it"},
		{"a pod without a container", "kind: Pod\n", " is no pod; hint: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, fakes := document(t, "cp-1")
			if tt.manifest != "" {
				put(fakes[0], manifests.StaticPodPath(manifests.APIServerName), tt.manifest)
			}
			err := CheckVersion(t.Context(), c, c.Nodes[0])
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// adminConf is a kubeconfig for a server.
func adminConf(server string) string {
	return "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: \"" + server + "\"}}]\nusers: [{name: a, user: {}}]\n" +
		"contexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\n"
}

func TestLearn(t *testing.T) {
	const known = "10.0.0.1:6443,10.0.0.7:6443"
	refuse := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
	for _, tt := range []struct {
		name    string
		servers string // as the cluster has them; empty: it has nothing of ours
		arrange func(f *hosttest.Fake)
		want    []string
		err     string
	}{
		{"a cluster that has more control planes than the document", known, func(*hosttest.Fake) {}, []string{"10.0.0.1:6443", "10.0.0.7:6443"}, ""},
		{"one that myadm has not made", "", func(*hosttest.Fake) {}, []string{"10.0.0.1:6443"}, ""},
		{"one that is down", known, func(f *hosttest.Fake) { f.OnDial(refuse) }, []string{"10.0.0.1:6443"}, ""},
		{"one that is down, with a load balancer on its hosts", known, func(f *hosttest.Fake) {
			f.OnDial(refuse)
			put(f, manifests.StaticPodPath(manifests.HAProxyName), "pod")
		}, nil, "cp-1: /etc/kubernetes/manifests/haproxy.yaml is there, so that the cluster may have a load balancer of which the document says nothing"},
		{"one that is down, behind somebody's load balancer", known, func(f *hosttest.Fake) {
			f.OnDial(refuse)
			put(f, config.AdminConf, adminConf("https://api.example.org:6443"))
		}, nil, "cp-1: /etc/kubernetes/admin.conf does not lead to its own API server"},
		{"one that is down, and stands alone", known, func(f *hosttest.Fake) {
			f.OnDial(refuse)
			put(f, config.AdminConf, adminConf("https://10.0.0.1:6443"))
		}, []string{"10.0.0.1:6443"}, ""},
		{"one that is down, of which somebody has edited a kubeconfig", known, func(f *hosttest.Fake) {
			f.OnDial(refuse)
			put(f, config.AdminConf, "[")
		}, []string{"10.0.0.1:6443"}, ""},
		{"none", known, func(f *hosttest.Fake) { f.Delete(config.SuperAdminConf) }, []string{"10.0.0.1:6443"}, ""},
		{"what nobody can read", "here", func(*hosttest.Fake) {}, nil, "ConfigMap kube-system/myadm-config: key apiServers: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, fakes := document(t, "cp-1")
			server := kubetest.NewServer(t)
			put(fakes[0], config.SuperAdminConf, string(server.Kubeconfig()))
			fakes[0].OnDial(new(net.Dialer).DialContext)
			if tt.servers != "" {
				server.Put(t, &corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "myadm-config"}, Data: map[string]string{"apiServers": tt.servers},
				})
			}
			tt.arrange(fakes[0])
			err := Learn(t.Context(), c)
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			var got []string
			for _, at := range c.APIServers() {
				got = append(got, at.String())
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	c, fakes := document(t, "cp-1")
	gone := errors.New("gone")
	fakes[0].Lose(gone)
	if err := Learn(t.Context(), c); !errors.Is(err, gone) {
		t.Errorf("of a host that is lost: %v", err)
	}
}

// What others share is made before they ask for it, and each host goes one way: the founder's, or that of those who join.
func TestStepsPartTheHosts(t *testing.T) {
	c, _ := document(t, "cp-1", "cp-2", "w-1")
	founder := c.Nodes[1]
	on := map[string][]string{} // phases, and their hosts in order
	var order []string
	for _, s := range Steps(c, &State{Founder: founder, Arriving: c.Nodes}, Options{Patience: time.Minute}) {
		for _, p := range s.Phases() {
			order = append(order, p.Name)
			for _, h := range p.Hosts {
				on[p.Name] = append(on[p.Name], h.Name())
			}
		}
	}
	for phase, want := range map[string][]string{
		"preflight":          {"cp-1", "cp-2", "w-1"},
		"certs":              {"cp-2", "cp-1"},
		"runtime":            {"cp-2", "cp-1", "w-1"},
		"load-balancer":      {"cp-2", "cp-1", "w-1"},
		"etcd":               {"cp-2"},
		"etcd-join":          {"cp-1"},
		"control-plane":      {"cp-2", "cp-1"},
		"credentials":        {"cp-1", "w-1"},
		"kubelet":            {"cp-2", "cp-1", "w-1"},
		"wait-control-plane": {"cp-2", "cp-1"},
		"mark-nodes":         {"cp-2", "cp-1", "w-1"},
		"kubelet-finalize":   {"cp-2", "cp-1", "w-1"},
		"external-etcd":      nil,
		"tls-bootstrap":      nil,
	} {
		if got := on[phase]; !slices.Equal(got, want) {
			t.Errorf("%s is on %q, want %q", phase, got, want)
		}
	}
	if first := slices.Index(order, "certs"); first < 0 || slices.Index(order, "kubeconfigs") < first || slices.Index(order, "runtime") < first {
		t.Errorf("the order is %q", order)
	}
}
