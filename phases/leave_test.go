package phases

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// realm is a cluster that hosts can leave: its machines and its API, which all control planes reach.
type realm struct {
	*cluster.Cluster
	machines []*machine
	api      *kubetest.Server
}

func nodeAt(name, address string) *corev1.Node {
	return &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}}},
	}
}

// newRealm makes a cluster of hosts with the node-local load balancer. Those whose name begins with cp- are control planes;
// their etcd is external.
func newRealm(t testing.TB, names ...string) *realm {
	t.Helper()
	c, machines := testCluster(t, names...)
	c.Rand = rand.Reader
	c.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	run(t, Certs(c, c.Nodes[0]))
	c.Config.Spec.Etcd.External = &config.ExternalEtcd{Endpoints: []string{"https://etcd.example:2379"}}
	r := &realm{c, machines, kubetest.NewServer(t)}
	for i, n := range c.Nodes {
		if strings.HasPrefix(n.Spec.Name, "cp-") {
			n.Spec.Roles = []config.Role{config.RoleControlPlane}
			machines[i].touch(config.AdminConf, 0o600, string(r.api.Kubeconfig()))
			machines[i].touch(manifests.StaticPodPath(manifests.APIServerName), 0o600, "")
		}
		c.Config.Spec.Hosts[i] = n.Spec
		r.api.Put(t, nodeAt(n.Spec.Name, n.Spec.AdvertiseAddress))
		m := machines[i]
		m.balance()
		m.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == net.JoinHostPort("127.0.0.1", "6445") {
				return m.balancer.dial(ctx, network, address)
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		})
	}
	run(t, UploadConfig(c), BootstrapToken(c, c.Nodes[0], time.Hour), Endpoint(c), LoadBalancer(c, c.Nodes))
	for _, m := range machines {
		m.balancer.start()
		m.ResetRecord()
	}
	r.Cluster = &cluster.Cluster{Config: c.Config, Nodes: c.Nodes, Bundle: c.Bundle, Now: c.Now, Rand: c.Rand} // which knows no client yet
	return r
}

// lose makes hosts unknown to the run: those that did not answer, or were not asked.
func (r *realm) lose(missing bool, names ...string) []config.Host {
	var lost []config.Host
	r.Nodes = slices.DeleteFunc(slices.Clone(r.Nodes), func(n *cluster.Node) bool {
		if !slices.Contains(names, n.Spec.Name) {
			return false
		}
		lost = append(lost, n.Spec)
		if missing {
			r.Missing = append(r.Missing, cluster.Missing{Spec: n.Spec, Err: fmt.Errorf("%s: no route to host; hint: look at it", n.Spec.Name)})
		}
		return true
	})
	return lost
}

func (r *realm) specs(names ...string) []config.Host {
	var specs []config.Host
	for _, n := range r.Nodes {
		if slices.Contains(names, n.Spec.Name) {
			specs = append(specs, n.Spec)
		}
	}
	return specs
}

func (r *realm) leave(t testing.TB, leaving []config.Host, force bool) *Leave {
	t.Helper()
	l, err := NewLeave(t.Context(), r.Cluster, leaving, force)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// get is an object of the API, which must be there.
func get[T any](t testing.TB, s *kubetest.Server, ref kube.Ref) *T {
	t.Helper()
	u := s.Object(ref)
	if u == nil {
		t.Fatalf("%s is not there", ref)
	}
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed); err != nil {
		t.Fatal(err)
	}
	return typed
}

func configMapRef(namespace, name string) kube.Ref {
	return kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: namespace, Name: name}
}

// told is what the API says of where it is, and of who is in the cluster.
func (r *realm) told(t testing.TB) map[string]string {
	t.Helper()
	told := map[string]string{}
	for _, line := range strings.Split(get[corev1.ConfigMap](t, r.api, configMapRef("kube-system", "kubeadm-config")).Data["ClusterConfiguration"], "\n") {
		if endpoint, ok := strings.CutPrefix(line, "controlPlaneEndpoint: "); ok {
			told["kubeadm-config"] = endpoint
		}
	}
	for _, line := range strings.Split(get[corev1.ConfigMap](t, r.api, configMapRef("kube-public", "cluster-info")).Data["kubeconfig"], "\n") {
		if server, ok := strings.CutPrefix(strings.TrimSpace(line), "server: https://"); ok {
			told["cluster-info"] = server
		}
	}
	told["myadm-config"] = get[corev1.ConfigMap](t, r.api, configMapRef("kube-system", "myadm-config")).Data["apiServers"]
	var addresses []string
	for _, subset := range get[corev1.Endpoints](t, r.api, kube.Ref{APIVersion: "v1", Kind: "Endpoints", Namespace: "default", Name: "kubernetes"}).Subsets { //nolint:staticcheck // it is kept up as in other clusters
		for _, a := range subset.Addresses {
			addresses = append(addresses, a.IP)
		}
	}
	told["API servers"] = strings.Join(addresses, " ")
	var nodes []string
	for _, e := range get[discoveryv1.EndpointSlice](t, r.api, kube.Ref{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice", Namespace: "default", Name: "kubernetes"}).Endpoints {
		nodes = append(nodes, *e.NodeName)
	}
	told["load balancers"] = strings.Join(nodes, " ")
	nodes = nil
	for _, m := range r.machines {
		if r.api.Object(nodeRef(m.Name())) != nil {
			nodes = append(nodes, m.Name())
		}
	}
	told["nodes"] = strings.Join(nodes, " ")
	return told
}

// asks is whom the HAProxy of a machine goes on asking.
func asks(m *machine) []string {
	var servers []string
	for line := range strings.Lines(string(m.balancer.loaded)) {
		for _, field := range strings.Fields(line) {
			if at, err := netip.ParseAddrPort(field); err == nil && strings.HasPrefix(strings.TrimSpace(line), "server ") {
				servers = append(servers, at.Addr().String())
			}
		}
	}
	return servers
}

// The first control plane is where the cluster is found, and nothing of it may be left when it goes.
func TestControlPlaneLeaves(t *testing.T) {
	r := newRealm(t, "cp-1", "cp-2", "cp-3", "w-1")
	ca := get[corev1.ConfigMap](t, r.api, configMapRef("kube-public", "cluster-info")).Data["kubeconfig"]
	if got := r.told(t)["cluster-info"]; got != "10.0.0.1:6443" {
		t.Fatalf("the cluster is found at %s, so the test proves nothing", got)
	}
	l := r.leave(t, r.specs("cp-1"), false)
	run(t, l.Steps()...)
	want := map[string]string{
		"kubeadm-config": "10.0.0.2:6443",
		"cluster-info":   "10.0.0.2:6443",
		"myadm-config":   "10.0.0.2:6443,10.0.0.3:6443",
		"API servers":    "10.0.0.2 10.0.0.3",
		"load balancers": "cp-2 cp-3 w-1",
		"nodes":          "cp-2 cp-3 w-1",
	}
	if diff := cmp.Diff(want, r.told(t)); diff != "" {
		t.Errorf("the cluster (-want +got):\n%s", diff)
	}
	now := get[corev1.ConfigMap](t, r.api, configMapRef("kube-public", "cluster-info")).Data["kubeconfig"]
	if now != strings.Replace(ca, "10.0.0.1", "10.0.0.2", 1) {
		t.Errorf("cluster-info is another in more than its server: %s", now)
	}
	for _, m := range r.machines[1:] {
		if got := asks(m); !slices.Equal(got, []string{"10.0.0.2", "10.0.0.3"}) {
			t.Errorf("%s asks %q", m.Name(), got)
		}
		if writes := m.Writes(); !slices.Equal(writes, []string{manifests.HAProxyConfigPath}) || len(m.Removed()) > 0 {
			t.Errorf("%s: wrote %q, removed %q", m.Name(), writes, m.Removed())
		}
	}
	if left := r.machines[0].Paths(config.KubernetesDir); len(left) > 0 {
		t.Errorf("the host keeps %q", left)
	}
	if len(l.Warnings) > 0 {
		t.Errorf("warnings %q", l.Warnings)
	}

	version := r.api.Version()
	if summary := run(t, r.leave(t, r.Leaving, false).Steps()...); summary.Changes != 0 || r.api.Version() != version {
		t.Errorf("once more makes %d changes", summary.Changes)
	}
}

// Of a host that is gone, the document may know only a name and an address that nobody in the cluster uses.
func TestControlPlaneThatIsGoneLeaves(t *testing.T) {
	for name, forget := range map[string]func(h *config.Host){
		"known by its address":            func(h *config.Host) { h.AdvertiseAddress = "" },
		"known by its name":               func(h *config.Host) { h.AdvertiseAddress, h.Address = "", "cp-1.example" },
		"reached at an address elsewhere": func(h *config.Host) { h.AdvertiseAddress, h.Address = "", "203.0.113.7" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRealm(t, "cp-1", "cp-2", "w-1")
			gone := r.lose(false, "cp-1")
			forget(&gone[0])
			r.Config.Spec.Hosts[0] = gone[0]
			r.machines[0].Lose(errors.New("it was asked"))
			run(t, r.leave(t, gone, false).Steps()...)
			want := map[string]string{
				"kubeadm-config": "10.0.0.2:6443", "cluster-info": "10.0.0.2:6443", "myadm-config": "10.0.0.2:6443",
				"API servers": "10.0.0.2", "load balancers": "cp-2 w-1", "nodes": "cp-2 w-1",
			}
			if diff := cmp.Diff(want, r.told(t)); diff != "" {
				t.Errorf("the cluster (-want +got):\n%s", diff)
			}
			if got := asks(r.machines[2]); !slices.Equal(got, []string{"10.0.0.2"}) {
				t.Errorf("w-1 asks %q", got)
			}
		})
	}
}

// Of a worker the cluster has its Node and the load balancer that its pods were led to. No other host is touched.
func TestWorkerLeaves(t *testing.T) {
	for name, reached := range map[string]bool{"reached": true, "gone": false} {
		t.Run(name, func(t *testing.T) {
			r := newRealm(t, "cp-1", "w-1", "w-2")
			want := r.told(t)
			want["load balancers"], want["nodes"] = "cp-1 w-2", "cp-1 w-2"
			leaving := r.specs("w-1")
			if !reached {
				leaving = r.lose(false, "w-1")
			}
			run(t, r.leave(t, leaving, false).Steps()...)
			if diff := cmp.Diff(want, r.told(t)); diff != "" {
				t.Errorf("the cluster (-want +got):\n%s", diff)
			}
			for _, m := range []*machine{r.machines[0], r.machines[2]} {
				if len(m.Writes())+len(m.Removed())+len(m.Runs()) > 0 {
					t.Errorf("%s: wrote %q, removed %q, ran %q", m.Name(), m.Writes(), m.Removed(), m.Runs())
				}
			}
			if cleaned := len(r.machines[1].Paths(config.KubernetesDir)) == 0; cleaned != reached {
				t.Errorf("the host is cleaned: %t, want %t", cleaned, reached)
			}
		})
	}
}

// Hosts of the document that have not joined yet get nothing of a cluster that another one leaves, and clients are not led
// to them, nor to a node that has left before and of which a pod is still told.
func TestLeavingAddsNobody(t *testing.T) {
	r := newRealm(t, "cp-1", "cp-2", "w-1")
	blank := newMachine(t, "w-2")
	for _, h := range []config.Host{
		{Name: "w-2", Address: "10.0.0.9", AdvertiseAddress: "10.0.0.9"},
		{Name: "cp-3", Address: "10.0.0.8", AdvertiseAddress: "10.0.0.8", Roles: []config.Role{config.RoleControlPlane}},
	} {
		r.Config.Spec.Hosts = append(r.Config.Spec.Hosts, h)
		if h.Name == "w-2" {
			r.Nodes = append(r.Nodes, &cluster.Node{Host: blank, Spec: h})
		}
	}
	r.api.Put(t, &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "haproxy-old", Labels: map[string]string{"component": "haproxy"}},
		Spec:       corev1.PodSpec{NodeName: "old"}, Status: corev1.PodStatus{HostIP: "10.0.0.7"},
	})
	run(t, r.leave(t, r.specs("cp-2"), false).Steps()...)
	if paths := blank.Writes(); len(paths) > 0 {
		t.Errorf("w-2 has got %q", paths)
	}
	told := r.told(t)
	if told["API servers"] != "10.0.0.1" || told["load balancers"] != "cp-1 w-1" {
		t.Errorf("clients are led to %v", told)
	}
	if got := asks(r.machines[2]); !slices.Equal(got, []string{"10.0.0.1"}) {
		t.Errorf("w-1 asks %q", got)
	}
}

// A host that stays and is not reached keeps nobody from leaving.
func TestLeavingTellsOfHostsThatAreNotReached(t *testing.T) {
	r := newRealm(t, "cp-1", "cp-2", "cp-3", "w-1")
	r.lose(true, "cp-3", "w-1")
	l := r.leave(t, r.specs("cp-2"), false)
	run(t, l.Steps()...)
	if got := r.told(t)["API servers"]; got != "10.0.0.1 10.0.0.3" {
		t.Errorf("the API servers are %s", got)
	}
	const hint = "; hint: its load balancer goes on asking for cp-2 until myadm join -f reaches it"
	if want := []string{"not reached: cp-3: no route to host" + hint, "not reached: w-1: no route to host" + hint}; !slices.Equal(l.Warnings, want) {
		t.Errorf("warnings %q", l.Warnings)
	}
}

func TestLeavingIsRefused(t *testing.T) {
	silent := func(t *testing.T, r *realm) { r.api.Remove(configMapRef("kube-system", "kubeadm-config")) }
	tests := []struct {
		name    string
		leaving string
		gone    bool
		arrange func(t *testing.T, r *realm)
		want    string // of the error
		forced  string // of the error in spite of force; empty: none
		warning string
	}{
		{"the endpoint leads to it", "cp-1", false, func(t *testing.T, r *realm) {
			if _, err := r.Kube(t.Context()); err != nil { // before the document has an endpoint at which the test's API is not
				t.Fatal(err)
			}
			r.Config.Spec.LoadBalancer.Type, r.Config.Spec.ControlPlaneEndpoint = config.LoadBalancerExternal, "10.0.0.1:6443"
			run(t, UploadConfig(r.Cluster), Endpoint(r.Cluster))
		}, "the cluster's endpoint 10.0.0.1:6443 is a control plane that leaves, and the other nodes would lose the API; " +
			"hint: lead that address to another control plane first, or: --force cleans cp-1 whatever becomes of the cluster", "", ""},
		{"the API has nothing to say", "w-1", false, silent,
			`get ConfigMap kube-system/kubeadm-config: configmaps "kubeadm-config" not found; hint: --force cleans w-1 whatever becomes of the cluster`, "",
			"the cluster keeps what it has of w-1: "},
		{"the API has nothing to say, and the host is gone", "w-1", true, silent, "get ConfigMap kube-system/kubeadm-config: ", "get ConfigMap ", ""},
		{"the control planes that stay are not reached", "w-1", false, func(_ *testing.T, r *realm) { r.lose(true, "cp-1", "cp-2") },
			"no control plane that was reached is in a cluster, and others may be: cp-1: no route to host", "", "the cluster keeps what it has of w-1: no control plane "},
		{"there is no cluster to take it out of", "w-1", true, func(_ *testing.T, r *realm) {
			r.machines[0].Delete(config.AdminConf)
			r.machines[1].Delete(config.AdminConf)
		}, cluster.ErrNoCluster.Error(), cluster.ErrNoCluster.Error(), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, force := range []bool{false, true} {
				r := newRealm(t, "cp-1", "cp-2", "w-1")
				tt.arrange(t, r)
				leaving := r.specs(tt.leaving)
				if tt.gone {
					leaving = r.lose(false, tt.leaving)
				}
				for _, m := range r.machines {
					m.ResetRecord()
				}
				version := r.api.Version()
				l, err := NewLeave(t.Context(), r.Cluster, leaving, force)
				for _, m := range r.machines {
					if len(m.Writes())+len(m.Removed())+len(m.Runs()) > 0 || r.api.Version() != version {
						t.Fatalf("something was changed on %s or in the cluster", m.Name())
					}
				}
				want := tt.want
				if force {
					want = tt.forced
				}
				if want != "" {
					if err == nil || !strings.HasPrefix(err.Error(), want) {
						t.Errorf("force %t: got %v, want %s", force, err, want)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if text := strings.Join(l.Warnings, "\n"); !strings.HasPrefix(text, tt.warning) || (text == "") != (tt.warning == "") {
					t.Errorf("warnings %q, want %q", l.Warnings, tt.warning)
				}
				run(t, l.Steps()...)
				for _, m := range r.machines {
					if m.Name() == tt.leaving && len(m.Paths(config.KubernetesDir)) > 0 {
						t.Errorf("the host keeps %q", m.Paths(config.KubernetesDir))
					}
				}
			}
		})
	}
}

// Where no control plane has ever started a cluster, there is nobody to tell.
func TestLeavingNoCluster(t *testing.T) {
	c, machines := testCluster(t, "cp-1", "w-1")
	machines[1].touch(config.KubeletConf, 0o600, "left")
	l, err := NewLeave(t.Context(), c, []config.Host{c.Nodes[1].Spec}, false)
	if err != nil {
		t.Fatal(err)
	}
	run(t, l.Steps()...)
	if _, ok := machines[1].Get(config.KubeletConf); ok || len(machines[0].Runs()) > 0 {
		t.Errorf("the host was not cleaned, or another was: %q", machines[0].Runs())
	}
}

// Killed at any moment, the next run ends where an undisturbed one does.
func TestLeavingGoesOnAfterACut(t *testing.T) {
	whole := newRealm(t, "cp-1", "cp-2", "w-1")
	run(t, whole.leave(t, whole.specs("cp-1"), false).Steps()...)
	want := whole.told(t)
	for i := range whole.machines {
		for cut := 0; ; cut++ {
			r := newRealm(t, "cp-1", "cp-2", "w-1")
			leaving := r.specs("cp-1")
			hosts := r.Config.Spec.Hosts
			r.machines[i].left = cut
			_, err := new(workflow.Runner).Run(t.Context(), r.leave(t, leaving, false).Steps()...)
			if err == nil {
				if cut == 0 {
					t.Errorf("nothing was done on %s", r.machines[i].Name())
				}
				break
			}
			if !errors.Is(err, errCut) {
				t.Fatalf("%s cut after %d: %v", r.machines[i].Name(), cut, err)
			}
			r.machines[i].left = -1
			r.Config.Spec.Hosts, r.Learned = hosts, nil
			run(t, r.leave(t, leaving, false).Steps()...)
			if diff := cmp.Diff(want, r.told(t)); diff != "" {
				t.Errorf("%s cut after %d (-undisturbed +resumed):\n%s", r.machines[i].Name(), cut, diff)
			}
			for k, m := range r.machines {
				if diff := cmp.Diff(whole.machines[k].Paths("/"), m.Paths("/")); diff != "" {
					t.Errorf("%s cut after %d: files of %s (-undisturbed +resumed):\n%s", r.machines[i].Name(), cut, m.Name(), diff)
				}
				if k > 0 && !slices.Equal(asks(m), []string{"10.0.0.2"}) {
					t.Errorf("%s cut after %d: %s asks %q", r.machines[i].Name(), cut, m.Name(), asks(m))
				}
			}
		}
	}
}
