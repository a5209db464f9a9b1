package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/util/keyutil"
)

// algorithms makes keys, by the names of kubeadm's encryptionAlgorithm.
var algorithms = map[string]func() (crypto.Signer, error){
	"ECDSA-P256": ecdsaKey(elliptic.P256()),
	"ECDSA-P384": ecdsaKey(elliptic.P384()),
	"RSA-2048":   rsaKey(2048),
	"RSA-3072":   rsaKey(3072),
	"RSA-4096":   rsaKey(4096),
}

func ecdsaKey(curve elliptic.Curve) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) }
}

func rsaKey(bits int) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, bits) }
}

// generateKeys gives a new key to every task without one, on all processors: a PKI has sixteen, and one of RSA-4096
// takes seconds.
func generateKeys(tasks []*task, algorithm string) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, t := range tasks {
		if t.key != nil || t.keyless {
			continue
		}
		group.Go(func() (err error) {
			if t.key, err = algorithms[algorithm](); err != nil {
				return fmt.Errorf("%s: make a key: %w", t.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// parseKey returns the first private key of a PEM file, in PKCS #1, SEC 1 or PKCS #8 form. Its errors hold none of it.
func parseKey(data []byte) (crypto.Signer, error) {
	key, err := keyutil.ParsePrivateKeyPEM(data)
	if err != nil {
		return nil, errors.New("no private key in PEM form")
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	}
	return nil, errors.New("private key is neither RSA nor ECDSA")
}

// parsePublicKeys returns the public keys of a PEM file, at least one.
func parsePublicKeys(data []byte) ([]any, error) {
	keys, err := keyutil.ParsePublicKeysPEM(data)
	if err != nil {
		return nil, errors.New("no public key in PEM form")
	}
	return keys, nil
}

// encodePublicKey returns the key as PEM of type PUBLIC KEY.
func encodePublicKey(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyutil.PublicKeyBlockType, Bytes: der}), nil
}

// encodeCertificates returns certificates as PEM, without what else stood in the file that they came from.
func encodeCertificates(certs []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certs {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.Bytes()
}

// belongs tells whether public is the other half of key.
func belongs(public any, key crypto.Signer) bool {
	own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(public)
}
