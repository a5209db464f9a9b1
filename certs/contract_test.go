package certs_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/myadm/myadm/certs"
)

// row is the contract's word on one certificate.
type row struct {
	file, ca, cn, org string
	usage             string
	dns, ips          string
}

const etcdIPs = "10.89.0.11 127.0.0.1 ::1"

// contract is what kubeadm v1.37.2 made on the host of settings().
var contract = []row{
	{file: "ca", ca: "ca", cn: "kubernetes", dns: "kubernetes"},
	{file: "apiserver", ca: "ca", cn: "kube-apiserver", usage: "server",
		dns: "h1 kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local", ips: "10.96.0.1 10.89.0.11"},
	{file: "apiserver-kubelet-client", ca: "ca", cn: "kube-apiserver-kubelet-client", usage: "client"},
	{file: "front-proxy-ca", ca: "front-proxy-ca", cn: "front-proxy-ca", dns: "front-proxy-ca"},
	{file: "front-proxy-client", ca: "front-proxy-ca", cn: "front-proxy-client", usage: "client"},
	{file: "etcd/ca", ca: "etcd/ca", cn: "etcd-ca", dns: "etcd-ca"},
	{file: "etcd/server", ca: "etcd/ca", cn: "h1", usage: "server client", dns: "h1 localhost", ips: etcdIPs},
	{file: "etcd/peer", ca: "etcd/ca", cn: "h1", usage: "server client", dns: "h1 localhost", ips: etcdIPs},
	{file: "etcd/healthcheck-client", ca: "etcd/ca", cn: "kube-etcd-healthcheck-client", usage: "client"},
	{file: "apiserver-etcd-client", ca: "etcd/ca", cn: "kube-apiserver-etcd-client", usage: "client"},
	{file: "admin.conf", ca: "ca", cn: "kubernetes-admin", org: "kubeadm:cluster-admins", usage: "client"},
	{file: "super-admin.conf", ca: "ca", cn: "kubernetes-super-admin", org: "system:masters", usage: "client"},
	{file: "kubelet.conf", ca: "ca", cn: "system:node:h1", org: "system:nodes", usage: "client"},
	{file: "controller-manager.conf", ca: "ca", cn: "system:kube-controller-manager", usage: "client"},
	{file: "scheduler.conf", ca: "ca", cn: "system:kube-scheduler", usage: "client"},
}

func TestContract(t *testing.T) {
	have := issued(t, settings())
	serials := make(map[string]bool)
	for _, want := range contract {
		t.Run(want.file, func(t *testing.T) {
			cert := contractCert(t, have, want.file)
			isCA := want.usage == ""
			if got := describe(cert, want); got != want {
				t.Errorf("\n got %+v\nwant %+v", got, want)
			}

			usage := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
			validity := 365 * 24 * time.Hour
			if isCA {
				usage |= x509.KeyUsageCertSign
				validity *= 10
			}
			if cert.KeyUsage != usage {
				t.Errorf("key usage %b, want %b", cert.KeyUsage, usage)
			}
			if !cert.BasicConstraintsValid || cert.IsCA != isCA || cert.MaxPathLen != -1 {
				t.Errorf("basic constraints: valid %t, CA %t, path length %d", cert.BasicConstraintsValid, cert.IsCA, cert.MaxPathLen)
			}
			for _, oid := range []string{"2.5.29.15", "2.5.29.19"} { // key usage, basic constraints
				if !slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.String() == oid && e.Critical }) {
					t.Errorf("extension %s is not critical", oid)
				}
			}
			if !cert.NotBefore.Equal(now.Add(-5*time.Minute)) || !cert.NotAfter.Equal(now.Add(validity)) {
				t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
			}
			if cert.SerialNumber.Sign() <= 0 || !cert.SerialNumber.IsInt64() || serials[cert.SerialNumber.String()] {
				t.Errorf("serial number %s", cert.SerialNumber)
			}
			serials[cert.SerialNumber.String()] = true

			ca := parse(t, have[pki+want.ca+".crt"])
			if err := cert.CheckSignatureFrom(ca); err != nil {
				t.Error(err)
			}
			if len(ca.SubjectKeyId) == 0 || (!isCA && string(cert.AuthorityKeyId) != string(ca.SubjectKeyId)) {
				t.Errorf("authority key id %x, CA's subject key id %x", cert.AuthorityKeyId, ca.SubjectKeyId)
			}
		})
	}
}

// contractCert returns the certificate of a row, from its own file or from a kubeconfig.
func contractCert(t *testing.T, have certs.Files, file string) *x509.Certificate {
	t.Helper()
	if !strings.HasSuffix(file, ".conf") {
		return parse(t, have[pki+file+".crt"])
	}
	conf, err := clientcmd.Load(have["/etc/kubernetes/"+file])
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, conf.AuthInfos[conf.Contexts[conf.CurrentContext].AuthInfo].ClientCertificateData)
}

// describe puts a certificate in the contract's words.
func describe(cert *x509.Certificate, want row) row {
	got := row{file: want.file, ca: want.ca, cn: cert.Subject.CommonName, org: strings.Join(cert.Subject.Organization, ","),
		dns: strings.Join(cert.DNSNames, " "), ips: join(cert.IPAddresses)}
	var usages []string
	for _, u := range cert.ExtKeyUsage {
		usages = append(usages, map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "server", x509.ExtKeyUsageClientAuth: "client"}[u])
	}
	got.usage = strings.Join(usages, " ")
	return got
}

func join(ips []net.IP) string {
	var list []string
	for _, ip := range ips {
		list = append(list, ip.String())
	}
	return strings.Join(list, " ")
}

func TestAPIServerSANs(t *testing.T) {
	const cluster = "kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local"
	for _, test := range []struct {
		name     string
		edit     func(*certs.Settings)
		dns, ips string
	}{
		{"endpoint name and user's names", func(s *certs.Settings) {
			s.Endpoint, s.SANs = "api.example.org:6443", []string{"*.example.org", "192.0.2.7", "h1", "10.96.0.1"}
		}, "h1 " + cluster + " api.example.org *.example.org", "10.96.0.1 10.89.0.11 192.0.2.7"},
		{"endpoint address", func(s *certs.Settings) { s.Endpoint = "192.0.2.1:443" },
			"h1 " + cluster, "10.96.0.1 10.89.0.11 192.0.2.1"},
		{"IPv6", func(s *certs.Settings) {
			s.AdvertiseAddress, s.LocalEndpoint = netip.MustParseAddr("fd00::11"), "[fd00::11]:6443"
			s.ServiceIPs, s.Endpoint = []netip.Addr{netip.MustParseAddr("fd01::1")}, "[fd00:0:0::100]:6443"
		}, "h1 " + cluster, "fd01::1 fd00::11 fd00::100"},
		{"dual-stack", func(s *certs.Settings) {
			s.ServiceIPs = append(s.ServiceIPs, netip.MustParseAddr("fd01::1"))
			s.AdvertiseAddress = netip.MustParseAddr("::ffff:10.89.0.11")
		}, "h1 " + cluster, "10.96.0.1 fd01::1 10.89.0.11"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := settings()
			test.edit(&s)
			have := issued(t, s)
			cert := parse(t, have[pki+"apiserver.crt"])
			if got := strings.Join(cert.DNSNames, " "); got != test.dns {
				t.Errorf("DNS names\n got %s\nwant %s", got, test.dns)
			}
			if got := join(cert.IPAddresses); got != test.ips {
				t.Errorf("addresses\n got %s\nwant %s", got, test.ips)
			}
			if findings := check(t, have, s); len(findings) > 0 {
				t.Errorf("Check after Issue: %v", findings)
			}
		})
	}
}

func TestKeysAndModes(t *testing.T) {
	for algorithm, want := range map[string]struct{ block, kind string }{
		"ECDSA-P256": {"EC PRIVATE KEY", "P-256"},
		"ECDSA-P384": {"EC PRIVATE KEY", "P-384"},
		"RSA-2048":   {"RSA PRIVATE KEY", "2048"},
		"RSA-3072":   {"RSA PRIVATE KEY", "3072"},
	} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s := settings()
			// Only the service account key: the others are made in the same way, and RSA takes its time.
			have := issued(t, s)
			delete(have, pki+"sa.key")
			s.KeyAlgorithm = algorithm
			files := issue(t, have, s)
			if len(files) != 2 || files[0].Path != pki+"sa.key" || files[1].Path != pki+"sa.pub" {
				t.Fatalf("files %v", files)
			}
			if block, _ := pem.Decode(files[0].Data); block.Type != want.block {
				t.Errorf("private key in a block of type %s", block.Type)
			}
			block, _ := pem.Decode(files[1].Data)
			if block.Type != "PUBLIC KEY" {
				t.Errorf("public key in a block of type %s", block.Type)
			}
			public, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			kind := ""
			switch public := public.(type) {
			case *ecdsa.PublicKey:
				kind = public.Params().Name
			case *rsa.PublicKey:
				kind = fmt.Sprint(public.N.BitLen())
			}
			if kind != want.kind {
				t.Errorf("key of kind %q, want %q", kind, want.kind)
			}
		})
	}

	for _, f := range issue(t, certs.Files{}, settings()) {
		want := 0o600
		if strings.HasSuffix(f.Path, ".crt") {
			want = 0o644
		}
		if int(f.Mode) != want {
			t.Errorf("%s has mode %o", f.Path, f.Mode)
		}
	}
}

func TestLeafEndsWithItsCA(t *testing.T) {
	s := settings()
	s.CAValidity = time.Hour
	have := issued(t, s)
	ca, leaf := parse(t, have[pki+"ca.crt"]), parse(t, have[pki+"apiserver.crt"])
	if !leaf.NotAfter.Equal(ca.NotAfter) || !ca.NotAfter.Equal(now.Add(time.Hour)) {
		t.Errorf("leaf ends %s, CA ends %s", leaf.NotAfter, ca.NotAfter)
	}
}
