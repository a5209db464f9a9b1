// Package etcdtest runs real etcd members inside a test.
package etcdtest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/myadm/myadm/certs"
)

// startTime bounds how long a member may take until it serves clients.
const startTime = 30 * time.Second

// Cluster is a set of members that a test starts one by one.
type Cluster struct {
	// Tune, when not nil, changes a member's configuration before it starts.
	Tune func(*embed.Config)

	t   testing.TB
	pki certs.Files // nil: no TLS
}

// New makes a cluster without members, whose peers and clients do without TLS.
func New(t testing.TB) *Cluster { return &Cluster{t: t} }

// NewTLS makes a cluster without members that has TLS as a control plane's etcd has it. Its authority is made by certs.
func NewTLS(t testing.TB) *Cluster { return &Cluster{t: t, pki: certs.Files{}} }

// Member is an etcd with an address of its own on this machine, and the ports that all etcds have.
type Member struct {
	Name    string
	Address netip.Addr
	Dir     string // its data folder

	c       *Cluster
	running *embed.Etcd
}

// Member makes a member that has not started.
func (c *Cluster) Member(name string) *Member {
	// Members of all tests at the same time: of 16 million loopback addresses each takes one by chance.
	address := netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(254)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
	return &Member{Name: name, Address: address, Dir: filepath.Join(c.t.TempDir(), "etcd"), c: c}
}

// Start makes a cluster of the name's member and returns it.
func (c *Cluster) Start(name string) *Member {
	c.t.Helper()
	m := c.Member(name)
	m.Start()
	return m
}

func (m *Member) url(port int) string {
	scheme := "http"
	if m.c.pki != nil {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s:%d", scheme, m.Address, port)
}

// PeerURL is where the other members reach it.
func (m *Member) PeerURL() string { return m.url(2380) }

// ClientURL is where it serves clients.
func (m *Member) ClientURL() string { return m.url(2379) }

// Start runs the member until it serves clients. others are the members of the cluster that it joins; without them and
// without data it is a cluster of its own. It stops with the test.
func (m *Member) Start(others ...*Member) {
	t := m.c.t
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = m.Name, m.Dir
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = urls(t, m.PeerURL()), urls(t, m.PeerURL())
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = urls(t, m.ClientURL()), urls(t, m.ClientURL())
	cfg.InitialCluster = m.Name + "=" + m.PeerURL()
	for _, o := range others {
		cfg.InitialCluster += "," + o.Name + "=" + o.PeerURL()
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	cfg.TickMs, cfg.ElectionMs = 50, 500 // half of what is usual: enough for a busy machine, too
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	if m.c.pki != nil {
		m.secure(cfg)
	}
	if m.c.Tune != nil {
		m.c.Tune(cfg)
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("start etcd %s: %v", m.Name, err)
	}
	m.running = e
	t.Cleanup(m.Stop)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatalf("etcd %s: %v", m.Name, err)
	case <-time.After(startTime):
		t.Fatalf("etcd %s did not come up", m.Name)
	}
}

// Stop ends the member, and keeps its data. It is as sudden as a crash: a leader that hands over would wait for the
// others, which may have stopped already.
func (m *Member) Stop() {
	if m.running != nil {
		m.running.Server.HardStop()
		m.running.Close()
		m.running = nil
	}
}

// ID is the member's ID. It must be running.
func (m *Member) ID() uint64 { return uint64(m.running.Server.MemberID()) }

// PKI is the content of a control plane's certificates and keys, by path.
func (m *Member) PKI() certs.Files {
	t := m.c.t
	t.Helper()
	files, err := certs.Issue(m.c.pki, certs.Settings{
		NodeName: m.Name, AdvertiseAddress: m.Address, ServiceIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		ClusterName: "test", LocalEndpoint: net.JoinHostPort(m.Address.String(), "6443"), KeyAlgorithm: "ECDSA-P256",
		CAValidity: time.Hour, Validity: time.Hour, First: true,
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	have := certs.Files{}
	for path, data := range m.c.pki {
		have[path] = data
	}
	for _, f := range files {
		have[f.Path] = f.Data
		if strings.HasSuffix(f.Path, "/etcd/ca.crt") || strings.HasSuffix(f.Path, "/etcd/ca.key") {
			m.c.pki[f.Path] = f.Data // one authority for all members
		}
	}
	return have
}

// ClientTLS is what a client of the cluster presents and trusts.
func (m *Member) ClientTLS() *tls.Config {
	t := m.c.t
	t.Helper()
	if m.c.pki == nil {
		return nil
	}
	pki := m.PKI()
	pair, err := tls.X509KeyPair(pki["/etc/kubernetes/pki/etcd/healthcheck-client.crt"], pki["/etc/kubernetes/pki/etcd/healthcheck-client.key"])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pki["/etc/kubernetes/pki/etcd/ca.crt"])
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}
}

func (m *Member) secure(cfg *embed.Config) {
	dir, pki := m.c.t.TempDir(), m.PKI()
	place := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pki["/etc/kubernetes/pki/etcd/"+name], 0o600); err != nil {
			m.c.t.Fatal(err)
		}
		return path
	}
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = place("server.crt"), place("server.key")
	cfg.PeerTLSInfo.CertFile, cfg.PeerTLSInfo.KeyFile = place("peer.crt"), place("peer.key")
	ca := place("ca.crt")
	cfg.ClientTLSInfo.TrustedCAFile, cfg.PeerTLSInfo.TrustedCAFile = ca, ca
	cfg.ClientTLSInfo.ClientCertAuth, cfg.PeerTLSInfo.ClientCertAuth = true, true
}

func urls(t testing.TB, s string) []url.URL {
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return []url.URL{*u}
}
