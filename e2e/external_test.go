//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/keyutil"

	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/build"
)

// TestExternal makes a cluster of two control planes with what somebody else runs: a load balancer in front of them, and an
// etcd on a host of its own.
func TestExternal(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 4, ControlPlanes: 2})
	servers, workers := []string{"h1", "h2"}, []string{"h3"}
	s.follow(t, servers...)
	endpoint := s.balance(t, s.servers)
	external := s.startEtcd(t, "h4")
	change := func(etcd map[string]any) func(spec map[string]any) {
		return func(spec map[string]any) {
			spec["controlPlaneEndpoint"] = endpoint
			spec["etcd"] = map[string]any{"external": etcd}
		}
	}

	t.Run("preflight tells of an etcd that does not answer", func(t *testing.T) {
		wrong := map[string]any{"endpoints": []any{"https://" + s.address(t, "h4", "2999")}}
		for name, value := range external {
			if name != "endpoints" {
				wrong[name] = value
			}
		}
		s := *s
		s.document = s.write(t, servers, workers, change(wrong))
		r := s.myadm(t, nil, s.applyArgs()...)
		if r.code == 0 || !strings.Contains(r.stderr, s.address(t, "h4", "2999")) || !strings.Contains(r.stderr, "hint: ") {
			t.Errorf("it says: %s", r)
		}
		if left := s.shell(t, "h1", "ls /etc/kubernetes 2>/dev/null || true"); left != "" {
			t.Errorf("and it has made %s", left)
		}
	})

	s.document = s.write(t, servers, workers, change(external))
	s.apply(t, "-v")
	s.wantReady(t, "h1", "h2", "h3")
	s.waitAvailable(t)
	for _, h := range servers {
		if left := s.shell(t, h, "ls /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/manifests/haproxy.yaml /var/lib/etcd/member 2>/dev/null || true"); left != "" {
			t.Errorf("%s has %s", h, left)
		}
	}
	s.wantWorkload(t, "h3", "h3")
	s.testApplyAgain(t, "h1", "h2", "h3")

	// With etcd elsewhere, one of two control planes is enough.
	l := s.startLoads(t, "h3")
	l.podGap = clientGoGap // its requests go past the load balancer
	used := servers[s.servers.current()]
	must(t, s.Kill(t.Context(), used))
	l.awaitCalm(t)
	if _, err := s.api(t).CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "alone"}}, metav1.CreateOptions{}); err != nil {
		t.Errorf("one control plane alone: %v", err)
	}
	on := time.Now()
	must(t, s.Start(t.Context(), used))
	s.awaitReturn(t, used, on)
	l.awaitCalm(t)
	l.report(t, "power loss of one of two, "+used+", with an external etcd")
	l.stop(t)
}

// balance is a load balancer on this machine, in front of the API servers, until the test ends. It returns its address, by
// which the hosts reach it.
func (s *site) balance(t *testing.T, servers *failover) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(s.machineIP().String(), "0"))
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go forward(client, servers)
		}
	}()
	return listener.Addr().String()
}

// forward passes on both directions of a connection until one of them ends.
func forward(client net.Conn, servers *failover) {
	defer client.Close()
	server, err := servers.DialContext(context.Background(), "tcp", "")
	if err != nil {
		return
	}
	defer server.Close()
	ended := make(chan struct{}, 2)
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		ended <- struct{}{}
	}
	go pass(server, client)
	go pass(client, server)
	<-ended
}

// startEtcd runs an etcd on a host, as somebody might who knows nothing of myadm, and returns spec.etcd.external.
func (s *site) startEtcd(t *testing.T, host string) map[string]any {
	t.Helper()
	const program, dir = "/usr/local/bin/etcd", "/etc/etcd"
	binary, err := build.Etcd(t.Context(), artifacts())
	must(t, err)
	must(t, s.Copy(t.Context(), host, binary, program))
	h, err := s.Host(host)
	must(t, err)
	files := writeAuthority(t, h.Address)
	must(t, s.Copy(t.Context(), host, files, dir))
	url := "https://" + s.address(t, host, "2379")
	s.output(t, host, "systemd-run", "--unit", "etcd", "--property", "Restart=always", program, "--data-dir", "/var/lib/etcd/data",
		"--listen-client-urls", url, "--advertise-client-urls", url, "--client-cert-auth",
		"--trusted-ca-file", dir+"/ca.crt", "--cert-file", dir+"/server.crt", "--key-file", dir+"/server.key")
	return map[string]any{
		"endpoints": []any{url}, "caFile": filepath.Join(files, "ca.crt"),
		"certFile": filepath.Join(files, "client.crt"), "keyFile": filepath.Join(files, "client.key"),
	}
}

// writeAuthority writes a CA, with a certificate for a server at an address and one for its clients, and returns the folder.
func writeAuthority(t *testing.T, address netip.Addr) string {
	t.Helper()
	dir := t.TempDir()
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, c := range []struct {
		name     string
		template x509.Certificate
	}{
		{"ca", x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}},
		{"server", x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{address.AsSlice()}}},
		{"client", x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}},
	} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		c.template.SerialNumber = big.NewInt(int64(i + 1))
		c.template.Subject = pkix.Name{CommonName: c.name}
		c.template.NotBefore, c.template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		if ca == nil {
			ca, caKey = &c.template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, &c.template, ca, key.Public(), caKey)
		must(t, err)
		private, err := keyutil.MarshalPrivateKeyToPEM(key)
		must(t, err)
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		must(t, os.WriteFile(filepath.Join(dir, c.name+".crt"), certificate, 0o644))
		must(t, os.WriteFile(filepath.Join(dir, c.name+".key"), private, 0o600))
	}
	return dir
}
