// Package signaturetest signs as the makers of releases do, for tests: it is an authority like Fulcio, a log like Rekor, and
// who signs with cosign, in one. Everything is made anew and worth nothing elsewhere.
package signaturetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"time"

	"github.com/myadm/myadm/signature"
)

// Authority makes signatures that are made At a time.
type Authority struct {
	At      time.Time     // when what is signed is signed
	Delay   time.Duration // between the beginning of the certificate's ten minutes and the log's entry
	OldForm bool          // the certificate names its issuer in the first of the two forms
	Listed  bool          // the certificate tells of its entry in a certificate log, which TrustedRoot names

	top, below              *x509.Certificate
	belowKey, logKey, ctKey *ecdsa.PrivateKey
}

// lifetime is that of a certificate.
const lifetime = 10 * time.Minute

// The extensions that name the issuer; see https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md.
var (
	issuerOld = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}
	issuer    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
)

// New makes an authority that was valid for a year around a time.
func New(at time.Time) (*Authority, error) {
	a := &Authority{At: at, Delay: time.Minute}
	var topKey *ecdsa.PrivateKey
	var err error
	for _, key := range []**ecdsa.PrivateKey{&topKey, &a.belowKey, &a.logKey, &a.ctKey} {
		if *key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	if a.top, err = a.issue(authority("test"), nil, &topKey.PublicKey, topKey); err != nil {
		return nil, err
	}
	a.below, err = a.issue(authority("test intermediate"), a.top, &a.belowKey.PublicKey, topKey)
	return a, err
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{Organization: []string{"sigstore.test"}, CommonName: name}, KeyUsage: x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true, IsCA: true,
	}
}

// issue fills in what a template lacks; without a parent the certificate signs itself.
func (a *Authority) issue(template, parent *x509.Certificate, key *ecdsa.PublicKey, by *ecdsa.PrivateKey) (*x509.Certificate, error) {
	if parent == nil {
		parent = template
	}
	if template.SerialNumber == nil {
		var err error
		if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
			return nil, err
		}
	}
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = a.At.AddDate(0, -6, 0), a.At.AddDate(0, 6, 0)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// PEM are the roots: the authority's certificates, and with log the log's key.
func (a *Authority) PEM(log bool) ([]byte, error) {
	out := append(encode(a.top), encode(a.below)...)
	if log {
		der, _, err := public(a.logKey)
		if err != nil {
			return nil, err
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return out, nil
}

type object = map[string]any

// TrustedRoot are the roots in the sigstore project's own form, with the certificate log when certificates are Listed.
func (a *Authority) TrustedRoot() ([]byte, error) {
	period := object{"start": a.At.AddDate(0, -6, 0).UTC().Format(time.RFC3339)}
	log := func(name string, key *ecdsa.PrivateKey) ([]object, error) {
		der, id, err := public(key)
		return []object{{
			"baseUrl": "https://" + name + ".sigstore.test", "hashAlgorithm": "SHA2_256", "logId": object{"keyId": id},
			"publicKey": object{"rawBytes": der, "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": period},
		}}, err
	}
	logs, err := log("rekor", a.logKey)
	if err != nil {
		return nil, err
	}
	var certificateLogs []object
	if a.Listed {
		if certificateLogs, err = log("ctfe", a.ctKey); err != nil {
			return nil, err
		}
	}
	return json.Marshal(object{
		"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		"tlogs":     logs,
		"ctlogs":    certificateLogs,
		"certificateAuthorities": []object{{
			"uri": "https://fulcio.sigstore.test", "validFor": period,
			"certChain": object{"certificates": []object{{"rawBytes": a.below.Raw}, {"rawBytes": a.top.Raw}}},
		}},
	})
}

// SignFile signs a file; sig and cert are what is published beside it.
func (a *Authority) SignFile(content []byte, by signature.Identity) (sig, cert []byte, err error) {
	raw, leaf, err := a.sign(content, by)
	if err != nil {
		return nil, nil, err
	}
	return text(raw), text(encode(leaf)), nil
}

// SignImage signs a manifest by its digest (sha256:HEX), which is in a repository.
func (a *Authority) SignImage(repository, digest string, by signature.Identity) (signature.ImageSignature, error) {
	payload, err := json.Marshal(object{
		"critical": object{
			"identity": object{"docker-reference": repository},
			"image":    object{"docker-manifest-digest": digest},
			"type":     "cosign container image signature",
		},
		"optional": nil,
	})
	if err != nil {
		return signature.ImageSignature{}, err
	}
	raw, leaf, err := a.sign(payload, by)
	if err != nil {
		return signature.ImageSignature{}, err
	}
	promise, err := a.promise(payload, raw, leaf)
	return signature.ImageSignature{Payload: payload, Annotations: map[string]string{
		"dev.cosignproject.cosign/signature": string(text(raw)),
		"dev.sigstore.cosign/certificate":    string(encode(leaf)),
		"dev.sigstore.cosign/chain":          string(append(encode(a.below), encode(a.top)...)),
		"dev.sigstore.cosign/bundle":         string(promise),
	}}, err
}

// sign makes a key, has it certified, and forgets it.
func (a *Authority) sign(content []byte, by signature.Identity) (sig []byte, leaf *x509.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	extension := pkix.Extension{Id: issuer}
	if extension.Value, err = asn1.MarshalWithParams(by.Issuer, "utf8"); err != nil {
		return nil, nil, err
	}
	if a.OldForm {
		extension = pkix.Extension{Id: issuerOld, Value: []byte(by.Issuer)}
	}
	template := &x509.Certificate{
		NotBefore: a.At, NotAfter: a.At.Add(lifetime), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, EmailAddresses: []string{by.Subject},
		ExtraExtensions: []pkix.Extension{extension},
	}
	if leaf, err = a.issue(template, a.below, &key.PublicKey, a.belowKey); err != nil {
		return nil, nil, err
	}
	if a.Listed {
		listed, err := a.list(leaf)
		if err != nil {
			return nil, nil, err
		}
		template.ExtraExtensions = append(template.ExtraExtensions, listed)
		if leaf, err = a.issue(template, a.below, &key.PublicKey, a.belowKey); err != nil {
			return nil, nil, err
		}
	}
	digest := sha256.Sum256(content)
	sig, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
	return sig, leaf, err
}

// list is a certificate log's promise (RFC 6962, 3.2) about a certificate that does not have it yet, as an extension.
func (a *Authority) list(leaf *x509.Certificate) (pkix.Extension, error) {
	_, id, err := public(a.ctKey)
	if err != nil {
		return pkix.Extension{}, err
	}
	issuerKey := sha256.Sum256(a.below.RawSubjectPublicKeyInfo)
	const precertificate = 1
	begin := append([]byte{0}, id...)
	signed := []byte{0, 0} // version 1, of a certificate's timestamp
	timestamp := binary.BigEndian.AppendUint64(nil, uint64(a.At.UnixMilli()))
	signed = append(append(signed, timestamp...), 0, precertificate)
	signed = append(signed, issuerKey[:]...)
	n := len(leaf.RawTBSCertificate)
	signed = append(append(signed, byte(n>>16), byte(n>>8), byte(n)), leaf.RawTBSCertificate...)
	signed = append(signed, 0, 0) // no extensions
	digest := sha256.Sum256(signed)
	sig, err := ecdsa.SignASN1(rand.Reader, a.ctKey, digest[:])
	if err != nil {
		return pkix.Extension{}, err
	}
	const sha256AndECDSA = "\x04\x03"
	sct := append(append(begin, timestamp...), 0, 0)
	sct = append(binary.BigEndian.AppendUint16(append(sct, sha256AndECDSA...), uint16(len(sig))), sig...)
	list := binary.BigEndian.AppendUint16(nil, uint16(len(sct)+2))
	list = append(binary.BigEndian.AppendUint16(list, uint16(len(sct))), sct...)
	value, err := asn1.Marshal(list)
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value}, err
}

// public is a log's key and its name, which is the key's SHA-256.
func public(key *ecdsa.PrivateKey) (der, id []byte, err error) {
	der, err = x509.MarshalPKIXPublicKey(&key.PublicKey)
	sum := sha256.Sum256(der)
	return der, sum[:], err
}

// promise is the log's, in the form in which cosign keeps it.
func (a *Authority) promise(content, sig []byte, leaf *x509.Certificate) ([]byte, error) {
	digest := sha256.Sum256(content)
	body, err := json.Marshal(object{
		"apiVersion": "0.0.1", "kind": "hashedrekord",
		"spec": object{
			"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(digest[:])}},
			"signature": object{"content": sig, "publicKey": object{"content": encode(leaf)}},
		},
	})
	if err != nil {
		return nil, err
	}
	_, id, err := public(a.logKey)
	if err != nil {
		return nil, err
	}
	payload := object{"body": body, "integratedTime": a.At.Add(a.Delay).Unix(), "logIndex": 7, "logID": hex.EncodeToString(id)}
	canonical, err := json.Marshal(payload) // of a map: sorted, and none of it has a character with two forms
	if err != nil {
		return nil, err
	}
	signed := sha256.Sum256(canonical)
	timestamp, err := ecdsa.SignASN1(rand.Reader, a.logKey, signed[:])
	if err != nil {
		return nil, err
	}
	return json.Marshal(object{"SignedEntryTimestamp": timestamp, "Payload": payload})
}

func encode(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func text(data []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(data)) }
