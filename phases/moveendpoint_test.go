package phases

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/workflow"
)

func inSystem(name string) kube.Ref {
	return kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: name}
}

// grown is a cluster that began with one control plane and no load balancer, and is to get some, as join finds it.
func grown(t testing.TB) (*cluster.Cluster, *kubetest.Server) {
	c, s := withAPI(t)
	c.Config.Spec.KubeProxy = map[string]any{"mode": "nftables"}
	run(t, UploadConfig(c), Addons(c), Network(c))
	c.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	c.Config.Spec.Hosts = append(c.Config.Spec.Hosts, config.Host{Name: "cp-2", AdvertiseAddress: "10.0.0.2", Roles: []config.Role{config.RoleControlPlane}})
	return c, s
}

func configData(t *testing.T, s *kubetest.Server, name, key string) string {
	t.Helper()
	cm, err := kube.Get[corev1.ConfigMap](t.Context(), s.Client(t, kube.Options{}), inSystem(name))
	if err != nil {
		t.Fatal(err)
	}
	return cm.Data[key]
}

// When a second control plane comes, what runs in the cluster goes through the load balancers, and is started anew for it.
// What others have written stays.
func TestMoveEndpoint(t *testing.T) {
	c, s := grown(t)
	cm := s.Object(inSystem("kubeadm-config"))
	text := configData(t, s, "kubeadm-config", "ClusterConfiguration")
	set(t, cm, text+"featureGates:\n  Own: true\n", "data", "ClusterConfiguration")
	s.Put(t, cm)
	hash := func() string {
		ds, err := kube.Get[appsv1.DaemonSet](t.Context(), s.Client(t, kube.Options{}), kube.Ref{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "kube-system", Name: "kube-proxy"})
		if err != nil {
			t.Fatal(err)
		}
		return ds.Spec.Template.Annotations[manifests.ConfigHash]
	}
	before := hash()
	p := MoveEndpoint(c)
	todo, err := p.Check(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var objects []string
	for _, change := range todo {
		objects = append(objects, string(change.Action)+" "+change.Object)
	}
	want := []string{
		"update ConfigMap kube-system/kubeadm-config", "update ConfigMap kube-system/kube-proxy",
		"update DaemonSet kube-system/kube-proxy", "update DaemonSet kube-flannel/kube-flannel-ds",
	}
	if diff := cmp.Diff(want, objects); diff != "" {
		t.Errorf("to do (-want +got):\n%s", diff)
	}
	run(t, p)
	if conf := configData(t, s, "kube-proxy", "kubeconfig.conf"); !strings.Contains(conf, "server: https://127.0.0.1:6444\n") {
		t.Errorf("kube-proxy's kubeconfig is\n%s", conf)
	}
	if conf := configData(t, s, "kube-proxy", "config.conf"); !strings.Contains(conf, "mode: nftables") {
		t.Errorf("kube-proxy's configuration is\n%s", conf)
	}
	if hash() == before {
		t.Error("kube-proxy's pods keep the endpoint that they were started with")
	}
	kubeadm := configData(t, s, "kubeadm-config", "ClusterConfiguration")
	for _, part := range []string{"Own: true", "- 127.0.0.1\n", "value: none"} {
		if !strings.Contains(kubeadm, part) {
			t.Errorf("kubeadm's configuration lacks %q:\n%s", part, kubeadm)
		}
	}
	version := s.Version()
	if summary := run(t, p); summary.Changes != 0 || s.Version() != version {
		t.Errorf("running it again makes %d changes", summary.Changes)
	}
}

func TestMoveEndpointToAVirtualIP(t *testing.T) {
	c, s := grown(t)
	if _, err := c.Kube(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Config.Spec.LoadBalancer = config.LoadBalancer{Type: config.LoadBalancerKeepalived, VirtualIP: "10.0.0.100", Port: 6444, RouterID: 51}
	run(t, MoveEndpoint(c))
	if conf := configData(t, s, "kube-proxy", "kubeconfig.conf"); !strings.Contains(conf, "server: https://10.0.0.100:6444\n") {
		t.Errorf("kube-proxy's kubeconfig is\n%s", conf)
	}
	if conf := configData(t, s, "kubeadm-config", "ClusterConfiguration"); !strings.Contains(conf, "controlPlaneEndpoint: 10.0.0.100:6444\n") {
		t.Errorf("kubeadm's configuration is\n%s", conf)
	}
}

func TestMoveEndpointLeavesAlone(t *testing.T) {
	for _, tt := range []struct {
		name    string
		arrange func(c *cluster.Cluster)
		never   string // an object that is not touched
	}{
		{"a network of the user's", func(c *cluster.Cluster) { c.Config.Spec.Networking.Plugin = config.PluginNone }, "kube-flannel"},
		{"a cluster without kube-proxy", func(c *cluster.Cluster) { c.Config.Spec.KubeProxy = nil }, "kube-proxy"},
		{"an endpoint of somebody else's", func(c *cluster.Cluster) { c.Config.Spec.LoadBalancer.Type = config.LoadBalancerExternal }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := grown(t)
			if _, err := c.Kube(t.Context()); err != nil {
				t.Fatal(err)
			}
			tt.arrange(c)
			todo, err := MoveEndpoint(c).Check(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, change := range todo {
				if strings.Contains(change.Object, tt.never) {
					t.Errorf("to do: %+v", change)
				}
			}
			if tt.never != "" && len(todo) == 0 {
				t.Error("nothing is to do at all")
			}
		})
	}
}

func TestMoveEndpointWithoutKubeadmsConfiguration(t *testing.T) {
	c, s := grown(t)
	cm := s.Object(inSystem("kubeadm-config"))
	set(t, cm, "[", "data", "ClusterConfiguration")
	s.Put(t, cm)
	if _, err := MoveEndpoint(c).Check(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "ConfigMap kube-system/kubeadm-config: ") {
		t.Errorf("got %v", err)
	}
	s.Remove(inSystem("kubeadm-config"))
	if _, err := MoveEndpoint(c).Check(t.Context(), nil); !kube.NotFound(err) {
		t.Errorf("got %v", err)
	}
}

// apiServer is the API server of a machine, which its kubelet runs by the static pod that was there when it was started.
type apiServer struct {
	m *machine

	mu      sync.Mutex
	command string // of the process; empty: none runs
	starts  int
	ill     bool
	log     []string // what happened, in order
}

// serveAPI makes a machine a control plane with an API server that was started without the node-local load balancer.
func serveAPI(t testing.TB, c *cluster.Cluster, n *cluster.Node) *apiServer {
	m := n.Host.(*machine)
	a := &apiServer{m: m}
	balancer := c.Config.Spec.LoadBalancer
	c.Config.Spec.LoadBalancer.Type = ""
	run(t, Binaries(c, one(n)), ControlPlane(c, one(n)), testKubelet(c, n))
	c.Config.Spec.LoadBalancer = balancer
	a.start()
	m.On("sh", "-c", staticpod.ArgumentsScript, "sh", "kube-apiserver").Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return []byte(a.command), nil
	})
	m.OnPrefix("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--unit="+staticpod.Unit, "sh", endpointDir+"/exchange.sh", "kube-apiserver", "", "", "", "no").
		Changes().Do(func(f *hosttest.Fake, cmd host.Cmd) ([]byte, error) {
		a.exchange(f, cmd.Argv[13:])
		return nil, nil
	})
	front := httptest.NewTLSServer(http.HandlerFunc(a.health))
	t.Cleanup(front.Close)
	m.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != net.JoinHostPort(n.Spec.AdvertiseAddress, "6443") {
			return nil, errors.New("connection refused")
		}
		return new(net.Dialer).DialContext(ctx, network, front.Listener.Addr().String())
	})
	return a
}

func (a *apiServer) note(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, what)
}

// start is what the kubelet does at its start: what runs already is left alone.
func (a *apiServer) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.command != "" {
		return
	}
	file, _ := a.m.Get(manifests.StaticPodPath(manifests.APIServerName))
	a.command, a.starts = "kube-apiserver", a.starts+1
	for line := range strings.Lines(string(file.Data)) {
		if flag, ok := strings.CutPrefix(strings.TrimSpace(line), "- --"); ok {
			a.command += " --" + flag
		}
	}
	a.command += "\n"
}

// exchange does what a staticpod.Exchange of the API server does: the process ends, files take their places, and a kubelet
// that starts runs what is there then.
func (a *apiServer) exchange(f *hosttest.Fake, moves []string) {
	a.note("exchange")
	for ; len(moves) > 0; moves = moves[3:] {
		from, _ := f.Get(moves[0])
		f.Delete(moves[0])
		f.Put(host.File{Path: moves[1], Mode: from.Mode, Data: from.Data})
	}
	a.mu.Lock()
	a.command = ""
	a.mu.Unlock()
	a.start()
}

func (a *apiServer) health(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ill || a.command == "" || r.URL.Path != "/readyz" {
		http.Error(w, "not ready", http.StatusInternalServerError)
	}
}

// flagged is a cluster of control planes that began without load balancers of their own, and EndpointFlag for them.
func flagged(t testing.TB, names ...string) (*cluster.Cluster, []*apiServer, workflow.Phase) {
	c, _ := testCluster(t, names...)
	c.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	var servers []*apiServer
	for _, n := range c.Nodes {
		servers = append(servers, serveAPI(t, c, n))
	}
	return c, servers, EndpointFlag(c, c.Nodes, time.Minute)
}

func (a *apiServer) hasFlag() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(strings.Fields(a.command), manifests.EndpointFlag)
}

// Each API server is started anew once, the fast way, and only when the one before is ready.
func TestEndpointFlag(t *testing.T) {
	c, servers, p := flagged(t, "cp-1", "cp-2")
	path := manifests.StaticPodPath(manifests.APIServerName)
	if diff := cmp.Diff([]string{"update " + path}, check(t, p, c.Nodes[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	before := content(t, servers[0].m, path)
	if p.Parallel != 1 {
		t.Errorf("%d API servers are down at a time", p.Parallel)
	}
	run(t, p)
	for i, a := range servers {
		if want := []string{"exchange"}; !slices.Equal(a.log, want) || a.starts != 2 || !a.hasFlag() {
			t.Errorf("%s: %q, %d starts, and it runs as\n%s", a.m.Name(), a.log, a.starts, a.command)
		}
		if file, _ := a.m.Get(path); file.Mode != 0o600 {
			t.Errorf("the static pod has mode %04o", file.Mode)
		}
		if left := a.m.Paths(endpointDir); len(left) > 0 {
			t.Errorf("%s keeps %q", a.m.Name(), left)
		}
		settled(t, p, c.Nodes[i])
		// It is what the phase control-plane wants of such a cluster.
		if todo := check(t, ControlPlane(c, c.Nodes), c.Nodes[i]); len(todo) > 0 {
			t.Errorf("%s: %q", a.m.Name(), todo)
		}
	}
	if string(before) == string(content(t, servers[0].m, path)) {
		t.Error("the static pod is what it was")
	}
}

func TestEndpointFlagGoesOnAfterACut(t *testing.T) {
	for cut := 0; ; cut++ {
		c, servers, p := flagged(t, "cp-1")
		m := servers[0].m
		m.left = cut
		_, err := new(workflow.Runner).Run(t.Context(), p)
		m.left = -1
		if err == nil {
			if cut < 4 {
				t.Errorf("only %d things are done", cut)
			}
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("cut after %d: %v", cut, err)
		}
		run(t, p)
		if !servers[0].hasFlag() || servers[0].starts != 2 || !m.units.Active("kubelet") {
			t.Errorf("cut after %d: %d starts, and it runs as %s", cut, servers[0].starts, servers[0].command)
		}
		settled(t, p, c.Nodes[0])
	}
}

func TestEndpointFlagOfAnAPIServerThatStaysDown(t *testing.T) {
	c, servers, _ := flagged(t, "cp-1")
	servers[0].ill = true
	servers[0].m.On("sh", "-c", lastWordsScript, "sh", "kube-apiserver").Return("unknown flag\n")
	_, err := new(workflow.Runner).Run(t.Context(), EndpointFlag(c, c.Nodes, 300*time.Millisecond))
	for _, part := range []string{"cp-1: endpoint-flag: kube-apiserver: ", "last log lines:\nunknown flag"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not hold %q", err, part)
		}
	}
}

// Only the node-local load balancer takes the endpoints over.
func TestEndpointFlagIsForTheNodeLocalLoadBalancer(t *testing.T) {
	for _, balancer := range []string{"", config.LoadBalancerExternal, config.LoadBalancerKeepalived} {
		c, _, p := flagged(t, "cp-1")
		c.Config.Spec.LoadBalancer.Type = balancer
		settled(t, p, c.Nodes[0])
	}
}
