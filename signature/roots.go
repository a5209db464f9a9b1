package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// HintRoots says where a user gets roots.
const HintRoots = "`cosign initialize` on a machine with the network verifies sigstore's and leaves them as trusted_root.json below ~/.sigstore/root"

// Roots are whom to believe: authorities (Fulcio) that say whose a key is, and logs that say what has been signed.
type Roots struct{ material root.TrustedMaterial }

// maxRoots is far more than a file of roots has.
const maxRoots = 4 << 20 // bytes

// The blocks of a PEM file of roots.
const (
	pemCertificate = "CERTIFICATE"
	pemPublicKey   = "PUBLIC KEY"
)

// Load reads roots from a file, as Parse does.
func Load(path string) (*Roots, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("signature roots: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxRoots+1))
	if err == nil && len(data) > maxRoots {
		err = fmt.Errorf("it has more than %d bytes", maxRoots)
	}
	if err != nil {
		return nil, fmt.Errorf("signature roots %s: %w", path, err)
	}
	roots, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("signature roots %s: %w; hint: it is a trusted_root.json of sigstore, or a PEM file; %s", path, err, HintRoots)
	}
	return roots, nil
}

// Parse reads roots in one of two forms: the sigstore project's trusted_root.json, which has authorities, logs and when
// each was valid; or PEM, with certificates of authorities, those that signed themselves and those below, and public keys
// of Rekor logs. What a signature is checked against is in the file alone: certificates that come with one prove nothing.
func Parse(data []byte) (*Roots, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		trusted, err := root.NewTrustedRootFromJSON(data)
		if err != nil {
			return nil, err
		}
		if len(trusted.FulcioCertificateAuthorities()) == 0 {
			return nil, errNoAuthority
		}
		return &Roots{trusted}, nil
	}
	authorities, logs, err := parsePEM(data)
	if err != nil {
		return nil, err
	}
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, authorities, nil, nil, logs)
	if err != nil {
		return nil, err
	}
	return &Roots{trusted}, nil
}

var errNoAuthority = errors.New("it has no authority")

func parsePEM(data []byte) ([]root.CertificateAuthority, map[string]*root.TransparencyLog, error) {
	var tops, below []*x509.Certificate
	logs := map[string]*root.TransparencyLog{}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case pemCertificate:
			cert, err := x509.ParseCertificate(block.Bytes)
			switch {
			case err != nil:
				return nil, nil, err
			case !cert.IsCA:
				return nil, nil, fmt.Errorf("the certificate of %q is not one of an authority", cert.Subject)
			case cert.CheckSignatureFrom(cert) == nil: // it signed itself
				tops = append(tops, cert)
			default:
				below = append(below, cert)
			}
		case pemPublicKey:
			log, err := parseLog(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			logs[hex.EncodeToString(log.ID)] = log
		default:
			return nil, nil, fmt.Errorf("it has a %q", block.Type)
		}
	}
	if len(tops) == 0 {
		return nil, nil, errNoAuthority
	}
	var authorities []root.CertificateAuthority
	for _, top := range tops {
		authorities = append(authorities, &root.FulcioCertificateAuthority{Root: top, Intermediates: below})
	}
	return authorities, logs, nil
}

// parseLog is a Rekor log by its key alone: it is named by the key's SHA-256 and has always been valid.
func parseLog(der []byte) (*root.TransparencyLog, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	if _, ok := key.(*ecdsa.PublicKey); !ok {
		return nil, fmt.Errorf("the key of a log is a %T, and Rekor's are ECDSA", key)
	}
	id := sha256.Sum256(der)
	return &root.TransparencyLog{ID: id[:], ValidityPeriodStart: time.Unix(0, 0), PublicKey: key}, nil
}
