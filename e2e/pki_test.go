//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/keyutil"
)

const (
	pki        = "/etc/kubernetes/pki/"
	year       = 365 * 24 * time.Hour
	backdating = 5 * time.Minute
)

// identity is a certificate as the contract has it.
type identity struct {
	CN, O, CA string // of the subject, and the issuer's file below the PKI folder
	Usages    []x509.ExtKeyUsage
	Names     []string // DNS names, then addresses
}

var (
	server = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	client = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	both   = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

// certificates are those of control plane h1 at address, by file below the PKI folder. This is the contract's table,
// and on purpose not the product's.
func certificates(address string) map[string]identity {
	etcd := []string{"h1", "localhost", address, "127.0.0.1", "::1"}
	return map[string]identity{
		"ca":                       {CN: "kubernetes", CA: "ca", Names: []string{"kubernetes"}},
		"front-proxy-ca":           {CN: "front-proxy-ca", CA: "front-proxy-ca", Names: []string{"front-proxy-ca"}},
		"etcd/ca":                  {CN: "etcd-ca", CA: "etcd/ca", Names: []string{"etcd-ca"}},
		"apiserver-kubelet-client": {CN: "kube-apiserver-kubelet-client", CA: "ca", Usages: client},
		"apiserver-etcd-client":    {CN: "kube-apiserver-etcd-client", CA: "etcd/ca", Usages: client},
		"front-proxy-client":       {CN: "front-proxy-client", CA: "front-proxy-ca", Usages: client},
		"etcd/server":              {CN: "h1", CA: "etcd/ca", Usages: both, Names: etcd},
		"etcd/peer":                {CN: "h1", CA: "etcd/ca", Usages: both, Names: etcd},
		"etcd/healthcheck-client":  {CN: "kube-etcd-healthcheck-client", CA: "etcd/ca", Usages: client},
		"apiserver": {CN: "kube-apiserver", CA: "ca", Usages: server, Names: []string{
			"h1", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "10.96.0.1", address,
		}},
	}
}

// kubeconfigs are the clients of the API on h1, by file below /etc/kubernetes. kubelet.conf names a file instead.
var kubeconfigs = map[string]identity{
	"admin.conf":              {CN: "kubernetes-admin", O: "kubeadm:cluster-admins", CA: "ca", Usages: client},
	"super-admin.conf":        {CN: "kubernetes-super-admin", O: "system:masters", CA: "ca", Usages: client},
	"controller-manager.conf": {CN: "system:kube-controller-manager", CA: "ca", Usages: client},
	"scheduler.conf":          {CN: "system:kube-scheduler", CA: "ca", Usages: client},
}

func (s *site) testCertificates(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatalf("%v; hint: apt-get install openssl", err)
	}
	h1, err := s.Host("h1")
	must(t, err)
	dir := t.TempDir()
	s.fetch(t, "h1", "/etc/kubernetes", dir)
	table := certificates(h1.Address.String())

	var wantFiles []string
	for base, want := range table {
		wantFiles = append(wantFiles, base+".crt", base+".key")
		t.Run(base, func(t *testing.T) {
			cert := read(t, filepath.Join(dir, "pki", base+".crt"))
			wantIdentity(t, dir, cert, want)
			wantKeyPair(t, cert, read(t, filepath.Join(dir, "pki", base+".key")))
			wantMode(t, filepath.Join(dir, "pki", base+".crt"), 0o644)
			wantMode(t, filepath.Join(dir, "pki", base+".key"), 0o600)
		})
	}
	for file, want := range kubeconfigs {
		t.Run(file, func(t *testing.T) {
			wantMode(t, filepath.Join(dir, file), 0o600)
			config, err := clientcmd.LoadFromFile(filepath.Join(dir, file))
			must(t, err)
			user, cluster := config.AuthInfos[config.Contexts[config.CurrentContext].AuthInfo], config.Clusters[config.Contexts[config.CurrentContext].Cluster]
			wantIdentity(t, dir, user.ClientCertificateData, want)
			wantKeyPair(t, user.ClientCertificateData, user.ClientKeyData)
			if want := "https://" + h1.Address.String() + ":6443"; cluster.Server != want {
				t.Errorf("server %s, want %s", cluster.Server, want)
			}
			if string(cluster.CertificateAuthorityData) != string(read(t, filepath.Join(dir, "pki/ca.crt"))) {
				t.Errorf("it trusts another authority than ca.crt")
			}
		})
	}
	for _, host := range s.Hosts {
		t.Run("kubelet.conf of "+host.Name, func(t *testing.T) { s.wantKubeletConf(t, host.Name, dir) })
	}
	t.Run("sa is a pair of keys", func(t *testing.T) {
		private, err := keyutil.ParsePrivateKeyPEM(read(t, filepath.Join(dir, "pki/sa.key")))
		must(t, err)
		public, err := keyutil.ParsePublicKeysPEM(read(t, filepath.Join(dir, "pki/sa.pub")))
		must(t, err)
		if key, ok := private.(*ecdsa.PrivateKey); !ok || len(public) != 1 || !key.PublicKey.Equal(public[0]) {
			t.Errorf("sa.pub is not the public half of sa.key (%T)", private)
		}
		wantMode(t, filepath.Join(dir, "pki/sa.key"), 0o600)
		wantFiles = append(wantFiles, "sa.key", "sa.pub")
	})
	t.Run("no other files, and closed folders", func(t *testing.T) {
		got := strings.Fields(s.shell(t, "h1", "cd "+pki+" && find . -type f -printf '%P\n'"))
		slices.Sort(got)
		slices.Sort(wantFiles)
		if diff := cmp.Diff(wantFiles, got); diff != "" {
			t.Errorf("files of the PKI (-want +got):\n%s", diff)
		}
		wantMode(t, filepath.Join(dir, "manifests"), 0o700)
		for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
			wantMode(t, filepath.Join(dir, "manifests", name+".yaml"), 0o600)
		}
	})
}

// wantKubeletConf proves that the kubelet goes by the certificate that it renews itself, and that it is the node's.
func (s *site) wantKubeletConf(t *testing.T, host, controlPlane string) {
	const current = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	config, err := clientcmd.Load([]byte(s.output(t, host, "cat", "/etc/kubernetes/kubelet.conf")))
	must(t, err)
	user := config.AuthInfos[config.Contexts[config.CurrentContext].AuthInfo]
	if user.ClientCertificate != current || user.ClientKey != current || len(user.ClientCertificateData) > 0 || len(user.ClientKeyData) > 0 {
		t.Errorf("kubelet.conf does not simply point at %s: certificate %q, key %q", current, user.ClientCertificate, user.ClientKey)
	}
	if got := strings.Fields(s.output(t, host, "stat", "-Lc", "%a %U", current, "/etc/kubernetes/kubelet.conf")); !slices.Equal(got, []string{"600", "root", "600", "root"}) {
		t.Errorf("mode and owner are %v, want 600 root for both", got)
	}
	certificate := []byte(s.output(t, host, "cat", current))
	wantIdentity(t, controlPlane, certificate, identity{CN: "system:node:" + host, O: "system:nodes", CA: "ca", Usages: client})
	if got := s.shell(t, host, "ls -A /etc/kubernetes"); strings.Contains(got, "bootstrap-kubelet.conf") {
		t.Errorf("bootstrap-kubelet.conf is still there: %s", got)
	}
}

// wantIdentity compares a certificate with the table field by field, and has OpenSSL verify its chain for each use.
func wantIdentity(t *testing.T, dir string, data []byte, want identity) {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		t.Fatalf("it is no certificate: %.40q", data)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	ca := filepath.Join(dir, "pki", want.CA+".crt")
	caBlock, _ := pem.Decode(read(t, ca))
	issuer, err := x509.ParseCertificate(caBlock.Bytes)
	must(t, err)

	got := identity{CN: cert.Subject.CommonName, O: strings.Join(cert.Subject.Organization, ","), CA: want.CA, Usages: cert.ExtKeyUsage, Names: cert.DNSNames}
	for _, ip := range cert.IPAddresses {
		got.Names = append(got.Names, ip.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("certificate (-want +got):\n%s", diff)
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil || cert.Issuer.String() != issuer.Subject.String() {
		t.Errorf("it is not signed by %s: %v", want.CA, err)
	}
	authority := want.Usages == nil
	usage, life := x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment, year
	if authority {
		usage, life = usage|x509.KeyUsageCertSign, 10*year
	}
	// A kubelet renews the certificate that it was given as soon as it runs. The new one is signed by the controller manager,
	// whose rules for key usage and serial number differ, and the kubelet may have come to that or not.
	kubelets := want.O == "system:nodes"
	if cert.KeyUsage != usage && !(kubelets && cert.KeyUsage == x509.KeyUsageDigitalSignature) {
		t.Errorf("key usage %b, want %b", cert.KeyUsage, usage)
	}
	if cert.IsCA != authority || !cert.BasicConstraintsValid || len(cert.ExtraExtensions)+len(cert.EmailAddresses)+len(cert.URIs) > 0 {
		t.Errorf("authority: %v, want %v", cert.IsCA, authority)
	}
	if got := cert.NotAfter.Sub(cert.NotBefore); got < life || got > life+backdating {
		t.Errorf("it lives for %s, want %s", got, life)
	}
	if age := time.Since(cert.NotBefore); age < backdating || age > backdating+time.Hour {
		t.Errorf("it is valid since %s, want 5 minutes before it was made", age)
	}
	if cert.SerialNumber.Sign() <= 0 || !kubelets && cert.SerialNumber.Cmp(new(big.Int).Lsh(big.NewInt(1), 63)) >= 0 {
		t.Errorf("serial number %d is not between 0 and 2^63", cert.SerialNumber)
	}
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() || cert.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		t.Errorf("key %T signed with %s, want ECDSA P-256 with SHA-256", cert.PublicKey, cert.SignatureAlgorithm)
	}
	purposes := map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "sslserver", x509.ExtKeyUsageClientAuth: "sslclient"}
	checks := [][]string{{}}
	for _, usage := range want.Usages {
		checks = append(checks, []string{"-purpose", purposes[usage]})
	}
	for _, check := range checks {
		openssl := exec.CommandContext(t.Context(), "openssl", slices.Concat([]string{"verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", ca}, check)...)
		openssl.Stdin = strings.NewReader(string(data))
		if out, err := openssl.CombinedOutput(); err != nil {
			t.Errorf("openssl verify %v: %v: %s", check, err, out)
		}
	}
}

func wantKeyPair(t *testing.T, certificate, key []byte) {
	t.Helper()
	block, _ := pem.Decode(certificate)
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	private, err := keyutil.ParsePrivateKeyPEM(key)
	must(t, err)
	if ec, ok := private.(*ecdsa.PrivateKey); !ok || !ec.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("the key (%T) is not the certificate's", private)
	}
}

// fetch copies a folder of a host into dir, with the modes of its files.
func (s *site) fetch(t *testing.T, host, source, dir string) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "fetched.tar")
	must(t, os.WriteFile(archive, []byte(s.output(t, host, "tar", "-C", source, "-c", ".")), 0o600))
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-xpf", archive).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("unpack %s of %s: %w: %s", source, host, err, out))
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}
