package certs

import (
	"crypto/x509"
	"slices"

	"github.com/myadm/myadm/config"
)

// SharedPaths returns the files that are the same on all control planes: the authorities with their keys, the key pair of
// service account tokens and, in the place of etcd's authority, what is given for an external etcd.
func SharedPaths(externalEtcd bool) []string {
	var paths []string
	for _, c := range certificates {
		switch {
		case externalEtcd && c.name == etcdCA:
			paths = append(paths, config.EtcdCACert, config.EtcdClientCert, config.EtcdClientKey)
		case c.isCA():
			paths = append(paths, c.certPath(), c.keyPath())
		}
	}
	return append(paths, saKey, saPub)
}

// rows are the certificates that are made for a cluster: with an external etcd, none of etcd's.
func (s Settings) rows() []certificate {
	if !s.ExternalEtcd {
		return certificates
	}
	return slices.DeleteFunc(slices.Clone(certificates), func(c certificate) bool { return c.name == etcdCA || c.ca == etcdCA })
}

// externalEtcd looks at what is given for an external etcd. None of it can be mended here. Who signed the client's
// certificate is not looked at: etcd may trust another authority than the one that signs for its servers.
func (v *surveyor) externalEtcd() {
	const give = "put there the file that spec.etcd.external names"
	missing := false
	for _, path := range []string{config.EtcdCACert, config.EtcdClientCert, config.EtcdClientKey} {
		if _, exists := v.have[path]; !exists {
			v.fail(path, give, "missing")
			missing = true
		}
	}
	ca, okCA := parsed(v, config.EtcdCACert, ParseCertificates)
	chain, okCert := parsed(v, config.EtcdClientCert, ParseCertificates)
	key, okKey := parsed(v, config.EtcdClientKey, parseKey)
	if missing || !okCA || !okCert || !okKey {
		return
	}
	// Of several authorities, as there are while one is rotated, some may have ended.
	if !slices.ContainsFunc(ca, func(c *x509.Certificate) bool { return v.untimely(c) == "" }) {
		v.fail(config.EtcdCACert, give, "%s", v.untimely(ca[0]))
	}
	switch leaf := chain[0]; {
	case !belongs(leaf.PublicKey, key):
		v.fail(config.EtcdClientCert, give, "certificate and key %s do not belong together", config.EtcdClientKey)
	case v.untimely(leaf) != "":
		v.fail(config.EtcdClientCert, give, "%s", v.untimely(leaf))
	}
}
