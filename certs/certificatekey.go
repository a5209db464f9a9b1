package certs

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// certificateKeySize is AES-256's, in bytes.
const certificateKeySize = 32

// CertificateKey opens what control planes share and Secret kubeadm-certs keeps for those that join. The zero key is none.
// Printed by mistake, a key shows nothing of itself.
type CertificateKey struct{ hex string }

// NewCertificateKey makes a key from a source of randomness, in general crypto/rand.Reader.
func NewCertificateKey(rand io.Reader) (CertificateKey, error) {
	var key [certificateKeySize]byte
	if _, err := io.ReadFull(rand, key[:]); err != nil {
		return CertificateKey{}, fmt.Errorf("make a certificate key: %w", err)
	}
	return CertificateKey{hex.EncodeToString(key[:])}, nil
}

// ParseCertificateKey reads a key as kubeadm prints it: 64 hex digits. Its errors do not quote what it was given.
func ParseCertificateKey(s string) (CertificateKey, error) {
	key, err := hex.DecodeString(s)
	if err != nil || len(key) != certificateKeySize {
		return CertificateKey{}, fmt.Errorf("not a certificate key of %d hex digits; hint: `myadm init phase upload-certs` prints one", hex.EncodedLen(certificateKeySize))
	}
	return CertificateKey{hex.EncodeToString(key)}, nil
}

// Reveal returns the key as one writes it.
func (k CertificateKey) Reveal() string { return k.hex }

// String hides the key.
func (k CertificateKey) String() string {
	if k.hex == "" {
		return "none"
	}
	return "hidden"
}

// GoString keeps %#v from showing the key.
func (k CertificateKey) GoString() string { return "certs.CertificateKey(" + k.String() + ")" }

// aead is AES-256-GCM with the key.
func (k CertificateKey) aead() (cipher.AEAD, error) {
	key, err := hex.DecodeString(k.hex)
	if err != nil || len(key) != certificateKeySize {
		return nil, errors.New("there is no certificate key")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
