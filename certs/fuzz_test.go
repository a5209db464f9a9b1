package certs_test

import (
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
	})
}
