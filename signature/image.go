package signature

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore/pkg/signature/payload"
)

// MediaType is that of a layer which is the payload of an image's signature.
const MediaType = "application/vnd.dev.cosign.simplesigning.v1+json"

// The annotations of such a layer.
const (
	annotationSignature   = "dev.cosignproject.cosign/signature" // base64
	annotationCertificate = "dev.sigstore.cosign/certificate"    // PEM
	annotationBundle      = "dev.sigstore.cosign/bundle"         // what the log said, as JSON
)

// Tag is the one under which cosign puts the signatures of a manifest into its repository.
func Tag(digest string) string { return strings.Replace(digest, ":", "-", 1) + ".sig" }

// Image is what a signature is to be of.
type Image struct {
	Reference string // registry/repository:tag
	Arch      string // as Go names it
	Digest    string // sha256:HEX of a manifest, or of the index that names it
}

// ImageSignature is one signature of an image, as a layer of what Tag names.
type ImageSignature struct {
	Payload     []byte            `json:"payload"`
	Annotations map[string]string `json:"annotations"`
}

// Image checks that one of the signatures holds. Others may be of other signers, of those who built the image, say.
//
// The payload says what it is of: the digest must be the image's. It also says which repository the signer meant, and the
// last part of that must be the image's, with or without the architecture (kube-proxy, kube-proxy-arm64), so that no image
// can stand in for another one. Which version it is the payload does not say.
func (r *Roots) Image(image Image, signatures []ImageSignature, by Identity) error {
	var findings []error
	for _, s := range signatures {
		err := r.image(image, s, by)
		if err == nil {
			return nil
		}
		findings = append(findings, err)
	}
	if len(findings) == 1 {
		return findings[0]
	}
	if len(findings) == 0 {
		return errors.New("there is nothing where its signatures are kept; hint: " + hintChanged)
	}
	text, hint := "", ""
	for i, err := range findings {
		said, how, _ := strings.Cut(err.Error(), "; hint: ")
		text += fmt.Sprintf("; %d: %s", i+1, said)
		hint = how
	}
	return fmt.Errorf("none of its %d signatures holds%s; hint: %s", len(findings), text, hint)
}

func (r *Roots) image(image Image, s ImageSignature, by Identity) error {
	if err := checkPayload(image, s.Payload); err != nil {
		return err
	}
	digest := sha256.Sum256(s.Payload)
	proof := signed{digest: digest[:]}
	var err error
	if proof.signature, err = parseSignature([]byte(s.Annotations[annotationSignature])); err != nil {
		return err
	}
	if proof.certificate, err = parseCertificate([]byte(s.Annotations[annotationCertificate])); err != nil {
		return err
	}
	switch text := s.Annotations[annotationBundle]; {
	case text != "":
		if proof.entry, err = parseEntry([]byte(text)); err != nil {
			return err
		}
	case len(r.material.RekorLogs()) > 0:
		return fmt.Errorf("it comes without the promise of a transparency log; hint: %s", hintChanged)
	}
	return r.check(proof, by)
}

// checkPayload compares what a payload claims; whether it is signed is not looked at.
func checkPayload(image Image, data []byte) error {
	var claims payload.SimpleContainerImage
	if err := json.Unmarshal(data, &claims); err != nil {
		return fmt.Errorf("what was signed is malformed: %w; hint: %s", err, hintChanged)
	}
	c := claims.Critical
	if c.Type != payload.CosignSignatureType {
		return fmt.Errorf("what was signed is a %q, not a %q; hint: %s", c.Type, payload.CosignSignatureType, hintChanged)
	}
	if c.Image.DockerManifestDigest != image.Digest {
		return fmt.Errorf("it is the signature of %q, not of %s; hint: %s", c.Image.DockerManifestDigest, image.Digest, hintChanged)
	}
	if meant, is := baseName(c.Identity.DockerReference), baseName(image.Reference); meant != is && meant != is+"-"+image.Arch {
		return fmt.Errorf("it is the signature of an image %q, not of %q; hint: %s", meant, is, hintChanged)
	}
	return nil
}

// baseName is the last part of a repository, of a reference with or without a tag and a digest.
func baseName(reference string) string {
	name, _, _ := strings.Cut(path.Base(reference), "@")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// parseEntry reads what cosign keeps of the log's answer: the entry, and the log's promise to list it.
func parseEntry(data []byte) (*tlog.Entry, error) {
	var said struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           string `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	if err := json.Unmarshal(data, &said); err != nil {
		return nil, fmt.Errorf("what the transparency log said is malformed: %w; hint: %s", err, hintChanged)
	}
	body, err := base64.StdEncoding.DecodeString(said.Payload.Body)
	if err != nil {
		return nil, fmt.Errorf("the entry in the transparency log is malformed: %w; hint: %s", err, hintChanged)
	}
	id, err := hex.DecodeString(said.Payload.LogID)
	if err != nil {
		return nil, fmt.Errorf("the name of the transparency log is malformed: %w; hint: %s", err, hintChanged)
	}
	if len(said.SignedEntryTimestamp) == 0 || said.Payload.IntegratedTime <= 0 || said.Payload.LogIndex < 0 {
		return nil, fmt.Errorf("what the transparency log said is not whole; hint: %s", hintChanged)
	}
	entry, err := tlog.NewEntry(body, said.Payload.IntegratedTime, said.Payload.LogIndex, id, said.SignedEntryTimestamp, nil) //nolint:staticcheck // this form is of Rekor v1, which the newer function would have to be told
	if err != nil {
		return nil, fmt.Errorf("the entry in the transparency log is malformed: %w; hint: %s", err, hintChanged)
	}
	return entry, nil
}
