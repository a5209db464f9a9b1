package phases

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/workflow"
)

// withAPI is a cluster of one control plane, and of hosts that have not joined it, whose API server is a test's.
func withAPI(t testing.TB, others ...string) (*cluster.Cluster, *kubetest.Server) {
	c, machines := testCluster(t, append([]string{"cp-1"}, others...)...)
	c.Rand = rand.Reader
	run(t, Certs(c, c.Nodes[0]))
	server := kubetest.NewServer(t)
	machines[0].Put(host.File{Path: config.SuperAdminConf, Mode: 0o600, Data: server.Kubeconfig()})
	machines[0].OnDial(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Address())
	})
	t.Cleanup(func() {
		if client, err := c.Kube(context.Background()); err == nil {
			client.Close()
		}
	})
	return c, server
}

// objectPhases are the phases of init that act on the cluster.
var objectPhases = []struct {
	name   string
	phase  func(c *cluster.Cluster) workflow.Phase
	has    []kube.Ref // some of what it makes
	damage func(t *testing.T, s *kubetest.Server)
	want   string // the change that mends it
}{
	{
		"upload-config", UploadConfig,
		[]kube.Ref{{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kubeadm-config"}, {APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kubelet-config"}},
		func(_ *testing.T, s *kubetest.Server) {
			s.Remove(kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kubelet-config"})
		}, "create ConfigMap kube-system/kubelet-config",
	},
	{
		"bootstrap-token", func(c *cluster.Cluster) workflow.Phase { return BootstrapToken(c, c.Nodes[0], time.Hour) },
		[]kube.Ref{{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-public", Name: "cluster-info"}},
		func(t *testing.T, s *kubetest.Server) {
			o := s.Object(kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-public", Name: "cluster-info"})
			set(t, o, "apiVersion: v1", "data", "kubeconfig")
			s.Put(t, o)
		}, "update ConfigMap kube-public/cluster-info",
	},
	{
		"addons", Addons,
		[]kube.Ref{{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns"}, {APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "kube-system", Name: "kube-proxy"}},
		func(t *testing.T, s *kubetest.Server) {
			o := s.Object(kube.Ref{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns"})
			set(t, o, "system-node-critical", "spec", "template", "spec", "priorityClassName")
			s.Put(t, o)
		}, "update Deployment kube-system/coredns",
	},
	{
		"endpoint", Endpoint,
		[]kube.Ref{myadmConfig},
		func(t *testing.T, s *kubetest.Server) {
			o := s.Object(myadmConfig)
			set(t, o, "10.0.0.9:6443", "data", "apiServers")
			s.Put(t, o)
		}, "update ConfigMap kube-system/myadm-config",
	},
	{
		"network", Network,
		[]kube.Ref{{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "kube-flannel", Name: "kube-flannel-ds"}},
		func(_ *testing.T, s *kubetest.Server) {
			s.Remove(kube.Ref{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "kube-flannel", Name: "kube-flannel-ds"})
		}, "create DaemonSet kube-flannel/kube-flannel-ds",
	},
}

func set(t *testing.T, o *unstructured.Unstructured, value any, fields ...string) {
	t.Helper()
	if err := unstructured.SetNestedField(o.Object, value, fields...); err != nil {
		t.Fatal(err)
	}
}

func TestObjectPhasesConverge(t *testing.T) {
	for _, tt := range objectPhases {
		t.Run(tt.name, func(t *testing.T) {
			c, s := withAPI(t)
			p := tt.phase(c)
			before := s.Version()
			todo, err := p.Check(t.Context(), nil)
			if err != nil || len(todo) == 0 || s.Version() != before {
				t.Fatalf("to do: %v, %v; the check changed something: %t", todo, err, s.Version() != before)
			}
			if summary := run(t, p); summary.Changes != len(todo) {
				t.Errorf("%d changes were made, want %d", summary.Changes, len(todo))
			}
			for _, ref := range tt.has {
				if s.Object(ref) == nil {
					t.Errorf("%s is not there", ref)
				}
			}
			version := s.Version()
			if summary := run(t, p); summary.Changes != 0 || s.Version() != version {
				t.Errorf("running it again makes %d changes, from version %d to %d", summary.Changes, version, s.Version())
			}

			tt.damage(t, s)
			todo, err = p.Check(t.Context(), nil)
			if err != nil || len(todo) != 1 || string(todo[0].Action)+" "+todo[0].Object != tt.want {
				t.Errorf("after the damage: %v, %v, want %s", todo, err, tt.want)
			}
			run(t, p)
			if left, err := p.Check(t.Context(), nil); err != nil || len(left) > 0 {
				t.Errorf("mended, there is left: %v, %v", left, err)
			}
		})
	}
}

// Before there is a cluster, all is still to do, also on a host that is blank.
func TestObjectPhasesWithoutACluster(t *testing.T) {
	for _, tt := range objectPhases {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := testCluster(t, "cp-1")
			todo, err := tt.phase(c).Check(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]bool{}
			for _, change := range todo {
				found[string(change.Action)+" "+change.Object] = true
			}
			for _, ref := range tt.has {
				if !found["create "+ref.String()] {
					t.Errorf("%s is not to be made: %v", ref, todo)
				}
			}
		})
	}
}

// What others own stays theirs: a scaled Deployment, keys of the token signer.
func TestObjectPhasesLeaveWhatOthersOwn(t *testing.T) {
	c, s := withAPI(t)
	phases := []workflow.Step{Addons(c), BootstrapToken(c, c.Nodes[0], time.Hour)}
	run(t, phases...)
	info := kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-public", Name: "cluster-info"}
	o := s.Object(info)
	set(t, o, "signature", "data", "jws-kubeconfig-abcdef")
	o.SetAnnotations(map[string]string{"own": "yes"})
	s.Put(t, o)
	if summary := run(t, phases...); summary.Changes != 0 {
		t.Errorf("%d changes", summary.Changes)
	}
	data, _, _ := unstructured.NestedStringMap(s.Object(info).Object, "data")
	if data["jws-kubeconfig-abcdef"] != "signature" || s.Object(info).GetAnnotations()["own"] != "yes" {
		t.Error("what somebody else wrote is gone")
	}
}

func TestInitKeepsOneToken(t *testing.T) {
	c, s := withAPI(t)
	now := testNow
	c.Now = func() time.Time { return now }
	p := BootstrapToken(c, c.Nodes[0], time.Hour)
	client, err := c.Kube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := InitToken(t.Context(), client, now); !errors.Is(err, ErrNoToken) {
		t.Errorf("before: got %v", err)
	}
	other, err := kube.ParseToken("abcdef.0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	if err := client.CreateToken(t.Context(), kube.TokenSpec{Token: other, Usages: kube.DefaultTokenUsages(), Groups: []string{kube.DefaultTokenGroup}, Description: "somebody else's"}, now); err != nil {
		t.Fatal(err)
	}
	run(t, p)
	first, err := InitToken(t.Context(), client, now)
	if err != nil || first.ID == other.ID {
		t.Errorf("got token %s, %v", first.ID, err)
	}
	run(t, p)
	if again, err := InitToken(t.Context(), client, now); err != nil || again != first {
		t.Errorf("a second run gives token %s, %v, want %s", again.ID, err, first.ID)
	}
	now = now.Add(2 * time.Hour)
	todo, err := p.Check(t.Context(), nil)
	if err != nil || len(todo) != 1 || todo[0].Object != "bootstrap token" {
		t.Errorf("after it has expired: %v, %v", todo, err)
	}
	run(t, p)
	if later, err := InitToken(t.Context(), client, now); err != nil || later == first {
		t.Errorf("after it has expired, the token is %s, %v", later.ID, err)
	}
	for _, change := range todo {
		if strings.Contains(change.Detail, first.Reveal()) {
			t.Errorf("%v shows the token", change)
		}
	}
	if s.Object(kube.Ref{APIVersion: "v1", Kind: "Secret", Namespace: "kube-system", Name: "bootstrap-token-" + other.ID}) == nil {
		t.Error("a token of somebody else's is gone")
	}
}

func TestNetworkAppliesTheUsersManifests(t *testing.T) {
	c, s := withAPI(t)
	path := t.TempDir() + "/own.yaml"
	write(t, path, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own, namespace: default}\ndata: {a: b}\n")
	c.Config.Spec.Networking = config.Networking{Plugin: config.PluginNone, Manifests: []string{path}, PodSubnet: "10.244.0.0/16", ServiceSubnet: "10.96.0.0/16"}
	if summary := run(t, Network(c)); summary.Changes != 1 {
		t.Errorf("%d changes, want the one object", summary.Changes)
	}
	if s.Object(kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "default", Name: "own"}) == nil {
		t.Error("the object is not there")
	}
	for name, text := range map[string]string{"missing": "", "broken": "kind: [\n"} {
		bad := t.TempDir() + "/" + name + ".yaml"
		if text != "" {
			write(t, bad, text)
		}
		c.Config.Spec.Networking.Manifests = []string{bad}
		if _, err := Network(c).Check(t.Context(), nil); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func node(name string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Message: "the network is not there yet"}}},
	}
}

func TestMarkNodesWaitsForTheirRegistration(t *testing.T) {
	c, s := withAPI(t)
	c.Nodes[0].Spec.Labels = map[string]string{"disk": "ssd"}
	watched := false
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") != "" && !watched {
			watched = true
			n := node("cp-1", corev1.ConditionFalse)
			n.Spec.Taints = []corev1.Taint{{Key: "node.kubernetes.io/not-ready", Effect: corev1.TaintEffectNoSchedule}}
			s.Put(t, n) // the kubelet registers while it is waited for
		}
		return false
	}
	p := MarkNodes(c, c.Nodes, time.Minute)
	run(t, p)
	if !watched {
		t.Error("the node was not waited for")
	}
	got, err := kube.Get[corev1.Node](t.Context(), s.Client(t, kube.Options{}), nodeRef("cp-1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"disk", "node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers"} {
		if _, ok := got.Labels[label]; !ok {
			t.Errorf("label %s is missing: %v", label, got.Labels)
		}
	}
	keys := map[string]bool{}
	for _, taint := range got.Spec.Taints {
		keys[taint.Key] = true
	}
	if diff := cmp.Diff(map[string]bool{"node.kubernetes.io/not-ready": true, "node-role.kubernetes.io/control-plane": true}, keys); diff != "" {
		t.Errorf("taints (-want +got):\n%s", diff)
	}
	version := s.Version()
	if summary := run(t, p); summary.Changes != 0 || s.Version() != version {
		t.Errorf("running it again makes %d changes", summary.Changes)
	}
}

func TestNodeReadyWaits(t *testing.T) {
	c, s := withAPI(t)
	s.Put(t, node("cp-1", corev1.ConditionFalse))
	watched := false
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") != "" && !watched {
			watched = true
			s.Put(t, node("cp-1", corev1.ConditionTrue))
		}
		return false
	}
	p := NodeReady(c, c.Nodes[0], time.Minute)
	run(t, p)
	if summary := run(t, p); summary.Changes != 0 || !watched {
		t.Errorf("%d changes the second time; waited: %t", summary.Changes, watched)
	}
}

func TestNodeThatDoesNotBecomeReady(t *testing.T) {
	c, s := withAPI(t)
	s.Put(t, node("cp-1", corev1.ConditionFalse))
	m := c.Nodes[0].Host.(*machine)
	m.On("sh", "-c", lastWordsScript, "sh", "kubelet").Return("kubelet: cannot reach the network\n")
	_, err := new(workflow.Runner).Run(t.Context(), NodeReady(c, c.Nodes[0], time.Second))
	for _, part := range []string{"node-ready: ", "cp-1", "not Ready", "last log lines:\nkubelet: cannot reach the network"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not hold %q", err, part)
		}
	}
}

func TestPhasesOnTheNodeWithoutACluster(t *testing.T) {
	c, _ := testCluster(t, "cp-1")
	n := c.Nodes[0]
	for _, p := range []workflow.Phase{NodeReady(c, n, time.Minute), MarkNodes(c, c.Nodes, time.Minute)} {
		if todo, err := p.Check(t.Context(), n); err != nil || len(todo) != 1 {
			t.Errorf("%s: %v, %v", p.Name, todo, err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
