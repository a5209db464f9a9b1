package phases

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd/etcdtest"
)

const clientCert = config.PKIDir + "/etcd/healthcheck-client"

// external makes a cluster's etcd an external one, whose administrator has given the files of a member's PKI.
func external(t testing.TB, c *cluster.Cluster, m *etcdtest.Member, endpoints ...string) *config.ExternalEtcd {
	t.Helper()
	dir, pki := t.TempDir(), m.PKI()
	place := func(name, path string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pki[path], 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	c.Config.Spec.Etcd.External = &config.ExternalEtcd{
		Endpoints: endpoints,
		CAFile:    place("ca.crt", config.PKIDir+"/etcd/ca.crt"), CertFile: place("client.crt", clientCert+".crt"), KeyFile: place("client.key", clientCert+".key"),
	}
	return c.Config.Spec.Etcd.External
}

func TestExternalEtcdGivesTheOperatorsFiles(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	c.Now = time.Now // a member's certificates are of today
	m := machines[0]
	given := external(t, c, etcdtest.NewTLS(t).Member("etcd-1"), "https://192.0.2.1:2379")
	p := ExternalEtcd(c, c.Nodes)
	ca, cert, key := config.PKIDir+"/etcd/ca.crt", config.PKIDir+"/apiserver-etcd-client.crt", config.PKIDir+"/apiserver-etcd-client.key"
	if diff := cmp.Diff(created(ca, cert, key), check(t, p, c.Nodes[0])); diff != "" {
		t.Errorf("on a blank host (-want +got):\n%s", diff)
	}
	run(t, p)
	for path, from := range map[string]string{ca: given.CAFile, cert: given.CertFile, key: given.KeyFile} {
		want, err := os.ReadFile(from)
		if err != nil || string(content(t, m, path)) != string(want) {
			t.Errorf("%s is not what the operator gave: %v", path, err)
		}
	}
	if file, _ := m.Get(key); file.Mode != 0o600 {
		t.Errorf("the key has mode %04o", file.Mode)
	}
	settled(t, p, c.Nodes[0])
	run(t, Certs(c, c.Nodes[0])) // goes by what was given
	for _, path := range m.Paths(config.PKIDir + "/etcd") {
		if path != ca {
			t.Errorf("%s was made for an etcd that is not ours", path)
		}
	}
	settled(t, p, c.Nodes[0])
	if n := len(Etcd(c, c.Nodes).Hosts) + len(EtcdJoin(c, c.Nodes, nil, 0).Hosts); n > 0 {
		t.Errorf("%d hosts get an etcd", n)
	}

	if err := os.Remove(given.KeyFile); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Check(t.Context(), c.Nodes[0]); err == nil || !strings.HasPrefix(err.Error(), "spec.etcd.external.keyFile: ") {
		t.Errorf("got %v", err)
	}
	stacked, _ := testCluster(t, "cp-1")
	if n := len(ExternalEtcd(stacked, stacked.Nodes).Hosts); n > 0 {
		t.Errorf("with a stacked etcd, %d hosts get files", n)
	}
}

func TestPreflightAsksTheExternalEtcd(t *testing.T) {
	members := etcdtest.NewTLS(t)
	one := members.Start("etcd-1")
	other := etcdtest.NewTLS(t).Member("etcd-9")
	overwrite := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name    string
		arrange func(t *testing.T, c *cluster.Cluster)
		want    string // a part of the one finding; empty: there is none
	}{
		{"it serves", func(t *testing.T, c *cluster.Cluster) { external(t, c, one, one.ClientURL()) }, ""},
		{"the node is a worker", func(t *testing.T, c *cluster.Cluster) {
			external(t, c, other, one.ClientURL())
			c.Nodes[0].Spec.Roles = []config.Role{config.RoleWorker}
		}, ""},
		{"another authority's files", func(t *testing.T, c *cluster.Cluster) { external(t, c, other, one.ClientURL()) },
			net.JoinHostPort(one.Address.String(), "2379") + " does not answer as etcd to this host"},
		{"nothing listens there", func(t *testing.T, c *cluster.Cluster) { external(t, c, one, one.ClientURL(), other.ClientURL()) },
			net.JoinHostPort(other.Address.String(), "2379") + " does not answer as etcd to this host"},
		{"a key of another certificate", func(t *testing.T, c *cluster.Cluster) {
			overwrite(t, external(t, c, one, one.ClientURL()).KeyFile, string(other.PKI()[clientCert+".key"]))
		}, "hint: give a client certificate and its key"},
		{"an authority that is none", func(t *testing.T, c *cluster.Cluster) {
			overwrite(t, external(t, c, one, one.ClientURL()).CAFile, "?")
		}, "caFile holds no certificate; hint: "},
		{"a file that is not there", func(t *testing.T, c *cluster.Cluster) {
			external(t, c, one, one.ClientURL()).CertFile = "/nowhere/client.crt"
		}, "spec.etcd.external.certFile: open /nowhere/client.crt"},
		{"files that only the control planes have", func(t *testing.T, c *cluster.Cluster) {
			e := external(t, c, one, one.ClientURL())
			e.CAFile, e.CertFile, e.KeyFile = config.PKIDir+"/etcd/ca.crt", config.PKIDir+"/apiserver-etcd-client.crt", config.PKIDir+"/apiserver-etcd-client.key"
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, machines := testCluster(t, "cp-1")
			machines[0].OnDial(new(net.Dialer).DialContext)
			tt.arrange(t, c)
			findings := judgeExternalEtcd(t.Context(), c, c.Nodes[0])
			if tt.want == "" {
				if len(findings) > 0 {
					t.Errorf("found %+v", findings)
				}
				return
			}
			if len(findings) != 1 || findings[0].Name != "ExternalEtcd" || !findings[0].Fatal || !strings.Contains(findings[0].Message, tt.want) {
				t.Errorf("found %+v, want %s", findings, tt.want)
			}
		})
	}
}

// An etcd that answers and takes no writes is of no use.
func TestPreflightOfAnExternalEtcdWithoutQuorum(t *testing.T) {
	t.Parallel()
	members := etcdtest.NewTLS(t)
	one, two := members.Start("etcd-1"), members.Member("etcd-2")
	c, machines := testCluster(t, "cp-1")
	machines[0].OnDial(new(net.Dialer).DialContext)
	external(t, c, one, one.ClientURL())
	promoted(t, one, two)
	two.Stop()
	findings := judgeExternalEtcd(t.Context(), c, c.Nodes[0])
	if len(findings) != 1 || !strings.Contains(findings[0].Message, "the external etcd has no quorum") {
		t.Errorf("found %+v", findings)
	}
}
