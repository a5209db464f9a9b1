package certs_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/certs"
)

const (
	etcdCA   = pki + "etcd/ca.crt"
	etcdCert = pki + "apiserver-etcd-client.crt"
	etcdKey  = pki + "apiserver-etcd-client.key"
)

func TestSharedPaths(t *testing.T) {
	for external, want := range map[bool]string{
		false: "ca.crt ca.key front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt etcd/ca.key sa.key sa.pub",
		true:  "ca.crt ca.key front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt apiserver-etcd-client.crt apiserver-etcd-client.key sa.key sa.pub",
	} {
		got := strings.ReplaceAll(strings.Join(certs.SharedPaths(external), " "), pki, "")
		if got != want {
			t.Errorf("external etcd %t\n got %s\nwant %s", external, got, want)
		}
	}
}

// What a control plane is given is all it needs to make the rest by itself.
func TestSharedPathsAreEnough(t *testing.T) {
	for _, external := range []bool{false, true} {
		first, s := withEtcd(t, external)
		s.First, s.NodeName = false, "h2"
		have := certs.Files{}
		for _, path := range certs.SharedPaths(external) {
			have[path] = first[path]
		}
		have = write(have, issue(t, have, s)...)
		if findings := check(t, have, s); len(findings) > 0 {
			t.Errorf("external etcd %t: %+v", external, findings)
		}
	}
}

// withEtcd is a first control plane on which everything was issued, beside an etcd of its own or an external one.
func withEtcd(t testing.TB, external bool) (certs.Files, certs.Settings) {
	t.Helper()
	s := settings()
	if !external {
		return issued(t, s), s
	}
	s.ExternalEtcd = true
	theirs := issued(t, settings())
	given := certs.Files{etcdCA: theirs[etcdCA], etcdCert: theirs[etcdCert], etcdKey: theirs[etcdKey]}
	return write(given, issue(t, given, s)...), s
}

func TestNothingIsMadeForAnExternalEtcd(t *testing.T) {
	have, s := withEtcd(t, true)
	for path := range have {
		if strings.HasPrefix(path, pki+"etcd/") && path != etcdCA {
			t.Errorf("%s was made", path)
		}
	}
	if findings := check(t, have, s); len(findings) > 0 {
		t.Errorf("Check after Issue: %+v", findings)
	}
	list, err := certs.Expirations(have, now)
	i := slices.IndexFunc(list, func(e certs.Expiration) bool { return e.Path == etcdCert })
	if err != nil || i < 0 || !list[i].External {
		t.Errorf("expirations %+v, %v", list, err)
	}
}

// What etcd's administrator has given cannot be mended here, and the error says so.
func TestFilesOfAnExternalEtcd(t *testing.T) {
	const hint = "; hint: put there the file that spec.etcd.external names"
	authority := func(from, to time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid, c.NotBefore, c.NotAfter = true, true, now.Add(from), now.Add(to)
		}
	}
	for _, test := range []struct {
		name  string
		edit  func(t *testing.T, have certs.Files)
		wants []string
	}{
		{"nothing given", func(_ *testing.T, have certs.Files) {
			delete(have, etcdCA)
			delete(have, etcdCert)
			delete(have, etcdKey)
		}, []string{etcdCA + ": missing" + hint, etcdCert + ": missing" + hint, etcdKey + ": missing" + hint}},
		{"garbage", func(_ *testing.T, have certs.Files) { have[etcdCA], have[etcdKey] = []byte("?"), []byte("?") },
			[]string{etcdCA + ": no certificate in PEM form; hint: ", etcdKey + ": no private key in PEM form; hint: "}},
		{"another's key", func(_ *testing.T, have certs.Files) { have[etcdKey] = have[pki+"sa.key"] },
			[]string{etcdCert + ": certificate and key " + etcdKey + " do not belong together" + hint}},
		{"expired", func(t *testing.T, have certs.Files) {
			have[etcdCert], have[etcdKey] = forge(t, have, "", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })
		}, []string{etcdCert + ": expired on 2026-11-22 11:59:59Z" + hint}},
		{"not valid yet", func(t *testing.T, have certs.Files) {
			have[etcdCert], have[etcdKey] = forge(t, have, "", func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) })
		}, []string{etcdCert + ": not valid before 2026-11-22 12:00:01Z" + hint}},
		{"expired authority", func(t *testing.T, have certs.Files) {
			have[etcdCA], _ = forge(t, have, "", authority(-time.Hour, -time.Second))
		}, []string{etcdCA + ": expired on 2026-11-22 11:59:59Z" + hint}},
		{"one of two authorities expired", func(t *testing.T, have certs.Files) {
			old, _ := forge(t, have, "", authority(-time.Hour, -time.Second))
			have[etcdCA] = append(old, have[etcdCA]...)
		}, nil},
		{"signed by another authority than etcd's servers are", func(t *testing.T, have certs.Files) {
			have[etcdCert], have[etcdKey] = forge(t, have, "front-proxy-ca", func(*x509.Certificate) {})
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			have, s := withEtcd(t, true)
			test.edit(t, have)
			findings, err := certs.Check(have, s, now)
			if test.wants != nil {
				wantLines(t, err, test.wants)
			} else if err != nil || len(findings) > 0 {
				t.Errorf("findings %+v, %v", findings, err)
			}
		})
	}
}
