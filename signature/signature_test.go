package signature_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/signature"
	"github.com/myadm/myadm/signature/signaturetest"
)

var (
	maker = signature.Identity{Subject: "release@makers.test", Issuer: "https://accounts.makers.test"}
	other = signature.Identity{Subject: "release@others.test", Issuer: "https://accounts.makers.test"}
	token = signature.Identity{Subject: "release@makers.test", Issuer: "https://accounts.others.test"}

	signedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) // long before any test runs
	kubelet  = []byte("the kubelet")
)

func authority(t testing.TB) *signaturetest.Authority {
	t.Helper()
	a, err := signaturetest.New(signedAt)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// pemRoots are those of an authority, with its log or without.
func pemRoots(t testing.TB, log bool, all ...*signaturetest.Authority) *signature.Roots {
	t.Helper()
	var text []byte
	for _, a := range all {
		pem, err := a.PEM(log)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem...)
	}
	return parse(t, text)
}

func parse(t testing.TB, text []byte) *signature.Roots {
	t.Helper()
	roots, err := signature.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// check wants an error with all the words, and a hint; or none without words.
func check(t *testing.T, err error, words ...string) {
	t.Helper()
	if len(words) == 0 {
		if err != nil {
			t.Error(err)
		}
		return
	}
	for _, w := range append(words, "; hint: ") {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want %q", err, w)
		}
	}
	if err != nil && strings.Count(err.Error(), "; hint: ") != 1 {
		t.Errorf("several hints: %v", err)
	}
}

func TestFile(t *testing.T) {
	a := authority(t)
	old, late := *a, *a
	old.OldForm = true
	late.At = signedAt.AddDate(1, 0, 0) // the authority has expired when the certificate begins
	type pair struct{ sig, cert []byte }
	sign := func(a *signaturetest.Authority, by signature.Identity) pair {
		sig, cert, err := a.SignFile(kubelet, by)
		if err != nil {
			t.Fatal(err)
		}
		return pair{sig, cert}
	}
	good := sign(a, maker)
	pem, err := base64.StdEncoding.DecodeString(string(good.cert))
	if err != nil {
		t.Fatal(err)
	}
	newline := []byte("\n")
	page := []byte("<html>please log in</html>")
	for _, tt := range []struct {
		name    string
		content []byte
		signed  pair
		want    []string
	}{
		{"good", kubelet, good, nil},
		{"lines that end", kubelet, pair{append(good.sig, newline...), append(good.cert, newline...)}, nil},
		{"a certificate in PEM", kubelet, pair{good.sig, pem}, nil},
		{"the issuer in the old form", kubelet, sign(&old, maker), nil},
		{"other content", []byte("another"), good, []string{"not one of this content", "do not use it"}},
		{"another signature's certificate", kubelet, pair{good.sig, sign(a, maker).cert}, []string{"not one of this content"}},
		{"another authority", kubelet, sign(authority(t), maker), []string{"of no authority that is trusted", "the file of roots lacks"}},
		{"an authority that had expired", kubelet, sign(&late, maker), []string{"none that was valid then", "for 2027-03-01T12:00:00Z"}},
		{"another subject", kubelet, sign(a, other), []string{
			"signed by release@others.test (by https://accounts.makers.test), not by release@makers.test", "spec.artifacts.signatures"}},
		{"another issuer", kubelet, sign(a, token), []string{"signed by release@makers.test (by https://accounts.others.test)"}},
		{"another issuer in the old form", kubelet, sign(&old, token), []string{"signed by release@makers.test (by https://accounts.others.test)"}},
		{"no base64", kubelet, pair{page, good.cert}, []string{"not one in base64"}},
		{"nothing", kubelet, pair{nil, good.cert}, []string{"not one in base64: it is empty"}},
		{"no certificate", kubelet, pair{good.sig, page}, []string{"not one in PEM"}},
		{"a malformed certificate", kubelet, pair{good.sig, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, []string{"malformed"}},
		{"a key for a certificate", kubelet, pair{good.sig, []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")}, []string{"not one in PEM"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, log := range []bool{false, true} { // files come without the promise of a log, whether there is one or not
				check(t, pemRoots(t, log, a).File(sum(tt.content), tt.signed.sig, tt.signed.cert, maker), tt.want...)
			}
		})
	}
	if err := pemRoots(t, false, a).File("abc", good.sig, good.cert, maker); err == nil {
		t.Error("abc is no checksum")
	}
	// Roots of several authorities: any will do.
	check(t, pemRoots(t, true, authority(t), a).File(sum(kubelet), good.sig, good.cert, maker))
}

type signatures = []signature.ImageSignature

const reference = "registry.makers.test/kube/proxy:v1.37.2"

func TestImage(t *testing.T) {
	a, b := authority(t), authority(t)
	digest, index := "sha256:"+sum([]byte("manifest")), "sha256:"+sum([]byte("index"))
	image := signature.Image{Reference: reference, Arch: "arm64", Digest: digest}
	sign := func(a *signaturetest.Authority, repository, digest string, by signature.Identity) signature.ImageSignature {
		s, err := a.SignImage(repository, digest, by)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const repository = "registry.makers.test/kube/proxy"
	good := sign(a, repository, digest, maker)
	// with changes an annotation, or its JSON below Payload, or takes it away.
	with := func(s signature.ImageSignature, name string, value any) signature.ImageSignature {
		annotations := map[string]string{}
		for k, v := range s.Annotations {
			annotations[k] = v
		}
		const bundle = "dev.sigstore.cosign/bundle"
		field, below := strings.CutPrefix(name, "Payload.")
		switch {
		case below:
			var said map[string]any
			if err := json.Unmarshal([]byte(annotations[bundle]), &said); err != nil {
				t.Fatal(err)
			}
			said["Payload"].(map[string]any)[field] = value
			text, err := json.Marshal(said)
			if err != nil {
				t.Fatal(err)
			}
			annotations[bundle] = string(text)
		case value == nil:
			delete(annotations, name)
		default:
			annotations[name] = value.(string)
		}
		return signature.ImageSignature{Payload: s.Payload, Annotations: annotations}
	}
	late := *a
	late.Delay = time.Hour // when the log heard of it, the certificate had expired
	again := sign(a, repository, digest, maker)
	const sig, cert, log = "dev.cosignproject.cosign/signature", "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/bundle"
	for _, tt := range []struct {
		name       string
		signatures signatures
		want       []string
		unlogged   []string // what is wanted where the roots name no log, if that is something else
	}{
		{"good", signatures{good}, nil, nil},
		{"the maker's is the second", signatures{sign(a, repository, digest, other), good}, nil, nil},
		{"of the architecture's own repository", signatures{sign(a, repository+"-arm64", digest, maker)}, nil, nil},
		{"with a tag", signatures{sign(a, repository+":v1", digest, maker)}, nil, nil},
		{"none", nil, []string{"nothing where its signatures are kept"}, nil},
		{"of the index", signatures{sign(a, repository, index, maker)}, []string{"the signature of \"" + index}, nil},
		{"of another image", signatures{sign(a, "registry.makers.test/kube/scheduler", digest, maker)}, []string{`an image "scheduler", not of "proxy"`}, nil},
		{"of another architecture", signatures{sign(a, repository+"-amd64", digest, maker)}, []string{`an image "proxy-amd64"`}, nil},
		{"by another", signatures{sign(a, repository, digest, other)}, []string{"signed by release@others.test"}, nil},
		{"by two others", signatures{sign(a, repository, digest, other), sign(a, repository, digest, token)}, []string{
			"none of its 2 signatures holds; 1: it was signed by release@others.test", "; 2: it was signed by"}, nil},
		{"another authority", signatures{with(sign(b, repository, digest, maker), log, good.Annotations[log])}, []string{"does not hold"}, []string{"of no authority that is trusted"}},
		{"another log", signatures{sign(b, repository, digest, maker)}, []string{"promise of the transparency log does not hold"}, []string{"of no authority that is trusted"}},
		{"payload changed", signatures{{Payload: append(good.Payload, ' '), Annotations: good.Annotations}}, []string{"not one of this content"}, nil},
		{"no signature", signatures{with(good, sig, nil)}, []string{"not one in base64: it is empty"}, nil},
		{"no certificate", signatures{with(good, cert, nil)}, []string{"not one in PEM"}, nil},
		{"no promise", signatures{with(good, log, nil)}, []string{"without the promise of a transparency log"}, []string{}},
		{"another's promise", signatures{with(good, log, again.Annotations[log])}, []string{"does not hold"}, []string{}},
		{"another time", signatures{with(good, "Payload.integratedTime", signedAt.Add(2*time.Minute).Unix())}, []string{"does not hold"}, []string{}},
		{"logged too late", signatures{sign(&late, repository, digest, maker)}, []string{"integrated time outside certificate validity"}, []string{}},
		{"no time", signatures{with(good, "Payload.integratedTime", 0)}, []string{"not whole"}, nil},
		{"no body", signatures{with(good, "Payload.body", "")}, []string{"entry in the transparency log is malformed"}, nil},
		{"body not base64", signatures{with(good, "Payload.body", "<>")}, []string{"entry in the transparency log is malformed"}, nil},
		{"log not hexadecimal", signatures{with(good, "Payload.logID", "xyz")}, []string{"name of the transparency log is malformed"}, nil},
		{"promise not JSON", signatures{with(good, log, "yes")}, []string{"log said is malformed"}, nil},
		{"payload not JSON", signatures{{Payload: []byte("yes"), Annotations: good.Annotations}}, []string{"what was signed is malformed"}, nil},
		{"payload of another kind", signatures{{Payload: []byte(`{"critical":{"type":"atomic container signature"}}`), Annotations: good.Annotations}}, []string{
			`"atomic container signature"`}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, err := a.TrustedRoot()
			if err != nil {
				t.Fatal(err)
			}
			check(t, pemRoots(t, true, a).Image(image, tt.signatures, maker), tt.want...)
			check(t, parse(t, text).Image(image, tt.signatures, maker), tt.want...)
			err = pemRoots(t, false, a).Image(image, tt.signatures, maker)
			if tt.unlogged != nil {
				tt.want = tt.unlogged
			}
			check(t, err, tt.want...)
		})
	}
}

func TestTag(t *testing.T) {
	if got := signature.Tag("sha256:abc"); got != "sha256-abc.sig" {
		t.Error(got)
	}
}
