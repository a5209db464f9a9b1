package certs

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/myadm/myadm/config"
)

// Encrypt returns the data of Secret kubeadm-certs, in kubeadm's form: each of SharedPaths under its name, as a nonce and
// what AES-256-GCM makes of the file. An authority's key that is not among the files, because it is kept elsewhere, gives
// an empty value: kubeadm insists on the name. Any other file has to be there. What is not shared is left out.
func Encrypt(shared Files, key CertificateKey, externalEtcd bool, random io.Reader) (map[string][]byte, error) {
	aead, err := key.aead()
	if err != nil {
		return nil, err
	}
	data := make(map[string][]byte)
	for _, path := range SharedPaths(externalEtcd) {
		plain, exists := shared[path]
		switch {
		case !exists && isAuthorityKey(path):
			data[secretName(path, externalEtcd)] = []byte{}
			continue
		case !exists:
			return nil, fmt.Errorf("%s: missing; hint: control planes share it: run myadm init first", path)
		}
		nonce := make([]byte, aead.NonceSize())
		if _, err := io.ReadFull(random, nonce); err != nil {
			return nil, fmt.Errorf("encrypt %s: %w", path, err)
		}
		data[secretName(path, externalEtcd)] = aead.Seal(nonce, nonce, plain, nil)
	}
	return data, nil
}

// Decrypt returns the shared files that the data of Secret kubeadm-certs holds, which may be less than SharedPaths. Names
// that it does not know are passed over.
func Decrypt(data map[string][]byte, key CertificateKey, externalEtcd bool) (Files, error) {
	aead, err := key.aead()
	if err != nil {
		return nil, err
	}
	shared := Files{}
	for _, path := range SharedPaths(externalEtcd) {
		name := secretName(path, externalEtcd)
		sealed := data[name]
		if len(sealed) == 0 {
			continue
		}
		if len(sealed) < aead.NonceSize()+aead.Overhead() {
			return nil, fmt.Errorf("%s is too short; hint: `myadm init phase upload-certs` writes it anew", name)
		}
		nonce, text := sealed[:aead.NonceSize()], sealed[aead.NonceSize():]
		plain, err := aead.Open([]byte{}, nonce, text, nil)
		if err != nil {
			return nil, errors.New("the certificate key does not open " + name + "; hint: use the key that the last upload-certs printed, or have `myadm init phase upload-certs` print another")
		}
		shared[path] = plain
	}
	return shared, nil
}

func isAuthorityKey(path string) bool {
	for _, c := range certificates {
		if c.isCA() && c.keyPath() == path {
			return true
		}
	}
	return false
}

// secretName is the name of a shared file in kubeadm's Secret: its path below the PKI folder with - for /. The files of an
// external etcd, which kubeadm lets stand anywhere, have names of their own.
func secretName(path string, externalEtcd bool) string {
	if externalEtcd {
		switch path {
		case config.EtcdCACert:
			return "external-etcd-ca.crt"
		case config.EtcdClientCert:
			return "external-etcd.crt"
		case config.EtcdClientKey:
			return "external-etcd.key"
		}
	}
	return strings.ReplaceAll(strings.TrimPrefix(path, config.PKIDir+"/"), "/", "-")
}
