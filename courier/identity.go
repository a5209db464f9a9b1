package courier

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/myadm/myadm/courier/wire"
)

// Identity is who a serving host is, for one time: what it serves with, and what its peers are told.
type Identity struct {
	Certificate string // PEM
	Key         string // PEM (PKCS #8), Ed25519
	Token       string
	Pin         string // hex SHA-256 of the certificate, by which peers know it
}

// validity is how long an identity's certificate is valid. Peers go by the pin, so that the hosts' clocks do not matter.
const validity = 24 * time.Hour

// NewIdentity makes an identity at the time now.
func NewIdentity(now time.Time) (Identity, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("key of a courier: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Identity{}, fmt.Errorf("serial number of a courier: %w", err)
	}
	certificate := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "myadm courier"},
		NotBefore:    now.Add(-validity),
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, public, private)
	if err != nil {
		return Identity{}, fmt.Errorf("certificate of a courier: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Identity{}, fmt.Errorf("key of a courier: %w", err)
	}
	pin := sha256.Sum256(der)
	return Identity{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		Token:       rand.Text(),
		Pin:         hex.EncodeToString(pin[:]),
	}, nil
}

// Serve is the request to serve blobs (paths by SHA-256) on an address of the host; port 0 takes a free one.
func (id Identity) Serve(address string, blobs map[string]string) *wire.Serve {
	return &wire.Serve{Address: address, Certificate: id.Certificate, Key: id.Key, Token: id.Token, Blobs: blobs}
}

// Source is where a peer finds a blob of the host that listens at an address (wire.Listening).
func (id Identity) Source(address, sha256 string) wire.Source {
	u := url.URL{Scheme: "https", Host: address, Path: "/sha256/" + sha256}
	return wire.Source{URL: u.String(), Headers: map[string]string{"Authorization": "Bearer " + id.Token}, Pin: id.Pin}
}
