package certs_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/util/keyutil"

	"github.com/myadm/myadm/certs"
)

const pki = "/etc/kubernetes/pki/"

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// settings are those of the cluster that the contract's facts were read from.
func settings() certs.Settings {
	return certs.Settings{
		NodeName:         "h1",
		AdvertiseAddress: netip.MustParseAddr("10.89.0.11"),
		ServiceIPs:       []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		DNSDomain:        "cluster.local",
		ClusterName:      "kubernetes",
		LocalEndpoint:    "10.89.0.11:6443",
		KeyAlgorithm:     "ECDSA-P256",
		CAValidity:       87600 * time.Hour,
		Validity:         8760 * time.Hour,
		First:            true,
	}
}

// write puts files in place, as a phase would.
func write(have certs.Files, files ...certs.File) certs.Files {
	have = maps.Clone(have)
	for _, f := range files {
		have[f.Path] = f.Data
	}
	return have
}

// issued is a host on which everything was issued.
func issued(t testing.TB, s certs.Settings) certs.Files {
	t.Helper()
	return write(certs.Files{}, issue(t, certs.Files{}, s)...)
}

func issue(t testing.TB, have certs.Files, s certs.Settings) []certs.File {
	t.Helper()
	files, err := certs.Issue(have, s, now)
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	return files
}

func check(t testing.TB, have certs.Files, s certs.Settings) []certs.Finding {
	t.Helper()
	findings, err := certs.Check(have, s, now)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	return findings
}

// parse returns the first certificate of a file.
func parse(t testing.TB, data []byte) *x509.Certificate {
	t.Helper()
	list, err := certs.ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

func parseKey(t testing.TB, data []byte) crypto.Signer {
	t.Helper()
	key, err := keyutil.ParsePrivateKeyPEM(data)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

// forge signs a certificate of the test's own with a CA of the host, by its base name, and returns its PEM and its key's.
func forge(t testing.TB, have certs.Files, ca string, edit func(*x509.Certificate)) (certPEM, keyPEM []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7),
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	edit(template)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, crypto.Signer(key)
	if ca != "" {
		parent, signer = parse(t, have[pki+ca+".crt"]), parseKey(t, have[pki+ca+".key"])
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err = keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM
}

// nodeClient is what the kubelet's certificate says.
func nodeClient(c *x509.Certificate) {
	c.Subject = pkix.Name{CommonName: "system:node:h1", Organization: []string{"system:nodes"}}
}

func TestIssueIsDoneAfterOneRun(t *testing.T) {
	for _, algorithm := range []string{"ECDSA-P256", "ECDSA-P384", "RSA-2048"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s := settings()
			s.KeyAlgorithm = algorithm
			have := issued(t, s)
			if findings := check(t, have, s); len(findings) > 0 {
				t.Errorf("Check after Issue: %v", findings)
			}
			if files := issue(t, have, s); len(files) > 0 {
				t.Errorf("Issue after Issue made %d files", len(files))
			}
		})
	}
}

func TestOnBlankHostEverythingIsMissing(t *testing.T) {
	var names []string
	for _, f := range check(t, certs.Files{}, settings()) {
		names = append(names, f.Name)
		if f.Reason != "missing" {
			t.Errorf("%s: reason %q", f.Name, f.Reason)
		}
	}
	want := "ca apiserver apiserver-kubelet-client front-proxy-ca front-proxy-client etcd-ca etcd-server etcd-peer " +
		"etcd-healthcheck-client apiserver-etcd-client sa admin.conf super-admin.conf kubelet.conf controller-manager.conf scheduler.conf"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("findings\n got %s\nwant %s", got, want)
	}
}

// Another control plane is given the authorities and the service account key, and makes the rest itself.
func TestLaterControlPlane(t *testing.T) {
	first := issued(t, settings())
	s := settings()
	s.First, s.NodeName, s.AdvertiseAddress, s.LocalEndpoint = false, "h2", netip.MustParseAddr("10.89.0.12"), "10.89.0.12:6443"

	_, err := certs.Issue(certs.Files{}, s, now)
	for _, path := range []string{"ca.crt", "front-proxy-ca.crt", "etcd/ca.crt", "sa.key"} {
		if err == nil || !strings.Contains(err.Error(), pki+path+": missing; hint: copy it from") {
			t.Errorf("without shared files, no word of %s in: %v", path, err)
		}
	}

	have := certs.Files{}
	for _, name := range []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key", "sa.key", "sa.pub"} {
		have[pki+name] = first[pki+name]
	}
	have = write(have, issue(t, have, s)...)
	if _, ok := have["/etc/kubernetes/super-admin.conf"]; ok {
		t.Error("super-admin.conf was made on a later control plane")
	}
	if cn := clientOf(t, have, kubeletConf).Subject.CommonName; cn != "system:node:h2" {
		t.Errorf("the kubelet is %q", cn)
	}
	if !bytes.Equal(have[pki+"ca.crt"], first[pki+"ca.crt"]) {
		t.Error("the CA was replaced")
	}
	if cn := parse(t, have[pki+"etcd/peer.crt"]).Subject.CommonName; cn != "h2" {
		t.Errorf("etcd peer is %q", cn)
	}
	if findings := check(t, have, s); len(findings) > 0 {
		t.Errorf("Check after Issue: %v", findings)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	s := certs.Settings{NodeName: "Not a name", Endpoint: "lb", SANs: []string{"ok.example", "not ok"}, KeyAlgorithm: "DSA"}
	_, err := certs.Check(certs.Files{}, s, now)
	for _, want := range []string{
		`node name "Not a name"`, "advertise address", "service subnet", "no name", `control plane endpoint "lb"`, `local endpoint ""`,
		`SAN "not ok"`, `key algorithm "DSA"`, "CA's validity", "validity 0s",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in: %v", want, err)
		}
	}
}
