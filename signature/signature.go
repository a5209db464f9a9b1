// Package signature checks who signed what was fetched: signatures as cosign makes them with certificates that live for
// minutes, which Fulcio (an authority of the sigstore project) gives to whoever has proven who he is. Kubernetes signs its
// binaries and images so; see https://kubernetes.io/docs/tasks/administer-cluster/verify-signed-artifacts/.
//
// Whom to believe is the user's to say: Roots come from a file, and none are built in. No network is needed.
//
// A signature holds when all of this does:
//
//	content      the key of the certificate has signed the content's SHA-256
//	log          Rekor's promise to list the signature holds, where there is one; see below
//	authority    the certificate was issued by an authority of the roots, valid when the signature was made
//	listed       the certificate is in a certificate transparency log of the roots, if they name any
//	identity     the certificate was given to the wanted subject, as the wanted issuer (of tokens) knows it
//
// Signatures of images carry the promise of a transparency log, which also says when they were made. Those of files do not:
// then the time is when the certificate became valid, and nothing but the short life of its key keeps a key that was stolen
// later from being used. Where the roots name a log, a signature of an image must have its promise.
//
// Cryptography, and the forms of the sigstore project, are github.com/sigstore/sigstore-go's.
package signature

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// Identity is who signs.
type Identity struct {
	Subject string // as the certificate names it: an email address or a URI
	Issuer  string // URL of who vouched for the subject
}

// String is the identity as errors name it.
func (i Identity) String() string { return fmt.Sprintf("%s (by %s)", i.Subject, i.Issuer) }

// File checks the signature of a file as `cosign sign-blob` writes it: sig is the signature in base64, cert the certificate
// in PEM, or that in base64. sum is the SHA-256 of the file, in hexadecimal.
func (r *Roots) File(sum string, sig, cert []byte, by Identity) error {
	digest, err := hex.DecodeString(sum)
	if err != nil || len(digest) != sha256Size {
		return fmt.Errorf("%q is not a SHA-256", sum)
	}
	s := signed{digest: digest}
	if s.signature, err = parseSignature(sig); err != nil {
		return err
	}
	if s.certificate, err = parseCertificate(cert); err != nil {
		return err
	}
	return r.check(s, by)
}

const sha256Size = 32

// signed is a content and what was published to prove who made it.
type signed struct {
	digest      []byte // SHA-256
	signature   []byte
	certificate *x509.Certificate
	entry       *tlog.Entry // nil: nothing is known of a log
}

// hints of several findings.
const (
	hintChanged = "it was changed on its way or where it is kept: do not use it, and tell whoever keeps it"
	hintRoots   = "if its maker is to be trusted, the file of roots lacks the authority or the log that the maker uses"
	hintSigner  = "if this signer is the one to trust, name it in spec.artifacts.signatures"
)

// check takes the steps that the package comment lists.
func (r *Roots) check(s signed, by Identity) error {
	content := bundle.NewMessageSignature(s.digest, "SHA2_256", s.signature)
	leaf := bundle.NewCertificate(s.certificate)
	err := verify.VerifySignatureWithArtifactDigests(content, leaf, r.material, []verify.ArtifactDigest{{Algorithm: "sha256", Digest: s.digest}})
	if err != nil {
		return fmt.Errorf("the signature is not one of this content: %w; hint: %s", err, hintChanged)
	}
	made, err := r.made(s, content, leaf)
	if err != nil {
		return err
	}
	chains, err := verify.VerifyLeafCertificate(made, s.certificate, r.material)
	if err != nil {
		return fmt.Errorf("the signer's certificate (issued by %q, for %s) is of no authority that is trusted, or of none that was valid then; hint: %s",
			s.certificate.Issuer, made.UTC().Format(time.RFC3339), hintRoots)
	}
	if len(r.material.CTLogs()) > 0 {
		if err := verify.VerifySignedCertificateTimestamp(chains, 1, r.material); err != nil {
			return fmt.Errorf("the signer's certificate is in no certificate log that is trusted: %w; hint: %s", err, hintRoots)
		}
	}
	return checkIdentity(s.certificate, by)
}

// made is when a signature was made, as far as that is proven.
func (r *Roots) made(s signed, content *bundle.MessageSignature, leaf *bundle.Certificate) (time.Time, error) {
	if s.entry == nil || len(r.material.RekorLogs()) == 0 {
		return s.certificate.NotBefore, nil
	}
	times, err := verify.VerifyTlogEntry(&entity{content: content, leaf: leaf, entry: s.entry}, r.material, 1, true)
	if err == nil && len(times) != 1 {
		err = fmt.Errorf("%d times", len(times))
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("the promise of the transparency log does not hold: %w; hint: %s", err, hintRoots)
	}
	return times[0].Time, nil
}

// checkIdentity compares whom a certificate was given to.
func checkIdentity(cert *x509.Certificate, by Identity) error {
	is, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		return fmt.Errorf("the signer's certificate does not say whose it is: %w; hint: %s", err, hintChanged)
	}
	wanted, err := verify.NewShortCertificateIdentity(by.Issuer, "", by.Subject, "")
	if err != nil {
		return err
	}
	if err := wanted.Verify(is); err != nil {
		return fmt.Errorf("it was signed by %s, not by %s; hint: %s", Identity{is.SubjectAlternativeName, is.Issuer}, by, hintSigner)
	}
	return nil
}

// entity is what the library asks of a signature that is in a log.
type entity struct {
	verify.BaseSignedEntity
	content *bundle.MessageSignature
	leaf    *bundle.Certificate
	entry   *tlog.Entry
}

// HasInclusionPromise implements verify.SignedEntity.
func (e *entity) HasInclusionPromise() bool { return true }

// SignatureContent implements verify.SignedEntity.
func (e *entity) SignatureContent() (verify.SignatureContent, error) { return e.content, nil }

// VerificationContent implements verify.SignedEntity.
func (e *entity) VerificationContent() (verify.VerificationContent, error) { return e.leaf, nil }

// TlogEntries implements verify.SignedEntity.
func (e *entity) TlogEntries() ([]*tlog.Entry, error) { return []*tlog.Entry{e.entry}, nil }

func parseSignature(data []byte) ([]byte, error) {
	sig, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(data)))
	if err == nil && len(sig) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("the signature is not one in base64: %w; hint: %s", err, hintChanged)
	}
	return sig, nil
}

// parseCertificate reads the first certificate; cosign writes the PEM in base64 once more.
func parseCertificate(data []byte) (*x509.Certificate, error) {
	if again, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(data))); err == nil {
		data = again
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemCertificate {
		return nil, fmt.Errorf("the signer's certificate is not one in PEM; hint: %s", hintChanged)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the signer's certificate is malformed: %w; hint: %s", err, hintChanged)
	}
	return cert, nil
}
