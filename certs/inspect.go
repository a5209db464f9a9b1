package certs

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/util/cert"
)

// ParseCertificates returns the certificates of a PEM file, at least one. Other blocks, such as a key, are passed over.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	certs, err := cert.ParseCertsPEM(data)
	if err != nil {
		return nil, errors.New("no certificate in PEM form")
	}
	return certs, nil
}

// PublicKeyPin returns the pin of the first certificate of a PEM file, as join's --discovery-token-ca-cert-hash has it:
// sha256: and the hex of the SHA-256 over its SubjectPublicKeyInfo in DER.
func PublicKeyPin(caPEM []byte) (string, error) {
	pins, err := PublicKeyPins(caPEM)
	if err != nil {
		return "", err
	}
	return pins[0], nil
}

// PublicKeyPins returns the pin of every certificate of a PEM file, which holds several while a CA is rotated.
func PublicKeyPins(caPEM []byte) ([]string, error) {
	certs, err := ParseCertificates(caPEM)
	if err != nil {
		return nil, err
	}
	var pins []string
	for _, c := range certs {
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		pins = append(pins, "sha256:"+hex.EncodeToString(sum[:]))
	}
	return pins, nil
}

// Expiration is how long a certificate lasts.
type Expiration struct {
	Name     string        // of a row in the tables
	Path     string        // the certificate, or the kubeconfig that embeds or names it
	CA       string        // the name of the authority that signs it; an authority signs itself
	NotAfter time.Time     // UTC
	Left     time.Duration // negative: it has expired
	External bool          // the authority's key is not on this host, and so it cannot be renewed here
}

// Expirations lists the certificates of a host in the order of the tables. Those that do not exist are left out. The
// error names all files that cannot be parsed; the others are listed all the same.
func Expirations(have Files, now time.Time) ([]Expiration, error) {
	var list []Expiration
	var errs []error
	external := make(map[string]bool) // by authority
	look := func(name, path, ca string, parse func([]byte) ([]*x509.Certificate, error)) {
		data, exists := have[path]
		if !exists {
			return
		}
		chain, err := parse(data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w; hint: %s", path, err, replaceOrRemove))
		}
		if len(chain) > 0 {
			end := chain[0].NotAfter.UTC()
			list = append(list, Expiration{name, path, ca, end, end.Sub(now), external[ca]})
		}
	}
	for _, c := range certificates {
		if c.isCA() {
			_, signs := have[c.keyPath()]
			external[c.name] = !signs
		}
		look(c.name, c.certPath(), cmp.Or(c.ca, c.name), ParseCertificates)
	}
	for _, k := range kubeconfigs {
		look(k.name, k.path, rootCA, have.clientChain)
	}
	return list, errors.Join(errs...)
}

// clientChain returns the certificate that the user of a kubeconfig presents; nil when there is none.
func (f Files) clientChain(kubeconfig []byte) ([]*x509.Certificate, error) {
	conf, err := parseKubeconfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	_, user := inUse(conf)
	if user == nil {
		return nil, nil
	}
	chain, _, err := f.credentials(user)
	return chain, err
}
