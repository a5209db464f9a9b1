//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
)

// shared are the files of the PKI that all control planes have alike.
var shared = []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key", "sa.key", "sa.pub"}

// wantWhole checks a cluster that was left alone in the middle of something and then carried on with: nothing is left to do,
// every node is Ready, every API server answers, etcd has these members, each control plane has certificates of the same
// authorities with their keys, pods run, and nothing that was meant for a moment has stayed.
func (s *site) wantWhole(t *testing.T, servers, workers []string) {
	t.Helper()
	s.wantPlan(t, nil)
	all := slices.Concat(servers, workers)
	s.wantReady(t, all...)
	s.wantMembers(t, servers...)
	dialer := impatient(2 * time.Second)
	for _, h := range servers {
		eventually(t, time.Minute, "the API server of "+h, func(ctx context.Context) error {
			return s.readyz(ctx, t, dialer.DialContext, s.address(t, h, "6443"))
		})
	}
	s.wantPKI(t, servers...)
	s.wantCordoned(t)
	s.wantUnlocked(t)
	for _, h := range all {
		if left := s.halfWritten(t, h); left != "" {
			t.Errorf("half-written files are left on %s:\n%s", h, left)
		}
	}
	s.waitAvailable(t)
}

// wantPKI checks that every certificate of the control planes is signed by the authority that it has to be, and is that of
// the key beside it, which nobody else can read, and that all of them have the same authorities.
func (s *site) wantPKI(t *testing.T, servers ...string) {
	t.Helper()
	var first string // folder of the first one's
	for _, host := range servers {
		dir := t.TempDir()
		s.fetch(t, host, "/etc/kubernetes", dir)
		if first == "" {
			first = dir
		}
		for _, name := range shared {
			if !bytes.Equal(read(t, filepath.Join(dir, "pki", name)), read(t, filepath.Join(first, "pki", name))) {
				t.Errorf("%s has another %s than %s", host, name, servers[0])
			}
		}
		for name, want := range certificates("") {
			base := filepath.Join(dir, "pki", name)
			certificate := read(t, base+".crt")
			wantSigned(t, host+": "+name, certificate, read(t, filepath.Join(dir, "pki", want.CA+".crt")))
			wantKeyPair(t, certificate, read(t, base+".key"))
			wantMode(t, base+".key", 0o600)
		}
		for name := range kubeconfigs {
			config, err := clientcmd.LoadFromFile(filepath.Join(dir, name))
			if os.IsNotExist(err) && name == "super-admin.conf" && host != servers[0] {
				continue // only the first control plane has it
			}
			must(t, err)
			user := config.AuthInfos[config.Contexts[config.CurrentContext].AuthInfo]
			wantSigned(t, host+": "+name, user.ClientCertificateData, read(t, filepath.Join(dir, "pki/ca.crt")))
			wantKeyPair(t, user.ClientCertificateData, user.ClientKeyData)
			wantMode(t, filepath.Join(dir, name), 0o600)
		}
	}
}

func wantSigned(t *testing.T, what string, certificate, authority []byte) {
	t.Helper()
	block, _ := pem.Decode(certificate)
	if block == nil {
		t.Fatalf("%s is no certificate: %.40q", what, certificate)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		t.Fatalf("the authority of %s is no certificate", what)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// fleeting are the resources whose objects are named anew each time, or come and go.
var fleeting = append([]string{
	"pods", "replicasets", "controllerrevisions", "endpointslices", "certificatesigningrequests", "clustertrustbundles", "secrets",
}, beating...)

// inventory are the names of the objects that a cluster of these hosts and this document always has.
func (s *site) inventory(t *testing.T) listing {
	t.Helper()
	return s.listObjects(t, fleeting, func(string, unstructured.Unstructured) string { return "" })
}
