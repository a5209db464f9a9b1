package cluster

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd/etcdtest"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
)

// etcdHost is a control plane with a member's address, and files of its PKI as far as keep says so. It remembers what was
// dialled through it.
func etcdHost(t *testing.T, m *etcdtest.Member, keep func(path string) bool) (*Node, *dialled) {
	n, f := controlPlane(t, m.Name)
	n.Spec.AdvertiseAddress = m.Address.String()
	for path, data := range m.PKI() {
		if keep(path) {
			f.Put(host.File{Path: path, Mode: 0o600, Data: data})
		}
	}
	d := &dialled{}
	f.OnDial(d.dial)
	return n, d
}

type dialled struct {
	mu        sync.Mutex
	addresses []string
}

func (d *dialled) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addresses = append(d.addresses, address)
	return new(net.Dialer).DialContext(ctx, network, address)
}

func nothing(string) bool { return false }

func all(string) bool { return true }

func but(part string) func(string) bool {
	return func(path string) bool { return !strings.Contains(path, part) }
}

func TestEtcdIsReachedThroughItsOwnHost(t *testing.T) {
	for _, tt := range []struct {
		name string
		keep func(string) bool
	}{
		{"with the health check's certificate", but("apiserver-etcd-client")},
		{"with the API server's certificate", but("healthcheck-client")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			members := etcdtest.NewTLS(t)
			one, two := members.Start("cp-1"), members.Member("cp-2")
			blank, throughBlank := etcdHost(t, two, nothing) // comes first in the document, and has not joined
			n, throughOwn := etcdHost(t, one, tt.keep)
			c := &Cluster{Config: &config.Cluster{}, Nodes: []*Node{blank, n}}
			t.Cleanup(func() { c.Close() })
			client, err := c.Etcd(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if list, err := client.Members(t.Context()); err != nil || len(list) != 1 {
				t.Fatalf("%+v, %v", list, err)
			}
			if again, err := c.Etcd(t.Context()); again != client || err != nil {
				t.Errorf("the client is made twice: %v", err)
			}
			if _, err := client.AddLearner(t.Context(), two.PeerURL()); err != nil {
				t.Fatal(err)
			}
			two.Start(one)
			if s, err := client.Status(t.Context(), two.ClientURL()); err != nil || s.ID != two.ID() {
				t.Errorf("%+v, %v", s, err)
			}
			own := []string{net.JoinHostPort(one.Address.String(), "2379")}
			if !slices.Equal(throughOwn.addresses, own) {
				t.Errorf("through cp-1: %q, want %q", throughOwn.addresses, own)
			}
			theirs := []string{net.JoinHostPort(two.Address.String(), "2379")}
			if !slices.Equal(throughBlank.addresses, theirs) {
				t.Errorf("through cp-2: %q, want %q", throughBlank.addresses, theirs)
			}
		})
	}
}

func TestEtcdOfHostsThatAreNotOurs(t *testing.T) {
	members := etcdtest.NewTLS(t)
	strange, here := members.Start("etcd-1"), members.Member("cp-1")
	n, through := etcdHost(t, here, all)
	cfg := &config.Cluster{}
	cfg.Spec.Etcd.External = &config.ExternalEtcd{Endpoints: []string{strange.ClientURL()}}
	c := &Cluster{Config: cfg, Nodes: []*Node{n}}
	t.Cleanup(func() { c.Close() })
	client, err := c.Etcd(t.Context())
	if err == nil {
		err = client.Health(t.Context())
	}
	if err != nil || len(through.addresses) != 1 {
		t.Errorf("%v, after %q", err, through.addresses)
	}
}

func TestEtcdWithoutACluster(t *testing.T) {
	m := etcdtest.NewTLS(t).Member("cp-1")
	blank, _ := etcdHost(t, m, nothing)
	half, _ := etcdHost(t, m, but(".key"))
	lost, _ := etcdHost(t, m, all)
	lost.Host.(*hosttest.Fake).Lose(errors.New("no answer"))
	bad, _ := etcdHost(t, m, all)
	bad.Host.(*hosttest.Fake).Put(host.File{Path: config.PKIDir + "/etcd/ca.crt", Mode: 0o644, Data: []byte("-")})
	mixed, _ := etcdHost(t, m, all)
	mixed.Host.(*hosttest.Fake).Put(host.File{Path: config.PKIDir + "/etcd/healthcheck-client.key", Mode: 0o600, Data: otherKey(t)})
	for _, tt := range []struct {
		name string
		node *Node
		want string
	}{
		{"blank", blank, ErrNoCluster.Error()},
		{"without keys", half, ErrNoCluster.Error()},
		{"lost", lost, "cp-1: read /etc/kubernetes/pki/etcd/ca.crt: "},
		{"a CA that is none", bad, "cp-1: /etc/kubernetes/pki/etcd/ca.crt holds no certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Cluster{Config: &config.Cluster{}, Nodes: []*Node{tt.node}}
			if _, err := c.Etcd(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	// One certificate that does not fit its key leaves the other.
	c := &Cluster{Config: &config.Cluster{}, Nodes: []*Node{mixed}}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Etcd(t.Context()); err != nil {
		t.Error(err)
	}
}

func otherKey(t *testing.T) []byte {
	return etcdtest.NewTLS(t).Member("cp-9").PKI()[config.PKIDir+"/etcd/healthcheck-client.key"]
}
