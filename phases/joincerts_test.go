package phases

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// founded is a cluster of two control planes and a worker, whose first control plane has its PKI.
func founded(t testing.TB) (*cluster.Cluster, []*machine) {
	t.Helper()
	c, machines := testCluster(t, "cp-1", "cp-2", "w-1")
	run(t, Certs(c, c.Nodes[0]), Kubeconfigs(c, c.Nodes[0]))
	return c, machines
}

// givenPKI is what control planes share, made when it is asked for the first time.
func givenPKI(c *cluster.Cluster) PKI {
	var shared certs.Files
	return func(context.Context) (certs.Files, error) {
		if shared != nil {
			return shared, nil
		}
		first := &cluster.Node{Spec: config.Host{Name: "cp-0", AdvertiseAddress: "10.0.0.100"}}
		made, err := certs.Issue(certs.Files{}, CertSettings(c, first, true), c.Now())
		shared = certs.Files{}
		for _, f := range made {
			if slices.Contains(certs.SharedPaths(false), f.Path) {
				shared[f.Path] = f.Data
			}
		}
		return shared, err
	}
}

func content(t testing.TB, m *machine, path string) []byte {
	t.Helper()
	file, ok := m.Get(path)
	if !ok {
		t.Fatalf("%s: %s is not there", m.Name(), path)
	}
	return file.Data
}

func certificateOf(t testing.TB, data []byte) *x509.Certificate {
	t.Helper()
	chain, err := certs.ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

// A control plane that joins has the authorities and the service account key of the first, to the byte, and certificates of
// its own that they have signed.
func TestJoinCertsShareTheAuthorities(t *testing.T) {
	c, machines := founded(t)
	first, second := machines[0], machines[1]
	joiners := c.Nodes[1:2]
	shared := SharedPKI(c, c.Nodes[0])
	run(t, JoinCerts(c, joiners, shared), JoinKubeconfigs(c, joiners, shared))

	for _, path := range certs.SharedPaths(false) {
		if string(content(t, first, path)) != string(content(t, second, path)) {
			t.Errorf("%s differs", path)
		}
	}
	for _, path := range second.Writes() {
		file, _ := second.Get(path)
		want := fs.FileMode(0o600)
		if strings.HasSuffix(path, ".crt") {
			want = 0o644
		}
		if file.Mode != want {
			t.Errorf("%s has mode %04o, want %04o", path, file.Mode, want)
		}
	}

	apiServer := certificateOf(t, content(t, second, config.PKIDir+"/apiserver.crt"))
	if err := apiServer.CheckSignatureFrom(certificateOf(t, content(t, first, config.PKIDir+"/ca.crt"))); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"cp-2", "10.0.0.2", "127.0.0.1"} { // the last is where a node's load balancer answers for it
		if err := apiServer.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	peer := certificateOf(t, content(t, second, config.PKIDir+"/etcd/peer.crt"))
	if peer.Subject.CommonName != "cp-2" || peer.VerifyHostname("10.0.0.2") != nil {
		t.Errorf("etcd's peer is %s, for %v", peer.Subject.CommonName, peer.IPAddresses)
	}

	for path, want := range map[string]string{
		config.AdminConf: "https://10.0.0.2:6443", config.ControllerManagerConf: "https://10.0.0.2:6443", config.SchedulerConf: "https://10.0.0.2:6443",
	} {
		conf, err := clientcmd.Load(content(t, second, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := conf.Clusters[conf.Contexts[conf.CurrentContext].Cluster].Server; got != want {
			t.Errorf("%s names %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{config.SuperAdminConf, config.KubeletConf} { // the one is the first's alone, the other comes later
		if _, ok := second.Get(path); ok {
			t.Errorf("%s is there", path)
		}
	}
}

// The keys go from host to host through memory. A control plane that belongs to another cluster keeps what it has.
func TestJoinCertsRefuseAHostOfAnotherCluster(t *testing.T) {
	for _, path := range []string{"/ca.crt", "/ca.key", "/etcd/ca.crt", "/front-proxy-ca.key", "/sa.key", "/sa.pub"} {
		t.Run(path, func(t *testing.T) {
			c, machines := founded(t)
			other, others := testCluster(t, "cp-1")
			run(t, Certs(other, other.Nodes[0]))
			foreign := content(t, others[0], config.PKIDir+path)
			machines[1].touch(config.PKIDir+path, 0o600, string(foreign))
			machines[1].ResetRecord()
			p := JoinCerts(c, c.Nodes[1:2], SharedPKI(c, c.Nodes[0]))
			_, err := new(workflow.Runner).Run(t.Context(), p)
			want := "cp-2: certs: " + config.PKIDir + path + " is not that of the cluster; hint: "
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), string(foreign)) {
				t.Errorf("got %v, want %s", err, want)
			}
			if err := p.Apply(t.Context(), machines[1], nil); err == nil || len(machines[1].Writes()) > 0 {
				t.Errorf("applied all the same: %v, wrote %q", err, machines[1].Writes())
			}
		})
	}
	// A line break at the end is no difference.
	c, machines := founded(t)
	machines[1].touch(config.PKIDir+"/ca.crt", 0o644, string(content(t, machines[0], config.PKIDir+"/ca.crt"))+"\n")
	run(t, JoinCerts(c, c.Nodes[1:2], SharedPKI(c, c.Nodes[0])))
}

// While the first control plane is being made, there is nothing that others could share.
func TestJoinCertsWaitForTheFirst(t *testing.T) {
	c, machines := testCluster(t, "cp-1", "cp-2")
	p := JoinCerts(c, c.Nodes[1:2], SharedPKI(c, c.Nodes[0]))
	if diff := cmp.Diff([]string{"create " + config.PKIDir}, check(t, p, c.Nodes[1])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := p.Apply(t.Context(), machines[1], nil); err == nil || !strings.Contains(err.Error(), "hint: run myadm init first") {
		t.Errorf("got %v", err)
	}
	run(t, Certs(c, c.Nodes[0]), p) // in the same run, as apply does
	settled(t, p, c.Nodes[1])
}

// An authority's key may be kept elsewhere: what it signs is then for a human to place, and nothing else is.
func TestJoinCertsWithAnAuthorityElsewhere(t *testing.T) {
	c, machines := founded(t)
	first, second := machines[0], machines[1]
	first.Delete(config.PKIDir + "/front-proxy-ca.key")
	p := JoinCerts(c, c.Nodes[1:2], SharedPKI(c, c.Nodes[0]))
	_, err := new(workflow.Runner).Run(t.Context(), p)
	if want := config.PKIDir + "/front-proxy-client.crt: missing, and the key to sign another is not on this host"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, path := range []string{config.PKIDir + "/front-proxy-client.crt", config.PKIDir + "/front-proxy-client.key"} {
		second.touch(path, pkiMode(path), string(content(t, first, path)))
	}
	run(t, p)
	settled(t, p, c.Nodes[1])
}

// Control planes of the cluster follow when the endpoint moves: a name more in a certificate, and nothing else is new.
func TestJoinCertsOfAControlPlaneThatIsThere(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	n := c.Nodes[0]
	run(t, Certs(c, n), Kubeconfigs(c, n))
	shared := SharedPKI(c, n)
	settled(t, JoinCerts(c, one(n), shared), n)
	c.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	run(t, JoinCerts(c, one(n), shared))
	if want := []string{config.PKIDir + "/apiserver.key", config.PKIDir + "/apiserver.crt"}; !slices.Equal(machines[0].Writes(), want) {
		t.Errorf("wrote %q, want %q", machines[0].Writes(), want)
	}
	if err := certificateOf(t, content(t, machines[0], config.PKIDir+"/apiserver.crt")).VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
}

// reads counts the files that are read from a host.
type reads struct {
	host.Host
	n atomic.Int32
}

func (r *reads) ReadFile(ctx context.Context, path string) ([]byte, error) {
	r.n.Add(1)
	return r.Host.ReadFile(ctx, path)
}

func TestSharedPKIIsReadOnce(t *testing.T) {
	c, _ := testCluster(t, "cp-1")
	n := c.Nodes[0]
	counted := &reads{Host: n.Host}
	n.Host = counted
	shared := SharedPKI(c, n)
	if files, err := shared(t.Context()); err != nil || len(files) != 0 {
		t.Errorf("before there is a PKI: %d files, %v", len(files), err)
	}
	run(t, Certs(c, n))
	before := counted.n.Load()
	for range 2 {
		files, err := shared(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(certs.SharedPaths(false))), slices.Sorted(maps.Keys(files))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if got := counted.n.Load() - before; int(got) != len(certs.SharedPaths(false)) {
		t.Errorf("%d files were read", got)
	}
}

func TestSharedPKIOfAHostThatIsLost(t *testing.T) {
	c, machines := founded(t)
	gone := errors.New("gone")
	machines[0].Lose(gone)
	_, err := new(workflow.Runner).Run(t.Context(), JoinCerts(c, c.Nodes[1:2], SharedPKI(c, c.Nodes[0])))
	if !errors.Is(err, gone) || !strings.Contains(err.Error(), "read the PKI of cp-1: ") {
		t.Errorf("got %v", err)
	}
}

// kubeletServer is where a machine's kubelet goes, and whether its kubeconfig embeds a certificate.
func kubeletServer(t testing.TB, m *machine) (server string, embeds bool) {
	t.Helper()
	conf, err := clientcmd.Load(content(t, m, config.KubeletConf))
	if err != nil {
		t.Fatal(err)
	}
	current := conf.Contexts[conf.CurrentContext]
	return conf.Clusters[current.Cluster].Server, len(conf.AuthInfos[current.AuthInfo].ClientCertificateData) > 0
}

// pointed makes a machine's kubelet.conf name a server.
func pointed(t testing.TB, m *machine, server string) {
	t.Helper()
	data, _, err := certs.PointAt(content(t, m, config.KubeletConf), server)
	if err != nil {
		t.Fatal(err)
	}
	m.touch(config.KubeletConf, 0o600, string(data))
}

// In the end, a control plane's kubelet goes to the API server beside it, and any other stays where it is.
func TestKubeletFinalizeOfAControlPlane(t *testing.T) {
	const balancer = "https://127.0.0.1:6444"
	for name, want := range map[string]string{"cp-2": "https://10.0.0.2:6443", "w-1": balancer} {
		t.Run(name, func(t *testing.T) {
			c, machines := testCluster(t, "cp-1", "cp-2", "w-1")
			i := slices.IndexFunc(c.Nodes, func(n *cluster.Node) bool { return n.Spec.Name == name })
			n, m := c.Nodes[i], machines[i]
			after(Certs, Kubeconfigs)(t, c, n)
			pointed(t, m, balancer)
			kubeletHasCertificate(t, m)
			p := KubeletFinalize(c, one(n), time.Minute)
			run(t, p)
			if server, embeds := kubeletServer(t, m); server != want || embeds {
				t.Errorf("the kubelet goes to %s; its certificate is embedded: %t", server, embeds)
			}
			settled(t, p, n)
			pointed(t, m, balancer) // and only one of the two is to be mended
			if todo := check(t, p, n); (len(todo) > 0) != (want != balancer) {
				t.Errorf("to do: %q", todo)
			}
		})
	}
}
