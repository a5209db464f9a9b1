package certs_test

import (
	"strings"
	"testing"

	"github.com/myadm/myadm/certs"
)

// Whatever stands in a host's files, nothing panics, and Check and Issue agree on whether there is something to do.
func FuzzFiles(f *testing.F) {
	good := issued(f, settings())
	where := []string{pki + "ca.crt", pki + "ca.key", pki + "apiserver.crt", pki + "sa.key", pki + "sa.pub", adminConf, kubeletConf, kubeletPEM}
	for i, path := range where {
		f.Add(uint8(i), good[path])
		f.Add(uint8(i), good[pki+"apiserver.key"])
		f.Add(uint8(i), good[pki+"etcd/ca.crt"])
	}
	for _, text := range []string{
		"", "{}", "clusters:\n- name: a\n", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
		"contexts:\n- name: a\n  context: {cluster: b, user: c}\ncurrent-context: a\nclusters:\n- name: b\nusers:\n- name: c\n",
		"current-context: a\ncontexts:\n- name: a\n  context:\n- null\nclusters: [null]\nusers: null\n",
	} {
		f.Add(uint8(5), []byte(text))
	}
	f.Fuzz(func(t *testing.T, at uint8, data []byte) {
		have := write(good, certs.File{Path: where[int(at)%len(where)], Data: data})
		s := settings()
		findings, checkErr := certs.Check(have, s, now)
		files, issueErr := certs.Issue(have, s, now)
		if (checkErr == nil) != (issueErr == nil) || (len(findings) == 0) != (len(files) == 0) {
			t.Fatalf("Check: %v, %v; Issue: %d files, %v", findings, checkErr, len(files), issueErr)
		}
		if issueErr == nil {
			if rest := check(t, write(have, files...), s); len(rest) > 0 {
				t.Fatalf("Check after Issue: %v", rest)
			}
		}
		_, _ = certs.Expirations(have, now)
		_, _ = certs.PublicKeyPins(data)
		_, _, _ = certs.FollowRotation(data)
		if out, changed, err := certs.PointAt(data, "https://a:1"); err == nil {
			if _, again, err := certs.PointAt(out, "https://a:1"); err != nil || again {
				t.Fatalf("PointAt twice, the first with a change %t: %t, %v", changed, again, err)
			}
		}
	})
}

// Nothing but what was encrypted with the key comes out of Decrypt, whatever stands in the Secret.
func FuzzDecrypt(f *testing.F) {
	key := certificateKey(f, knownKey)
	shared := certs.Files{} // the same in every process that fuzzes
	for _, path := range certs.SharedPaths(false) {
		shared[path] = []byte(path)
	}
	good := encrypt(f, shared, key, false)
	for _, value := range [][]byte{nil, []byte("short"), good["sa.key"], good["ca.crt"], good["ca.crt"][:28]} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		files, err := certs.Decrypt(map[string][]byte{"sa.pub": value}, key, false)
		plain, opened := files[pki+"sa.pub"]
		switch _, known := shared[string(plain)]; {
		case err != nil && files != nil, err == nil && opened != (len(value) > 0):
			t.Fatalf("%d files, %v", len(files), err)
		case opened && !known:
			t.Fatalf("opened %q", plain)
		}
	})
}

func FuzzParseCertificateKey(f *testing.F) {
	for _, s := range []string{"", knownKey, strings.ToUpper(knownKey), knownKey[1:], knownKey + "0", "zz" + knownKey[2:]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := certs.ParseCertificateKey(s)
		if err == nil && key.Reveal() != strings.ToLower(s) {
			t.Fatalf("%q is read as %q", s, key.Reveal())
		}
		if err != nil && key != (certs.CertificateKey{}) {
			t.Fatalf("%q gives a key and %v", s, err)
		}
	})
}
