package certs

import (
	"slices"
	"strings"

	"github.com/myadm/myadm/config"
)

// etcdCA is the authority of etcd's members and of their clients.
const etcdCA = "etcd-ca"

// What an external etcd's administrator gives: its authority, and a client's certificate. They stand where those of a
// stacked etcd would.
const (
	externalCA   = config.PKIDir + "/etcd/ca.crt"
	externalCert = config.PKIDir + "/apiserver-etcd-client.crt"
	externalKey  = config.PKIDir + "/apiserver-etcd-client.key"
)

// SharedPaths returns the files that are the same on all control planes: the authorities with their keys, the key pair of
// service account tokens, and what an external etcd's administrator has given.
func SharedPaths(externalEtcd bool) []string {
	var paths []string
	for _, c := range certificates {
		switch {
		case externalEtcd && c.name == etcdCA:
			paths = append(paths, externalCA, externalCert, externalKey)
		case c.isCA():
			paths = append(paths, c.certPath(), c.keyPath())
		}
	}
	return append(paths, saKey, saPub)
}

// rows are the certificates that myadm makes for a cluster: with an external etcd, none of etcd's.
func (s Settings) rows() []certificate {
	if !s.ExternalEtcd {
		return certificates
	}
	return slices.DeleteFunc(slices.Clone(certificates), func(c certificate) bool { return c.name == etcdCA || c.ca == etcdCA })
}

// external looks at what was given for an external etcd. None of it can be mended here.
func (v *surveyor) external() {
	const give = "give it as spec.etcd.external in the document"
	for _, path := range []string{externalCA, externalCert, externalKey} {
		if _, exists := v.have[path]; !exists {
			v.fail(path, give, "missing")
			return
		}
	}
	_, okCA := parsed(v, externalCA, ParseCertificates)
	chain, okCert := parsed(v, externalCert, ParseCertificates)
	key, okKey := parsed(v, externalKey, parseKey)
	switch {
	case !okCA || !okCert || !okKey:
	case !belongs(chain[0].PublicKey, key):
		v.fail(externalCert, give, "certificate and key %s do not belong together", externalKey)
	case v.now.After(chain[0].NotAfter):
		v.fail(externalCert, give, "expired on %s", date(chain[0].NotAfter))
	}
}

// secretName is a shared file in terms of kubeadm's Secret kubeadm-certs: its path below the PKI folder with - for /,
// and names of their own for an external etcd's.
func secretName(path string, externalEtcd bool) string {
	if externalEtcd {
		switch path {
		case externalCA:
			return "external-etcd-ca.crt"
		case externalCert:
			return "external-etcd.crt"
		case externalKey:
			return "external-etcd.key"
		}
	}
	return strings.ReplaceAll(strings.TrimPrefix(path, config.PKIDir+"/"), "/", "-")
}
