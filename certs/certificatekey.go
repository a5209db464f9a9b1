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

// CertificateKey opens what control planes share and the cluster keeps for those that join. The zero key opens nothing.
// Printed by mistake, it shows nothing of itself.
type CertificateKey struct{ hex string }

// NewCertificateKey makes a key.
func NewCertificateKey(rand io.Reader) (CertificateKey, error) {
	var key [certificateKeySize]byte
	if _, err := io.ReadFull(rand, key[:]); err != nil {
		return CertificateKey{}, fmt.Errorf("make a certificate key: %w", err)
	}
	return CertificateKey{hex.EncodeToString(key[:])}, nil
}

// ParseCertificateKey reads a key as 64 hex digits. The error shows nothing of it.
func ParseCertificateKey(s string) (CertificateKey, error) {
	key, err := hex.DecodeString(s)
	if err != nil || len(key) != certificateKeySize {
		return CertificateKey{}, fmt.Errorf("it is not %d hex digits; hint: `myadm init phase upload-certs` prints one", hex.EncodedLen(certificateKeySize))
	}
	return CertificateKey{hex.EncodeToString(key)}, nil
}

// Reveal is the key as text, for the command line of whoever joins.
func (k CertificateKey) Reveal() string { return k.hex }

// String hides the key.
func (k CertificateKey) String() string {
	if k.hex == "" {
		return "none"
	}
	return "hidden"
}

// GoString hides the key from %#v.
func (k CertificateKey) GoString() string { return k.String() }

func (k CertificateKey) seal() (cipher.AEAD, error) {
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

// Encrypt returns the data of Secret kubeadm-certs: each of the shared files with AES-256-GCM, its nonce first.
func Encrypt(shared Files, key CertificateKey, externalEtcd bool, rand io.Reader) (map[string][]byte, error) {
	aead, err := key.seal()
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{}
	for _, path := range SharedPaths(externalEtcd) {
		plain, exists := shared[path]
		if !exists {
			continue // the key of an authority may be kept elsewhere
		}
		nonce := make([]byte, aead.NonceSize())
		if _, err := io.ReadFull(rand, nonce); err != nil {
			return nil, fmt.Errorf("encrypt %s: %w", path, err)
		}
		data[secretName(path, externalEtcd)] = aead.Seal(nonce, nonce, plain, nil)
	}
	return data, nil
}

// Decrypt returns the shared files that the data of Secret kubeadm-certs holds. Keys that are none of its are passed over.
func Decrypt(data map[string][]byte, key CertificateKey, externalEtcd bool) (Files, error) {
	aead, err := key.seal()
	if err != nil {
		return nil, err
	}
	shared := Files{}
	for _, path := range SharedPaths(externalEtcd) {
		sealed, exists := data[secretName(path, externalEtcd)]
		if !exists {
			continue
		}
		if len(sealed) < aead.NonceSize() {
			return nil, fmt.Errorf("key %s is cut; hint: `myadm init phase upload-certs` writes it anew", secretName(path, externalEtcd))
		}
		nonce, text := sealed[:aead.NonceSize()], sealed[aead.NonceSize():]
		if shared[path], err = aead.Open(nil, nonce, text, nil); err != nil {
			return nil, errors.New("the certificate key does not open it; hint: use the one that the last `myadm init phase upload-certs` has printed")
		}
	}
	return shared, nil
}
