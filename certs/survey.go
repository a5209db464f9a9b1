package certs

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

const replaceOrRemove = "put the right file there, or remove it"

// task is a finding with the way to mend it.
type task struct {
	Finding
	key     crypto.Signer // an existing key to use; nil: a new one is made before issue is called
	keyless bool          // issue needs no key

	// issue returns the files of the row. Those that are not among Finding.Paths stand already.
	issue func(key crypto.Signer) ([]File, error)
}

// authority is a CA as it stands or, once its task is done, as it was made.
type authority struct {
	certificate
	chain  []*x509.Certificate // of its file: the signer, then others that are trusted too; empty: to be made
	key    crypto.Signer       // nil, with a chain: an external CA, whose key is elsewhere
	broken bool                // an error tells why; what it signs is not looked at
}

// surveyor goes through the tables and notes what is to be made and what only a human can mend.
type surveyor struct {
	have        Files
	settings    Settings
	now         time.Time
	authorities map[string]*authority
	tasks       []*task
	errs        []error
}

func newSurveyor(have Files, s Settings, now time.Time) (*surveyor, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	return &surveyor{have: have, settings: s, now: now, authorities: make(map[string]*authority)}, nil
}

// result is what is to be made, or all that keeps it from being made.
func (v *surveyor) result() ([]*task, error) {
	if len(v.errs) > 0 {
		return nil, errors.Join(v.errs...)
	}
	return v.tasks, nil
}

// add notes what is to be made at the paths.
func (v *surveyor) add(name, reason string, key crypto.Signer, issue func(crypto.Signer) ([]File, error), paths ...string) {
	v.tasks = append(v.tasks, &task{Finding: Finding{name, paths, reason}, key: key, issue: issue})
}

// fail notes an error at a path, with what to do about it.
func (v *surveyor) fail(path, hint, format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf("%s: %w; hint: %s", path, fmt.Errorf(format, args...), hint))
}

// parsed reads the file at path with parse. The zero T stands for a file that does not exist, or, with false, for one
// that parse refuses.
func parsed[T any](v *surveyor, path string, parse func([]byte) (T, error)) (value T, ok bool) {
	data, exists := v.have[path]
	if !exists {
		return value, true
	}
	value, err := parse(data)
	if err != nil {
		v.fail(path, replaceOrRemove, "%w", err)
		return value, false
	}
	return value, true
}

// authority looks at a CA. It is made when nothing of it is there, and completed from its key when the run that made it
// was cut after the first of two files.
func (v *surveyor) authority(c certificate) {
	a := &authority{certificate: c}
	v.authorities[c.name] = a
	before := len(v.errs)
	v.inspect(a)
	a.broken = len(v.errs) > before
}

func (v *surveyor) inspect(a *authority) {
	chain, okCert := parsed(v, a.certPath(), ParseCertificates)
	key, okKey := parsed(v, a.keyPath(), parseKey)
	if !okCert || !okKey {
		return
	}
	a.chain, a.key = chain, key
	issue := func(key crypto.Signer) ([]File, error) { return v.makeAuthority(a, key) }

	const replace = "put the cluster's CA there; myadm does not replace one, as all that trusts it would be cut off"
	switch {
	case chain == nil && !v.settings.First:
		v.fail(a.certPath(), "copy it from the cluster's first control plane", "missing")
	case chain == nil && key == nil:
		v.add(a.name, "missing", nil, issue, a.keyPath(), a.certPath())
	case chain == nil:
		v.add(a.name, "certificate missing", key, issue, a.certPath())
	case !mayCertify(chain[0]):
		v.fail(a.certPath(), replace, "not a CA")
	case v.now.After(chain[0].NotAfter):
		v.fail(a.certPath(), replace, "CA expired on %s", date(chain[0].NotAfter))
	case v.now.Before(chain[0].NotBefore):
		v.fail(a.certPath(), "set the clock", "CA is not valid before %s", date(chain[0].NotBefore))
	case key != nil && !belongs(chain[0].PublicKey, key):
		v.fail(a.certPath(), replace, "certificate and key %s do not belong together", a.keyPath())
	}
}

// certificate looks at what an authority signs.
func (v *surveyor) certificate(c certificate) {
	ca := v.authorities[c.ca]
	chain, okCert := parsed(v, c.certPath(), ParseCertificates)
	key, okKey := parsed(v, c.keyPath(), parseKey)
	if ca.broken || !okCert || !okKey {
		return
	}
	reason := v.flaw(chain, key, c.identity, ca)
	if reason == "" || !v.canSign(ca, c.certPath(), reason) {
		return
	}
	v.add(c.name, reason, nil, func(key crypto.Signer) ([]File, error) {
		return v.makeCertificate(c, ca, key)
	}, c.keyPath(), c.certPath())
}

// canSign tells whether ca can mend what stands at path, and notes an error when its key is elsewhere.
func (v *surveyor) canSign(ca *authority, path, reason string) bool {
	if ca.chain != nil && ca.key == nil {
		v.fail(path, fmt.Sprintf("put a valid one there, signed by %s, or put the CA's key at %s", ca.certPath(), ca.keyPath()),
			"%s, and the key to sign another is not on this host", reason)
		return false
	}
	return true
}

// serviceAccount looks at the key pair of service account tokens.
func (v *surveyor) serviceAccount() {
	key, okKey := parsed(v, saKey, parseKey)
	public, okPub := parsed(v, saPub, parsePublicKeys)
	switch {
	case !okKey || !okPub:
	case key == nil && !v.settings.First:
		v.fail(saKey, "copy it from the cluster's first control plane", "missing")
	case key == nil:
		v.add("sa", "missing", nil, makeKeyPair, saKey, saPub)
	case !slices.ContainsFunc(public, func(p any) bool { return belongs(p, key) }):
		reason := "public key missing"
		if public != nil {
			reason = "key does not match"
		}
		v.add("sa", reason, key, makeKeyPair, saPub)
	}
}

// flaw says why a certificate with its key does not serve as id, signed by ca. It is empty when it does. Names, usages
// and days of life beyond the wanted ones are fine, and so is any kind of key.
func (v *surveyor) flaw(chain []*x509.Certificate, key crypto.Signer, id identity, ca *authority) string {
	switch {
	case chain == nil && key == nil:
		return "missing"
	case chain == nil:
		return "certificate missing"
	case key == nil:
		return "key missing"
	case ca.chain == nil:
		return ca.name + " is new"
	}
	leaf := chain[0]
	switch {
	case !belongs(leaf.PublicKey, key):
		return "key does not match"
	case v.untimely(leaf) != "":
		return v.untimely(leaf)
	case !signed(chain, ca.chain, v.now):
		return "not signed by " + ca.name
	case leaf.Subject.CommonName != id.commonName(v.settings):
		return fmt.Sprintf("issued to %q, not to %q", leaf.Subject.CommonName, id.commonName(v.settings))
	case !slices.Equal(leaf.Subject.Organization, id.organization()):
		return fmt.Sprintf("organization is %q, not %q", leaf.Subject.Organization, id.organization())
	}
	for _, usage := range id.usages {
		if !slices.Contains(leaf.ExtKeyUsage, usage) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
			return "lacks usage " + usageNames[usage]
		}
	}
	for _, san := range id.names(v.settings) {
		if leaf.VerifyHostname(san) != nil {
			return "lacks SAN " + san
		}
	}
	return ""
}

// untimely says why a certificate does not serve at this time. It is empty when it does.
func (v *surveyor) untimely(c *x509.Certificate) string {
	switch {
	case v.now.After(c.NotAfter):
		return "expired on " + date(c.NotAfter)
	case v.now.Before(c.NotBefore):
		return "not valid before " + date(c.NotBefore)
	}
	return ""
}

// signed tells whether a chain of certificates leads from its first to one of the roots.
func signed(chain, roots []*x509.Certificate, now time.Time) bool {
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, c := range roots {
		options.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(options)
	return err == nil
}

// mayCertify tells whether others accept what the certificate's key signs.
func mayCertify(c *x509.Certificate) bool {
	return c.BasicConstraintsValid && c.IsCA && (c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0)
}

func date(t time.Time) string { return t.UTC().Format(time.DateTime + "Z") }
