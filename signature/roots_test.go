package signature_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myadm/myadm/signature"
)

// TestListed: where the roots name a certificate log, the certificate must be in it.
func TestListed(t *testing.T) {
	a := authority(t)
	a.Listed = true
	trusted, err := a.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	roots := parse(t, trusted)
	sig, cert, err := a.SignFile(kubelet, maker)
	if err != nil {
		t.Fatal(err)
	}
	check(t, roots.File(sum(kubelet), sig, cert, maker))
	check(t, pemRoots(t, true, a).File(sum(kubelet), sig, cert, maker))

	a.Listed = false
	if sig, cert, err = a.SignFile(kubelet, maker); err != nil {
		t.Fatal(err)
	}
	check(t, roots.File(sum(kubelet), sig, cert, maker), "in no certificate log that is trusted")
}

func TestParse(t *testing.T) {
	a := authority(t)
	pem, err := a.PEM(true)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := a.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem)
	second := 1 + strings.Index(text[1:], "-----BEGIN CERTIFICATE")                                                                        // the intermediate and the key of the log
	const ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n" // of RFC 8410
	for _, tt := range []struct{ name, text, want string }{
		{"PEM", text, ""},
		{"PEM with words", "sigstore's roots:\n" + text, ""},
		{"trusted_root.json", string(trusted), ""},
		{"nothing", "", "it has no authority"},
		{"a page", "<html>please log in</html>", "it has no authority"},
		{"an intermediate alone", text[second:], "it has no authority"},
		{"an empty object", "{}", "unsupported TrustedRoot media type"},
		{"no JSON", "{", "unmarshal"},
		{"no authority", `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`, "it has no authority"},
		{"a private key", text + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", `it has a "PRIVATE KEY"`},
		{"a malformed certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x509: malformed certificate"},
		{"a malformed key", text + "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "asn1"},
		{"a key that no Rekor has", text + ed25519, "the key of a log is a ed25519.PublicKey"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "roots")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			roots, err := signature.Load(file)
			if tt.want == "" {
				if err != nil || roots == nil {
					t.Fatal(roots, err)
				}
				return
			}
			check(t, err, "signature roots "+file, tt.want, signature.HintRoots)
		})
	}
	if _, err := signature.Load(filepath.Join(t.TempDir(), "missing")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

// FuzzParse: whatever is in a file of roots, there are roots or an error.
func FuzzParse(f *testing.F) {
	a := authority(f)
	pem, err := a.PEM(true)
	if err != nil {
		f.Fatal(err)
	}
	trusted, err := a.TrustedRoot()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{pem, trusted, nil, []byte("{}"), []byte(`{"tlogs":[null],"certificateAuthorities":[{}]}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if roots, err := signature.Parse(text); (roots == nil) == (err == nil) {
			t.Errorf("%v, %v", roots, err)
		}
	})
}

// FuzzFile: nothing but the signature and the certificate of the maker passes, whatever there is instead.
func FuzzFile(f *testing.F) {
	a, stranger := authority(f), authority(f)
	roots := pemRoots(f, true, a)
	for _, by := range []signature.Identity{other, token} {
		sig, cert, err := a.SignFile(kubelet, by)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sig, cert)
	}
	sig, cert, err := stranger.SignFile(kubelet, maker)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig, cert)
	f.Add([]byte(""), []byte("LS0tLS1CRUdJTg=="))
	f.Fuzz(func(t *testing.T, sig, cert []byte) {
		if err := roots.File(sum(kubelet), sig, cert, maker); err == nil {
			t.Error("it passes")
		}
	})
}

// FuzzImage is the same of the signatures of images.
func FuzzImage(f *testing.F) {
	a := authority(f)
	roots := pemRoots(f, true, a)
	image := signature.Image{Reference: reference, Arch: "amd64", Digest: "sha256:" + sum([]byte("manifest"))}
	s, err := a.SignImage(reference, image.Digest, other)
	if err != nil {
		f.Fatal(err)
	}
	const sig, cert, log = "dev.cosignproject.cosign/signature", "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/bundle"
	f.Add(s.Payload, s.Annotations[sig], s.Annotations[cert], s.Annotations[log])
	f.Add(s.Payload, s.Annotations[sig], s.Annotations[cert], `{"SignedEntryTimestamp":"AAAA","Payload":{"body":"e30=","integratedTime":1,"logID":""}}`)
	f.Add(s.Payload, s.Annotations[sig], s.Annotations[cert], `{"SignedEntryTimestamp":"AAAA","Payload":{"body":"eyJhcGlWZXJzaW9uIjoiMC4wLjEiLCJraW5kIjoiaGFzaGVkcmVrb3JkIiwic3BlYyI6e319","integratedTime":1}}`)
	f.Fuzz(func(t *testing.T, payload []byte, s, c, l string) {
		one := signature.ImageSignature{Payload: payload, Annotations: map[string]string{sig: s, cert: c, log: l}}
		if err := roots.Image(image, []signature.ImageSignature{one}, maker); err == nil {
			t.Error("it passes")
		}
	})
}
