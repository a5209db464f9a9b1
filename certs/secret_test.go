package certs_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/myadm/myadm/certs"
)

// knownKey is the bytes 0 to 31.
const knownKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func certificateKey(t testing.TB, s string) certs.CertificateKey {
	t.Helper()
	key, err := certs.ParseCertificateKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encrypt(t testing.TB, shared certs.Files, key certs.CertificateKey, external bool) map[string][]byte {
	t.Helper()
	data, err := certs.Encrypt(shared, key, external, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The Secret has kubeadm's names, and gives back what control planes share and nothing else that a host has.
func TestEncryptDecrypt(t *testing.T) {
	for external, names := range map[bool]string{
		false: "ca.crt ca.key etcd-ca.crt etcd-ca.key front-proxy-ca.crt front-proxy-ca.key sa.key sa.pub",
		true:  "ca.crt ca.key external-etcd-ca.crt external-etcd.crt external-etcd.key front-proxy-ca.crt front-proxy-ca.key sa.key sa.pub",
	} {
		host, _ := withEtcd(t, external)
		key := certificateKey(t, knownKey)
		data := encrypt(t, host, key, external)
		if got := strings.Join(slices.Sorted(maps.Keys(data)), " "); got != names {
			t.Errorf("external etcd %t: names\n got %s\nwant %s", external, got, names)
		}
		data["of-another-version.crt"] = []byte("?")
		shared, err := certs.Decrypt(data, key, external)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := slices.Sorted(maps.Keys(shared)), slices.Sorted(slices.Values(certs.SharedPaths(external))); !slices.Equal(got, want) {
			t.Errorf("external etcd %t: files\n got %v\nwant %v", external, got, want)
		}
		for path, content := range shared {
			if !bytes.Equal(content, host[path]) {
				t.Errorf("%s is not what it was", path)
			}
		}
		for name, sealed := range encrypt(t, host, key, external) {
			if bytes.Equal(sealed, data[name]) {
				t.Errorf("%s is the same again: its nonce was used twice", name)
			}
		}
	}
}

// The value was made by EncryptBytes of kubeadm v1.37.2.
func TestDecryptWhatKubeadmEncrypted(t *testing.T) {
	sealed, err := base64.StdEncoding.DecodeString("VIE0+lUr4wwbbnZQINr+ec7za4h9hEsJRxtLNrB2f81v4cz650P8f71SK28L1MQ5")
	if err != nil {
		t.Fatal(err)
	}
	shared, err := certs.Decrypt(map[string][]byte{"sa.key": sealed}, certificateKey(t, knownKey), false)
	if err != nil || len(shared) != 1 || string(shared[pki+"sa.key"]) != "service account key\n" {
		t.Errorf("files %q, %v", shared, err)
	}
}

// An authority's key may be kept elsewhere. kubeadm insists on its name all the same, and takes an empty value for it.
func TestEncryptWithoutAuthoritysKey(t *testing.T) {
	host, _ := withEtcd(t, false)
	delete(host, pki+"etcd/ca.key")
	key := certificateKey(t, knownKey)
	data := encrypt(t, host, key, false)
	if value, ok := data["etcd-ca.key"]; !ok || len(value) > 0 {
		t.Errorf("etcd-ca.key is %q, %t", value, ok)
	}
	shared, err := certs.Decrypt(data, key, false)
	if _, ok := shared[pki+"etcd/ca.key"]; err != nil || ok || len(shared) != 7 {
		t.Errorf("%d files, %v", len(shared), err)
	}

	for _, path := range []string{pki + "ca.crt", pki + "sa.key"} {
		incomplete := maps.Clone(host)
		delete(incomplete, path)
		if _, err := certs.Encrypt(incomplete, key, false, rand.Reader); err == nil || !strings.HasPrefix(err.Error(), path+": missing; hint: ") {
			t.Errorf("without %s: %v", path, err)
		}
	}
}

func TestDecryptRefuses(t *testing.T) {
	host, _ := withEtcd(t, false)
	key := certificateKey(t, knownKey)
	for _, test := range []struct {
		name string
		key  certs.CertificateKey
		edit func(data map[string][]byte)
		want string
	}{
		{"another key", certificateKey(t, strings.Repeat("ab", 32)), func(map[string][]byte) {}, "the certificate key does not open ca.crt; hint: "},
		{"no key", certs.CertificateKey{}, func(map[string][]byte) {}, "there is no certificate key"},
		{"changed nonce", key, func(data map[string][]byte) { data["sa.key"][0] ^= 1 }, "the certificate key does not open sa.key; hint: "},
		{"changed content", key, func(data map[string][]byte) { data["sa.key"][20] ^= 1 }, "the certificate key does not open sa.key; hint: "},
		{"cut", key, func(data map[string][]byte) { data["sa.key"] = data["sa.key"][:27] }, "sa.key is too short; hint: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := encrypt(t, host, key, false)
			test.edit(data)
			shared, err := certs.Decrypt(data, test.key, false)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || shared != nil {
				t.Errorf("%d files, error\n got %v\nwant %s...", len(shared), err, test.want)
			}
		})
	}
	if _, err := certs.Encrypt(host, certs.CertificateKey{}, false, rand.Reader); err == nil {
		t.Error("encrypted without a key")
	}
	if _, err := certs.Encrypt(host, key, false, iotest.ErrReader(errors.New("no randomness"))); err == nil {
		t.Error("encrypted without randomness")
	}
}

func TestCertificateKey(t *testing.T) {
	for _, s := range []string{knownKey, strings.ToUpper(knownKey)} {
		if got := certificateKey(t, s); got.Reveal() != knownKey || got != certificateKey(t, knownKey) {
			t.Errorf("%s is read as %s", s, got.Reveal())
		}
	}
	for _, s := range []string{"", "00", knownKey[2:], knownKey + "00", "x" + knownKey[1:], " " + knownKey[1:]} {
		key, err := certs.ParseCertificateKey(s)
		if err == nil || key != (certs.CertificateKey{}) {
			t.Errorf("%q: no error", s)
		} else if s != "" && strings.Contains(err.Error(), s) && len(s) > 4 {
			t.Errorf("the error quotes the key: %v", err)
		}
	}

	made, err := certs.NewCertificateKey(bytes.NewReader(certificateKeyBytes()))
	if err != nil || made.Reveal() != knownKey {
		t.Errorf("made %s, %v", made.Reveal(), err)
	}
	if _, err := certs.NewCertificateKey(strings.NewReader("too short")); err == nil {
		t.Error("made a key of too little randomness")
	}
	for _, text := range []string{fmt.Sprint(made), fmt.Sprintf("%v %+v %#v %s %q", made, made, made, made, made)} {
		if strings.Contains(text, knownKey) || strings.Contains(text, knownKey[2:8]) {
			t.Errorf("printed as %s", text)
		}
	}
}

func certificateKeyBytes() []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}
