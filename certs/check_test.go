package certs_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/certs"
)

// Every flaw of a leaf is found, and mended with new files for that leaf alone.
func TestFlawedLeafIsIssuedAnew(t *testing.T) {
	const leaf = pki + "apiserver-kubelet-client"
	both := []string{leaf + ".key", leaf + ".crt"}
	put := func(have certs.Files, cert, key []byte) { have[leaf+".crt"], have[leaf+".key"] = cert, key }
	named := func(c *x509.Certificate) { c.Subject.CommonName = "kube-apiserver-kubelet-client" }

	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, have certs.Files, s *certs.Settings)
		want  certs.Finding
	}{
		{"missing", func(t *testing.T, have certs.Files, s *certs.Settings) {
			delete(have, leaf+".crt")
			delete(have, leaf+".key")
		},
			certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: "missing"}},
		{"no certificate", func(t *testing.T, have certs.Files, s *certs.Settings) { delete(have, leaf+".crt") },
			certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: "certificate missing"}},
		{"no key", func(t *testing.T, have certs.Files, s *certs.Settings) { delete(have, leaf+".key") },
			certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: "key missing"}},
		{"another's key", func(t *testing.T, have certs.Files, s *certs.Settings) { have[leaf+".key"] = have[pki+"apiserver.key"] },
			certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: "key does not match"}},
		{"expired", func(t *testing.T, have certs.Files, s *certs.Settings) {
			cert, key := forge(t, have, "ca", func(c *x509.Certificate) { named(c); c.NotAfter = now.Add(-time.Second) })
			put(have, cert, key)
		}, certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: "expired on 2026-11-22 11:59:59Z"}},
		{"not valid yet", func(t *testing.T, have certs.Files, s *certs.Settings) {
			cert, key := forge(t, have, "ca", func(c *x509.Certificate) { named(c); c.NotBefore = now.Add(time.Second) })
			put(have, cert, key)
		}, certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: "not valid before 2026-11-22 12:00:01Z"}},
		{"another CA", func(t *testing.T, have certs.Files, s *certs.Settings) {
			cert, key := forge(t, have, "front-proxy-ca", named)
			put(have, cert, key)
		}, certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: "not signed by ca"}},
		{"common name", func(t *testing.T, have certs.Files, s *certs.Settings) {
			cert, key := forge(t, have, "ca", func(c *x509.Certificate) { c.Subject.CommonName = "me" })
			put(have, cert, key)
		}, certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: `issued to "me", not to "kube-apiserver-kubelet-client"`}},
		{"organization", func(t *testing.T, have certs.Files, s *certs.Settings) {
			cert, key := forge(t, have, "ca", func(c *x509.Certificate) { named(c); c.Subject.Organization = []string{"system:masters"} })
			put(have, cert, key)
		}, certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: `organization is ["system:masters"], not []`}},
		{"usage", func(t *testing.T, have certs.Files, s *certs.Settings) {
			cert, key := forge(t, have, "ca", func(c *x509.Certificate) {
				named(c)
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			})
			put(have, cert, key)
		}, certs.Finding{Name: "apiserver-kubelet-client", Paths: both, Reason: "lacks usage client"}},
		{"address", func(t *testing.T, have certs.Files, s *certs.Settings) { s.SANs = []string{"10.0.0.1"} },
			certs.Finding{Name: "apiserver", Paths: []string{pki + "apiserver.key", pki + "apiserver.crt"}, Reason: "lacks SAN 10.0.0.1"}},
		{"endpoint", func(t *testing.T, have certs.Files, s *certs.Settings) { s.SANs = []string{"*.example.org"} },
			certs.Finding{Name: "apiserver", Paths: []string{pki + "apiserver.key", pki + "apiserver.crt"}, Reason: "lacks SAN *.example.org"}},
		{"public key", func(t *testing.T, have certs.Files, s *certs.Settings) { delete(have, pki+"sa.pub") },
			certs.Finding{Name: "sa", Paths: []string{pki + "sa.pub"}, Reason: "public key missing"}},
		{"another's public key", func(t *testing.T, have certs.Files, s *certs.Settings) { have[pki+"sa.pub"] = have[pki+"ca.crt"] },
			certs.Finding{Name: "sa", Paths: []string{pki + "sa.pub"}, Reason: "key does not match"}},
		{"service account key", func(t *testing.T, have certs.Files, s *certs.Settings) { delete(have, pki+"sa.key") },
			certs.Finding{Name: "sa", Paths: []string{pki + "sa.key", pki + "sa.pub"}, Reason: "missing"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := settings()
			have := issued(t, s)
			test.spoil(t, have, &s)
			mends(t, have, s, test.want)
		})
	}
}

// mends proves that Check has the one finding, that Issue makes its files and no others, and that all is well then.
func mends(t *testing.T, have certs.Files, s certs.Settings, want certs.Finding) {
	t.Helper()
	findings := check(t, have, s)
	if len(findings) != 1 || findings[0].Name != want.Name || findings[0].Reason != want.Reason || !slices.Equal(findings[0].Paths, want.Paths) {
		t.Fatalf("findings\n got %+v\nwant %+v", findings, want)
	}
	files := issue(t, have, s)
	var paths []string
	for _, f := range files {
		paths = append(paths, f.Path)
	}
	if !slices.Equal(paths, want.Paths) {
		t.Errorf("Issue made %v, want %v", paths, want.Paths)
	}
	if rest := check(t, write(have, files...), s); len(rest) > 0 {
		t.Errorf("Check after Issue: %+v", rest)
	}
}

func TestValidFilesAreKept(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(t *testing.T, have certs.Files, s *certs.Settings)
	}{
		{"another algorithm", func(t *testing.T, have certs.Files, s *certs.Settings) { s.KeyAlgorithm = "ECDSA-P384" }},
		{"another validity", func(t *testing.T, have certs.Files, s *certs.Settings) {
			s.Validity, s.CAValidity = time.Hour, time.Hour
		}},
		{"more names", func(t *testing.T, have certs.Files, s *certs.Settings) {
			s.SANs = []string{"old.example.org", "192.0.2.1"}
			maps.Copy(have, write(have, issue(t, have, *s)...))
			s.SANs = []string{"192.0.2.1"}
		}},
		{"PKCS #8 keys", func(t *testing.T, have certs.Files, s *certs.Settings) {
			for path, data := range have {
				if strings.HasSuffix(path, ".key") {
					der, err := x509.MarshalPKCS8PrivateKey(parseKey(t, data))
					if err != nil {
						t.Fatal(err)
					}
					have[path] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
				}
			}
		}},
		{"text around certificates", func(t *testing.T, have certs.Files, s *certs.Settings) {
			have[pki+"ca.crt"] = slices.Concat([]byte("the CA\n"), have[pki+"ca.crt"], []byte("\n\n"))
		}},
		{"an old service account key beside the new", func(t *testing.T, have certs.Files, s *certs.Settings) {
			have[pki+"sa.pub"] = append(issued(t, *s)[pki+"sa.pub"], have[pki+"sa.pub"]...)
		}},
		{"by an intermediate CA", func(t *testing.T, have certs.Files, s *certs.Settings) {
			caPEM, caKey := forge(t, have, "ca", func(c *x509.Certificate) {
				c.Subject.CommonName, c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = "between", true, true, x509.KeyUsageCertSign, nil
			})
			between := certs.Files{pki + "ca.crt": caPEM, pki + "ca.key": caKey}
			cert, key := forge(t, between, "ca", func(c *x509.Certificate) { c.Subject.CommonName = "kube-apiserver-kubelet-client" })
			have[pki+"apiserver-kubelet-client.crt"], have[pki+"apiserver-kubelet-client.key"] = append(cert, caPEM...), key
		}},
		{"without the CAs' keys", func(t *testing.T, have certs.Files, s *certs.Settings) {
			for _, ca := range []string{"ca", "front-proxy-ca", "etcd/ca"} {
				delete(have, pki+ca+".key")
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := settings()
			have := issued(t, s)
			test.edit(t, have, &s)
			if findings := check(t, have, s); len(findings) > 0 {
				t.Errorf("findings %+v", findings)
			}
		})
	}
}

// What would cut off the cluster, or cannot be read, is left to a human, and the error says what to do.
func TestWhatIsLeftToAHuman(t *testing.T) {
	asCA := func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "kubernetes"}
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	forgeCA := func(t *testing.T, have certs.Files, edit func(*x509.Certificate)) {
		have[pki+"ca.crt"], have[pki+"ca.key"] = forge(t, have, "", func(c *x509.Certificate) { asCA(c); edit(c) })
	}
	for _, test := range []struct {
		name  string
		edit  func(t *testing.T, have certs.Files)
		wants []string // the start of every line
	}{
		{"expired CA", func(t *testing.T, have certs.Files) {
			forgeCA(t, have, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })
		}, []string{pki + "ca.crt: CA expired on 2026-11-22 11:59:59Z; hint: put the cluster's CA there"}},
		{"CA of tomorrow", func(t *testing.T, have certs.Files) {
			forgeCA(t, have, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) })
		}, []string{pki + "ca.crt: CA is not valid before 2026-11-22 12:01:00Z; hint: set the clock"}},
		{"CA that is none", func(t *testing.T, have certs.Files) {
			have[pki+"ca.crt"], have[pki+"ca.key"] = have[pki+"apiserver.crt"], have[pki+"apiserver.key"]
		}, []string{pki + "ca.crt: not a CA; hint: "}},
		{"CA that may not sign", func(t *testing.T, have certs.Files) {
			forgeCA(t, have, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
		}, []string{pki + "ca.crt: not a CA; hint: "}},
		{"another CA's key", func(t *testing.T, have certs.Files) { have[pki+"ca.key"] = have[pki+"etcd/ca.key"] },
			[]string{pki + "ca.crt: certificate and key " + pki + "ca.key do not belong together; hint: "}},
		{"external CA and an invalid leaf", func(t *testing.T, have certs.Files) {
			delete(have, pki+"ca.key")
			delete(have, pki+"apiserver.crt")
			delete(have, "/etc/kubernetes/admin.conf")
		}, []string{
			pki + "apiserver.crt: certificate missing, and the key to sign another is not on this host; hint: put a valid one there, signed by " + pki + "ca.crt, or",
			"/etc/kubernetes/admin.conf: missing, and the key to sign another is not on this host; hint: ",
		}},
		{"garbage", func(t *testing.T, have certs.Files) {
			for _, path := range []string{pki + "ca.crt", pki + "apiserver.key", pki + "sa.pub", "/etc/kubernetes/scheduler.conf"} {
				have[path] = []byte("\x00garbage: [")
			}
			have[pki+"sa.key"] = nil
		}, []string{
			pki + "ca.crt: no certificate in PEM form; hint: put the right file there",
			pki + "apiserver.key: no private key in PEM form; hint: ",
			pki + "sa.key: no private key in PEM form; hint: ",
			pki + "sa.pub: no public key in PEM form; hint: ",
			"/etc/kubernetes/scheduler.conf: not a kubeconfig; hint: ",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			have := issued(t, settings())
			test.edit(t, have)
			_, err := certs.Check(have, settings(), now)
			wantLines(t, err, test.wants)
			if files, err := certs.Issue(have, settings(), now); err == nil || files != nil {
				t.Errorf("Issue made %d files, error %v", len(files), err)
			}
		})
	}
}

func wantLines(t *testing.T, err error, wants []string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(wants) {
		t.Fatalf("want %d errors, got:\n%v", len(wants), err)
	}
	for i, want := range wants {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("error\n got %s\nwant %s...", lines[i], want)
		}
	}
}

// With a new CA all that it signs is new, and what others sign is kept.
func TestNewCATakesItsLeavesAlong(t *testing.T) {
	s := settings()
	have := issued(t, s)
	delete(have, pki+"etcd/ca.crt")
	delete(have, pki+"etcd/ca.key")
	var reasons []string
	for _, f := range check(t, have, s) {
		reasons = append(reasons, f.Name+" "+f.Reason)
	}
	want := "etcd-ca missing, etcd-server etcd-ca is new, etcd-peer etcd-ca is new, etcd-healthcheck-client etcd-ca is new, apiserver-etcd-client etcd-ca is new"
	if got := strings.Join(reasons, ", "); got != want {
		t.Errorf("findings\n got %s\nwant %s", got, want)
	}
	after := write(have, issue(t, have, s)...)
	for path, data := range after {
		isEtcd := strings.Contains(path, "etcd")
		if changed := !bytes.Equal(have[path], data); changed != isEtcd {
			t.Errorf("%s changed: %t", path, changed)
		}
	}
	if findings := check(t, after, s); len(findings) > 0 {
		t.Errorf("Check after Issue: %+v", findings)
	}
}

// A host that moves to another address needs new serving certificates, and clients that point there.
func TestAddressChanges(t *testing.T) {
	s := settings()
	have := issued(t, s)
	s.AdvertiseAddress, s.LocalEndpoint = netip.MustParseAddr("fd00::12"), "[fd00::12]:6443"
	var names []string
	for _, f := range check(t, have, s) {
		names = append(names, f.Name)
	}
	want := "apiserver etcd-server etcd-peer admin.conf super-admin.conf kubelet.conf controller-manager.conf scheduler.conf"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("findings\n got %s\nwant %s", got, want)
	}
	if rest := check(t, write(have, issue(t, have, s)...), s); len(rest) > 0 {
		t.Errorf("Check after Issue: %+v", rest)
	}
}
