package phases

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

var (
	myadmConfig  = kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "myadm-config"}
	apiEndpoints = kube.Ref{APIVersion: "v1", Kind: "Endpoints", Namespace: "default", Name: "kubernetes"}
	apiSlice     = kube.Ref{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice", Namespace: "default", Name: "kubernetes"}
)

// balancedCluster is a cluster whose nodes have load balancers of their own, and whose API server is a test's.
func balancedCluster(t testing.TB) (*cluster.Cluster, *kubetest.Server) {
	c, s := withAPI(t, "cp-2", "w-1")
	if got := c.Config.Spec.LoadBalancer.Type; got != config.LoadBalancerNodeLocal {
		t.Fatalf("the load balancer is %s", got)
	}
	return c, s
}

// ways are where the cluster leads clients: pods by way of the nodes' load balancers, as NODE=ADDRESS, and everybody else
// to the API servers; and the API servers that a host is told of that joins.
func ways(t *testing.T, s *kubetest.Server) (balancers, servers, known []string) {
	t.Helper()
	client := s.Client(t, kube.Options{})
	slice, err := kube.Get[discoveryv1.EndpointSlice](t.Context(), client, apiSlice)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slice.Endpoints {
		balancers = append(balancers, *e.NodeName+"="+strings.Join(e.Addresses, ","))
		if e.Hints == nil || len(e.Hints.ForNodes) != 1 || e.Hints.ForNodes[0].Name != *e.NodeName {
			t.Errorf("%s is not for its own pods: %+v", *e.NodeName, e.Hints)
		}
	}
	endpoints, err := kube.Get[corev1.Endpoints](t.Context(), client, apiEndpoints) //nolint:staticcheck // older clients read it
	if err != nil {
		t.Fatal(err)
	}
	for _, subset := range endpoints.Subsets {
		for _, a := range subset.Addresses {
			servers = append(servers, a.IP)
		}
	}
	settings, err := kube.Get[corev1.ConfigMap](t.Context(), client, myadmConfig)
	if err != nil {
		t.Fatal(err)
	}
	read, err := manifests.ReadMyadmConfig(settings.Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range read.APIServers {
		known = append(known, server.String())
	}
	return balancers, servers, known
}

// haproxyPod is the mirror pod of a node's load balancer.
func haproxyPod(node, address string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "haproxy-" + node, Labels: map[string]string{"component": "haproxy"}},
		Spec:       corev1.PodSpec{NodeName: node},
		Status:     corev1.PodStatus{HostIP: address},
	}
}

// What the cluster says of the ways to its API follows its control planes and nodes, those of the document and others, as
// they come and go.
func TestEndpointFollowsTheCluster(t *testing.T) {
	c, s := balancedCluster(t)
	p := Endpoint(c)
	for _, step := range []struct {
		name      string
		do        func()
		balancers []string
		servers   []string
	}{
		{"the document", func() {}, []string{"cp-1=10.0.0.1", "cp-2=10.0.0.2", "w-1=10.0.0.3"}, []string{"10.0.0.1", "10.0.0.2"}},
		{"a node joins by token", func() {
			s.Put(t, node("w-9", corev1.ConditionTrue))
			s.Put(t, haproxyPod("w-9", "10.0.0.9"))
		}, []string{"cp-1=10.0.0.1", "cp-2=10.0.0.2", "w-1=10.0.0.3", "w-9=10.0.0.9"}, []string{"10.0.0.1", "10.0.0.2"}},
		{"its kubelet has not told of the pod again", func() {
			s.Remove(kube.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "kube-system", Name: "haproxy-w-9"})
		}, []string{"cp-1=10.0.0.1", "cp-2=10.0.0.2", "w-1=10.0.0.3", "w-9=10.0.0.9"}, []string{"10.0.0.1", "10.0.0.2"}},
		{"it leaves for good, and its pod goes later", func() {
			s.Put(t, haproxyPod("w-9", "10.0.0.9"))
			s.Remove(nodeRef("w-9"))
		},
			[]string{"cp-1=10.0.0.1", "cp-2=10.0.0.2", "w-1=10.0.0.3"}, []string{"10.0.0.1", "10.0.0.2"}},
		{"a control plane joins without the document", func() {
			c.Learned = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.7:6443")}
			s.Put(t, node("cp-7", corev1.ConditionTrue))
			s.Put(t, haproxyPod("cp-7", "10.0.0.7"))
		}, []string{"cp-1=10.0.0.1", "cp-2=10.0.0.2", "cp-7=10.0.0.7", "w-1=10.0.0.3"}, []string{"10.0.0.1", "10.0.0.2", "10.0.0.7"}},
		{"a control plane is taken out", func() { c.Leaving = c.Config.Spec.Hosts[1:2] },
			[]string{"cp-1=10.0.0.1", "cp-7=10.0.0.7", "w-1=10.0.0.3"}, []string{"10.0.0.1", "10.0.0.7"}},
	} {
		step.do()
		run(t, p)
		balancers, servers, known := ways(t, s)
		if !slices.Equal(balancers, step.balancers) || !slices.Equal(servers, step.servers) {
			t.Errorf("%s: pods are led to %q, others to %q; want %q and %q", step.name, balancers, servers, step.balancers, step.servers)
		}
		for i, server := range step.servers {
			step.servers[i] = server + ":6443"
		}
		if !slices.Equal(known, step.servers) {
			t.Errorf("%s: hosts that join are told of %q, want %q", step.name, known, step.servers)
		}
		version := s.Version()
		if summary := run(t, p); summary.Changes != 0 || s.Version() != version {
			t.Errorf("%s: running it again makes %d changes", step.name, summary.Changes)
		}
	}
}

// Without load balancers on the nodes, API servers name themselves, and their endpoints are none of ours.
func TestEndpointLeavesEndpointsToTheAPIServers(t *testing.T) {
	for _, balancer := range []string{"", config.LoadBalancerExternal, config.LoadBalancerKeepalived} {
		c, s := balancedCluster(t)
		if _, err := c.Kube(t.Context()); err != nil { // before it would be asked where only a real one is
			t.Fatal(err)
		}
		c.Config.Spec.LoadBalancer.Type = balancer
		run(t, Endpoint(c))
		for _, ref := range []kube.Ref{apiEndpoints, apiSlice} {
			if s.Object(ref) != nil {
				t.Errorf("%q: %s was made", balancer, ref)
			}
		}
		if s.Object(myadmConfig) == nil {
			t.Errorf("%q: the cluster does not know its load balancer", balancer)
		}
	}
}

func TestEndpointBeforeThereIsACluster(t *testing.T) {
	c, _ := testCluster(t, "cp-1", "cp-2")
	todo, err := Endpoint(c).Check(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []kube.Ref{myadmConfig, apiEndpoints, apiSlice} {
		if !slices.Contains(todo, workflow.Change{Action: workflow.Create, Object: ref.String()}) {
			t.Errorf("%s is not to be made: %v", ref, todo)
		}
	}
}
