package join

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

var testNow = time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)

// network is a running cluster, whose API server is a test's, and hosts that are to join it.
type network struct {
	server  *kubetest.Server
	cluster *cluster.Cluster // the document: the joiners, and the control plane unless it was taken out
	joiners []*cluster.Node
	fakes   map[string]*hosttest.Fake
	mu      sync.Mutex
	dialled map[string]int // by host
}

// newNetwork is a cluster of version v1.37.2 with flannel, its configuration uploaded, and blank hosts. Those whose names
// begin with cp- are to become control planes, the others workers.
func newNetwork(t testing.TB, joiners ...string) *network {
	t.Helper()
	server, opts := testCluster(t)
	n := &network{server: server, fakes: map[string]*hosttest.Fake{}, dialled: map[string]int{}}
	cfg := &config.Cluster{}
	n.cluster = &cluster.Cluster{Config: cfg, Now: func() time.Time { return testNow }, Rand: rand.Reader, Version: "test"}
	for i, name := range append([]string{"cp-1"}, joiners...) {
		f := hosttest.New(t, name)
		f.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			n.mu.Lock()
			n.dialled[name]++
			n.mu.Unlock()
			return new(net.Dialer).DialContext(ctx, network, opts.Endpoint)
		})
		f.On("date", "+%s").Return(fmt.Sprintln(testNow.Unix()))
		n.fakes[name] = f
		spec := config.Host{Name: name, AdvertiseAddress: fmt.Sprintf("10.0.0.%d", i+1), Roles: []config.Role{config.RoleWorker}}
		node := &cluster.Node{Host: f, Spec: spec, Facts: cluster.Facts{Hostname: name, Arch: "amd64"}}
		if i == 0 || strings.HasPrefix(name, "cp-") {
			node.Spec.Roles = []config.Role{config.RoleControlPlane}
		}
		if i > 0 {
			n.joiners = append(n.joiners, node)
		}
		n.cluster.Nodes = append(n.cluster.Nodes, node)
		cfg.Spec.Hosts = append(cfg.Spec.Hosts, node.Spec)
	}
	config.SetDefaults(cfg)
	n.fakes["cp-1"].Put(
		host.File{Path: config.SuperAdminConf, Mode: 0o600, Data: server.Kubeconfig()},
		host.File{Path: config.PKIDir + "/ca.crt", Mode: 0o644, Data: server.CA()},
	)
	run(t, phases.UploadConfig(n.cluster), phases.Endpoint(n.cluster))
	t.Cleanup(func() {
		if client, err := n.cluster.Kube(context.Background()); err == nil {
			client.Close()
		}
	})
	return n
}

// present are the document's control planes that are in the cluster.
func (n *network) present(c *cluster.Cluster) []*cluster.Node {
	var present []*cluster.Node
	for _, node := range c.ControlPlanes() {
		if _, ok := n.fakes[node.Spec.Name].Get(config.SuperAdminConf); ok {
			present = append(present, node)
		}
	}
	return present
}

// withoutControlPlane is the cluster of a document, or of flags, that names joiners only.
func (n *network) withoutControlPlane() *cluster.Cluster {
	cfg := &config.Cluster{}
	c := &cluster.Cluster{Config: cfg, Now: n.cluster.Now, Rand: rand.Reader, Nodes: n.joiners, Version: "test"}
	for _, w := range n.joiners {
		cfg.Spec.Hosts = append(cfg.Spec.Hosts, w.Spec)
	}
	config.SetDefaults(cfg)
	return c
}

// kubeletConf is a kubelet's kubeconfig; it names the file that the kubelet logs in with.
func (n *network) kubeletConf() host.File {
	data := strings.Replace(string(n.server.Kubeconfig()), "token: test", "tokenFile: "+config.KubeletClientCert, 1)
	return host.File{Path: config.KubeletConf, Mode: 0o600, Data: []byte(data)}
}

// joined places what a kubelet has once it has a certificate.
func (n *network) joined(worker string) {
	n.fakes[worker].Put(
		n.kubeletConf(),
		host.File{Path: config.KubeletClientCert, Mode: 0o600, Data: []byte("test")},
		host.File{Path: config.PKIDir + "/ca.crt", Mode: 0o644, Data: n.server.CA()},
	)
}

func run(t testing.TB, steps ...workflow.Step) workflow.Summary {
	t.Helper()
	summary, err := new(workflow.Runner).Run(context.Background(), steps...)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

// check is what a phase would change on a node, as "ACTION OBJECT".
func check(t testing.TB, p workflow.Phase, n *cluster.Node) []string {
	t.Helper()
	changes, err := p.Check(context.Background(), n)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, c := range changes {
		texts = append(texts, string(c.Action)+" "+c.Object)
	}
	return texts
}
