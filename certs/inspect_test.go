package certs_test

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/certs"
)

func TestPublicKeyPins(t *testing.T) {
	have := issued(t, settings())
	pin := func(path string) string {
		der, err := x509.MarshalPKIXPublicKey(parse(t, have[path]).PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("sha256:%x", sha256.Sum256(der))
	}
	want := []string{pin(pki + "ca.crt"), pin(pki + "etcd/ca.crt")}
	both := slices.Concat(have[pki+"ca.crt"], have[pki+"etcd/ca.crt"])
	if pins, err := certs.PublicKeyPins(both); err != nil || !slices.Equal(pins, want) {
		t.Errorf("pins %v, %v; want %v", pins, err, want)
	}
	if got, err := certs.PublicKeyPin(both); err != nil || got != want[0] {
		t.Errorf("pin %s, %v; want %s", got, err, want[0])
	}
	if _, err := certs.PublicKeyPin([]byte("?")); err == nil {
		t.Error("garbage: no error")
	}
}

// The pin was computed with openssl x509 -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256.
func TestPublicKeyPinOfAKnownCertificate(t *testing.T) {
	const ca = `-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUZPVlKg4gv/IMBw3aHyJExnCE9pYwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKa3ViZXJuZXRlczAeFw0yNjExMjIxODE2MjhaFw0zNjExMTkx
ODE2MjhaMBUxEzARBgNVBAMMCmt1YmVybmV0ZXMwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQ3VzatCqFW41ylJ5j3B1CBsWBKR4hbGKD4XPeNScBAizWjTQBVvytk
HlaU/cXHRAMkymxcSNYsXjAMH0hDaZo7o1MwUTAdBgNVHQ4EFgQUzcl879XOB3Nw
6kxGsiGeI6englowHwYDVR0jBBgwFoAUzcl879XOB3Nw6kxGsiGeI6englowDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAhfquDi1Jr1W8LlFJ3ra3
gZy2Sgl27Mnk+oT34KSMf6QCIQDZjMCpWWsie52N5aZ5M7KyOsUKCT56qBPqg6Sa
iI5qVQ==
-----END CERTIFICATE-----
`
	got, err := certs.PublicKeyPin([]byte(ca))
	if want := "sha256:debfccfda4f9274fa17782ec1a52a889db71ceb43f4ce48f39d933d256df1f9a"; err != nil || got != want {
		t.Errorf("pin %s, %v; want %s", got, err, want)
	}
}

func TestExpirations(t *testing.T) {
	have := rotating(t)
	delete(have, pki+"etcd/ca.key")
	delete(have, pki+"front-proxy-client.crt")
	cert, key := forge(t, have, "ca", func(c *x509.Certificate) { nodeClient(c); c.NotAfter = now.Add(-time.Hour) })
	have[kubeletPEM] = append(cert, key...)
	have[adminConf] = []byte("[")

	list, err := certs.Expirations(have, now)
	if err == nil || !strings.HasPrefix(err.Error(), adminConf+": not a kubeconfig; hint: ") {
		t.Errorf("error %v", err)
	}
	var got []string
	for _, e := range list {
		got = append(got, fmt.Sprintf("%s %s %s %t", e.Name, e.CA, e.Left, e.External))
		if !e.NotAfter.Equal(now.Add(e.Left)) || have[e.Path] == nil {
			t.Errorf("expiration %+v", e)
		}
	}
	want := []string{
		"ca ca 87600h0m0s false",
		"apiserver ca 8760h0m0s false",
		"apiserver-kubelet-client ca 8760h0m0s false",
		"front-proxy-ca front-proxy-ca 87600h0m0s false",
		"etcd-ca etcd-ca 87600h0m0s true",
		"etcd-server etcd-ca 8760h0m0s true",
		"etcd-peer etcd-ca 8760h0m0s true",
		"etcd-healthcheck-client etcd-ca 8760h0m0s true",
		"apiserver-etcd-client etcd-ca 8760h0m0s true",
		"super-admin.conf ca 8760h0m0s false",
		"kubelet.conf ca -1h0m0s false",
		"controller-manager.conf ca 8760h0m0s false",
		"scheduler.conf ca 8760h0m0s false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("expirations\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}
