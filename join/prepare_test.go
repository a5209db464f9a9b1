package join

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
)

var kubeletConfigMap = kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kubelet-config"}

func TestPrepareAsAdministrator(t *testing.T) {
	n := newNetwork(t, "w-1", "w-2")
	j, err := Prepare(t.Context(), n.cluster, n.present(n.cluster), n.joiners, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if j.Server != "https://"+n.server.Address() || string(j.CA) != string(n.server.CA()) || !j.administers || j.signs {
		t.Errorf("server %s, CA\n%s", j.Server, j.CA)
	}
	if j.endpoint() != n.server.Address() {
		t.Errorf("endpoint %s", j.endpoint())
	}
	if got := tokens(t, n); len(got) > 0 {
		t.Errorf("tokens %q were made before a host needs one", got)
	}

	// All hosts get one token, which goes with the join.
	var wg sync.WaitGroup
	got := make([]kube.Token, 5)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = j.token(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, token := range got {
		if token != got[0] {
			t.Errorf("hosts get the tokens %s and %s", got[0], token)
		}
	}
	if there := tokens(t, n); len(there) != 1 || there[0] != got[0].ID {
		t.Errorf("the cluster has the tokens %q", there)
	}
	for range 2 { // the second time there is nothing to remove
		if err := j.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if there := tokens(t, n); len(there) > 0 {
		t.Errorf("tokens %q are left", there)
	}
}

// tokens are the IDs of the cluster's bootstrap tokens; they must end by themselves soon, and say what they are for.
func tokens(t *testing.T, n *network) []string {
	t.Helper()
	client, err := n.cluster.Kube(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := kube.ListTokens(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, token := range list {
		ids = append(ids, token.Token.ID)
		if token.Expires == nil || token.Expires.Sub(testNow) != mintedTTL || token.Description == "" {
			t.Errorf("token %s expires at %v and is %q", token.Token, token.Expires, token.Description)
		}
	}
	return ids
}

func TestPrepareByToken(t *testing.T) {
	n := newNetwork(t, "w-1", "w-2")
	c := n.withoutControlPlane()
	n.joined("w-1")
	opts := Options{ // an address that only the hosts know; the server's certificate names it
		Endpoint: "example.com:6443", Token: testToken(t, tokenID+"."+tokenSecret), CACertHashes: []string{pin(t, n.server.CA())},
	}
	j, err := Prepare(t.Context(), c, nil, n.joiners, opts)
	if err != nil {
		t.Fatal(err)
	}
	if j.Server != "https://"+opts.Endpoint || string(j.CA) != string(n.server.CA()) || j.administers {
		t.Errorf("server %s, CA\n%s", j.Server, j.CA)
	}
	if token, err := j.token(t.Context()); err != nil || token != opts.Token {
		t.Errorf("hosts get token %s, %v", token, err)
	}
	if n.dialled["w-1"] != 0 || n.dialled["w-2"] == 0 {
		t.Errorf("dialled %v, want the way of the host that is to join", n.dialled)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Errorf("a token of the user's is not ours to remove: %v", err)
	}
}

func TestPrepareOfHostsThatHaveJoined(t *testing.T) {
	n := newNetwork(t, "w-1")
	n.joined("w-1")
	j, err := Prepare(t.Context(), n.withoutControlPlane(), nil, n.joiners, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if j.Server != "https://"+n.server.Address() || string(j.CA) != string(n.server.CA()) {
		t.Errorf("server %s, CA\n%s", j.Server, j.CA)
	}
	if _, err := j.token(t.Context()); err == nil {
		t.Error("there is a token")
	}
}

func TestPrepareLearnsOfTheCluster(t *testing.T) {
	n := newNetwork(t, "w-1")
	c := n.withoutControlPlane()
	c.Config.Spec.KubernetesVersion, c.Config.Spec.Networking.PodSubnet = "v1.36.3", "10.99.0.0/16"
	c.Config.Spec.Kubelet = map[string]any{"maxPods": int64(5)}
	n.joined("w-1")
	if _, err := Prepare(t.Context(), c, nil, n.joiners, Options{}); err != nil {
		t.Fatal(err)
	}
	spec := c.Config.Spec
	if spec.KubernetesVersion != "v1.37.2" || spec.Networking.PodSubnet != "10.244.0.0/16" || spec.Networking.Plugin != config.PluginFlannel {
		t.Errorf("version %s, pods %s, plugin %s: the cluster says otherwise", spec.KubernetesVersion, spec.Networking.PodSubnet, spec.Networking.Plugin)
	}
	if spec.Kubelet["maxPods"] != nil || spec.Kubelet["kind"] != "KubeletConfiguration" {
		t.Errorf("the kubelet's configuration is %v", spec.Kubelet)
	}
}

// In a cluster that kubeadm made, nothing says what the network plugin is, and so it is none of ours.
func TestPrepareInAClusterOfKubeadm(t *testing.T) {
	n := newNetwork(t, "w-1")
	n.server.Remove(kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "myadm-config"})
	if _, err := Prepare(t.Context(), n.cluster, n.present(n.cluster), n.joiners, Options{}); err != nil {
		t.Fatal(err)
	}
	if plugin := n.cluster.Config.Spec.Networking.Plugin; plugin != config.PluginNone {
		t.Errorf("the plugin is %s", plugin)
	}
}

func TestPrepareRefuses(t *testing.T) {
	gone := errors.New("gone")
	tests := []struct {
		name    string
		arrange func(t *testing.T, n *network) (*cluster.Cluster, []*cluster.Node)
		want    string
	}{
		{"no token and no document", func(_ *testing.T, n *network) (*cluster.Cluster, []*cluster.Node) {
			return n.withoutControlPlane(), n.joiners
		}, "there is no token to join with; hint: --token"},
		{"no hosts", func(_ *testing.T, n *network) (*cluster.Cluster, []*cluster.Node) {
			c := n.withoutControlPlane()
			c.Nodes = nil
			return c, nil
		}, "there is no host to join"},
		{"a control plane without a cluster", func(_ *testing.T, n *network) (*cluster.Cluster, []*cluster.Node) {
			n.cluster = &cluster.Cluster{Config: n.cluster.Config, Nodes: n.cluster.Nodes, Now: n.cluster.Now}
			n.fakes["cp-1"].Delete(config.SuperAdminConf)
			return n.cluster, n.joiners
		}, "hint: run myadm init first"},
		{"a host that is lost", func(_ *testing.T, n *network) (*cluster.Cluster, []*cluster.Node) {
			n.fakes["w-1"].Lose(gone)
			return n.withoutControlPlane(), n.joiners
		}, "w-1: "},
		{"a cluster whose kubelets have no configuration", func(t *testing.T, n *network) (*cluster.Cluster, []*cluster.Node) {
			o := n.server.Object(kubeletConfigMap)
			if err := unstructured.SetNestedField(o.Object, "[]", "data", "kubelet"); err != nil {
				t.Fatal(err)
			}
			n.server.Put(t, o)
			return n.cluster, n.joiners
		}, "kubelet-config: key kubelet holds no KubeletConfiguration; hint: myadm init phase upload-config"},
		{"a cluster without that ConfigMap", func(_ *testing.T, n *network) (*cluster.Cluster, []*cluster.Node) {
			n.server.Remove(kubeletConfigMap)
			return n.cluster, n.joiners
		}, "kubelet-config"},
		{"a bundle that is newer than the cluster", func(t *testing.T, n *network) (*cluster.Cluster, []*cluster.Node) {
			n.cluster.Bundle = &bundle.Bundle{Index: bundle.Index{KubernetesVersion: "v1.38.0"}}
			return n.cluster, n.joiners
		}, "kubelet v1.38.0 is newer than the API server v1.37.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, "w-1")
			c, nodes := tt.arrange(t, n)
			_, err := Prepare(t.Context(), c, n.present(c), nodes, Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if writes := n.fakes["w-1"].Writes(); len(writes) > 0 {
				t.Errorf("%q were written", writes)
			}
		})
	}
}

func TestNodesAreMadeInOrder(t *testing.T) {
	n := newNetwork(t, "w-1")
	names := func(j *Joining) []string {
		var all []string
		for _, s := range Steps(n.cluster, n.joiners, n.present(n.cluster), j, Options{}) {
			for _, p := range s.Phases() {
				all = append(all, p.Name)
			}
		}
		return all
	}
	j, err := Prepare(t.Context(), n.cluster, n.present(n.cluster), n.joiners, Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := names(j)
	before := func(first, second string) {
		t.Helper()
		i, k := index(all, first), index(all, second)
		if i < 0 || k < 0 || i > k {
			t.Errorf("%s is not before %s in %q", first, second, all)
		}
	}
	before("preflight", "runtime")
	before("tls-bootstrap", "kubelet")
	before("binaries", "kubelet")
	before("kubelet", "etcd-join")
	before("etcd-join", "control-plane")
	before("control-plane", "wait-control-plane")
	before("wait-control-plane", "node-ready")
	before("node-ready", "mark-nodes")
	j.signs = true // the CA's key is at hand, and nobody has to be asked
	if signed := names(j); index(signed, "tls-bootstrap") >= 0 || index(signed, "credentials") > index(signed, "kubelet") {
		t.Errorf("with the CA's key: %q", signed)
	}
	if i := index(all, "endpoint"); i >= 0 {
		t.Error("the endpoint of a cluster without a load balancer is touched")
	}
	n.cluster.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	all = names(j)
	before("mark-nodes", "endpoint")
	before("endpoint", "endpoint-flag")
	j.administers = false // by token, a worker changes nothing in the cluster
	if i := index(names(j), "endpoint"); i >= 0 {
		t.Error("a token is no administrator's")
	}
}

func index(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}
