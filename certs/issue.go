package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math"
	"math/big"
	"net"
	"time"

	"k8s.io/client-go/util/keyutil"
)

const (
	modeSecret = 0o600
	modePublic = 0o644
)

// backdate lets a certificate serve on hosts whose clock is behind, by as much as kubeadm's do.
const backdate = 5 * time.Minute

// What certificates may be used for, beside the extended usages of their row.
const keyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment

// makeAuthority signs the CA with its own key, and leaves both in a for what it signs.
func (v *surveyor) makeAuthority(a *authority, key crypto.Signer) ([]File, error) {
	template, err := v.template(a.identity, v.now.Add(v.settings.CAValidity))
	if err != nil {
		return nil, err
	}
	template.DNSNames = []string{a.cn}
	template.KeyUsage |= x509.KeyUsageCertSign
	template.IsCA = true
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	a.chain, a.key = []*x509.Certificate{cert}, key
	return pair(a.certificate, cert, key)
}

// makeCertificate has ca sign a certificate for the key.
func (v *surveyor) makeCertificate(c certificate, ca *authority, key crypto.Signer) ([]File, error) {
	cert, err := v.issue(c.identity, ca, key.Public())
	if err != nil {
		return nil, err
	}
	return pair(c, cert, key)
}

// makeKeyPair returns the two files of the service account key.
func makeKeyPair(key crypto.Signer) ([]File, error) {
	private, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, err
	}
	public, err := encodePublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return []File{{saKey, modeSecret, private}, {saPub, modeSecret, public}}, nil // kubeadm keeps sa.pub at 0600 too
}

// pair returns the two files of a certificate, the key first.
func pair(c certificate, cert *x509.Certificate, key crypto.Signer) ([]File, error) {
	private, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return nil, err
	}
	return []File{
		{c.keyPath(), modeSecret, private},
		{c.certPath(), modePublic, encodeCertificates([]*x509.Certificate{cert})},
	}, nil
}

// issue signs a certificate that says id of the holder of a key. It ends with the CA at the latest: nobody accepts it
// for longer.
func (v *surveyor) issue(id identity, ca *authority, public crypto.PublicKey) (*x509.Certificate, error) {
	notAfter := v.now.Add(v.settings.Validity)
	if end := ca.chain[0].NotAfter; notAfter.After(end) {
		notAfter = end
	}
	template, err := v.template(id, notAfter)
	if err != nil {
		return nil, err
	}
	for _, name := range id.names(v.settings) {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return sign(template, ca.chain[0], public, ca.key)
}

// template is what all certificates have in common. The serial number is random, positive and below 2^63.
func (v *surveyor) template(id identity, notAfter time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(math.MaxInt64))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: id.commonName(v.settings), Organization: id.organization()},
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		NotBefore:             v.now.Add(-backdate).UTC(),
		NotAfter:              notAfter.UTC(),
		KeyUsage:              keyUsage,
		ExtKeyUsage:           id.usages,
		BasicConstraintsValid: true,
	}, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
