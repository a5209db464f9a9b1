package cmd

import (
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/fetch"
	"github.com/myadm/myadm/signature"
)

// signaturesOf reads the roots that a document, or flags, name.
func signaturesOf(s config.Signatures) (fetch.Signatures, error) {
	wanted := fetch.Signatures{Subject: s.Identity, Issuer: s.Issuer, Required: s.Required}
	if s.Roots == "" {
		return wanted, nil
	}
	var err error
	wanted.Roots, err = signature.Load(s.Roots)
	return wanted, err
}

// proofs are the names of what was fetched, by how it was verified. What came out of an archive has the name of the first
// of it. Nobody has asked when all are empty.
type proofs struct {
	Signature []string `json:"signature,omitempty"` // by the signature of its makers, and its checksum
	Checksum  []string `json:"checksum,omitempty"`  // by its checksum, as its makers sign nothing that is checked
	Unsigned  []string `json:"unsigned,omitempty"`  // by its checksum, as the signature that there should be is missing
}

// proofsOf sorts what was verified. A name is there once, for all architectures.
func proofsOf(all []fetch.Verified) proofs {
	var p proofs
	for _, v := range all {
		list := &p.Checksum
		switch v.Proof {
		case fetch.BySignature:
			list = &p.Signature
		case fetch.Unsigned:
			list = &p.Unsigned
		}
		if !slices.Contains(*list, v.Item.Name) {
			*list = append(*list, v.Item.Name)
		}
	}
	return p
}

func (p proofs) print(out io.Writer) { p.note(Streams{Err: out}) }

// note tells of them in a line each.
func (p proofs) note(streams Streams) {
	for _, line := range []struct {
		level slog.Level
		text  string
		names []string
	}{
		{slog.LevelInfo, "verified by signature", p.Signature},
		{slog.LevelInfo, "verified by checksum, as the makers sign otherwise or not at all", p.Checksum},
		{slog.LevelWarn, "verified by checksum, as the signature is missing", p.Unsigned},
	} {
		if len(line.names) > 0 {
			streams.note(line.level, line.text+": "+strings.Join(line.names, ", "))
		}
	}
}
