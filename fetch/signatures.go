package fetch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
	"github.com/myadm/myadm/signature"
)

// Signatures say whose signatures are looked at. They are fetched from where the files and images are: FILE.sig and
// FILE.cert, and the tag sha256-HEX.sig in an image's repository. One that does not hold is refused always.
type Signatures struct {
	Roots    *signature.Roots // whom to believe; nil: none are looked at
	Subject  string           // who signs everything that anybody signs; empty: who release names
	Issuer   string           // who vouches for the signer; empty: likewise
	Required bool             // a missing signature is an error, where the makers have one
}

// Proof is how an item was verified.
type Proof string

// The proofs. What has a signature has its checksum, too.
const (
	BySignature Proof = "signature"
	ByChecksum  Proof = "checksum" // nobody signs it, in a way that myadm checks
	Unsigned    Proof = "unsigned" // by checksum, as the signature that its makers publish is not there
)

// Verified is an item, or the archive that several are in by the first of them, and how it was verified.
type Verified struct {
	Item  release.Item
	Proof Proof
}

// Verified lists how everything was verified so far, by name, version and architecture. Without roots it is empty.
func (f *Fetcher) Verified() []Verified {
	f.verified.mu.Lock()
	defer f.verified.mu.Unlock()
	return slices.SortedFunc(slices.Values(f.verified.all), func(a, b Verified) int {
		return cmp.Or(strings.Compare(a.Item.Name, b.Item.Name), strings.Compare(a.Item.Version, b.Item.Version), strings.Compare(a.Item.Arch, b.Item.Arch))
	})
}

// verified collects how items were verified.
type verified struct {
	mu  sync.Mutex
	all []Verified
}

func (v *verified) note(item release.Item, proof Proof) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = slices.DeleteFunc(v.all, func(other Verified) bool { return other.Item.String() == item.String() && other.Item.Kind == item.Kind })
	v.all = append(v.all, Verified{item, proof})
}

// checksum is what published gives, if that is what was signed. So nothing of a file whose signature is wrong is ever
// fetched.
func (f *Fetcher) checksum(ctx context.Context, item release.Item) (bundle.Blob, error) {
	known, err := f.published(ctx, item)
	if err != nil {
		return bundle.Blob{}, err
	}
	return known, f.verifyFile(ctx, item, known.SHA256)
}

// signer is who must have signed an item. It is nobody's business without roots, and nobody where makers do not sign.
func (f *Fetcher) signer(item release.Item) (by signature.Identity, ok bool) {
	switch {
	case f.signatures.Roots == nil:
		return by, false
	case item.Signer == release.Signer{}:
		f.verified.note(item, ByChecksum)
		return by, false
	}
	s := f.signatures
	return signature.Identity{Subject: cmp.Or(s.Subject, item.Signer.Subject), Issuer: cmp.Or(s.Issuer, item.Signer.Issuer)}, true
}

// unsigned is what it means that a signature is not there.
func (f *Fetcher) unsigned(item release.Item) error {
	if f.signatures.Required {
		return errUnsigned
	}
	f.verified.note(item, Unsigned)
	return nil
}

var errUnsigned = errors.New("there is no signature, and it must have one; hint: its makers publish one: a mirror must have that, too (.sig and .cert beside files, " +
	"sha256-HEX.sig beside images); without --verify-signatures a checksum is enough")

// verifyFile checks the signature of a file with a checksum.
func (f *Fetcher) verifyFile(ctx context.Context, item release.Item, sum string) error {
	by, ok := f.signer(item)
	if !ok {
		return nil
	}
	at, err := f.address(item.File.Signature.URL)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", item, err)
	}
	beside, err := f.address(item.File.Signature.Certificate)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", item, err)
	}
	subject := "signature " + at.String()
	var known struct {
		Signature   []byte `json:"signature"`
		Certificate []byte `json:"certificate"`
	}
	if !f.cache.recall(subject, &known) {
		what := "the signature of " + item.String()
		known.Signature, _, err = f.small(ctx, request{item: what, client: f.files, url: at}, maxChecksum)
		if err == nil {
			known.Certificate, _, err = f.small(ctx, request{item: what, client: f.files, url: beside}, maxChecksum)
		}
		if statusOf(err) == http.StatusNotFound {
			return f.describe(item.String(), at, f.unsigned(item))
		}
		if err != nil {
			return f.describe(what, at, err)
		}
	}
	if err := f.signatures.Roots.File(sum, known.Signature, known.Certificate, by); err != nil {
		f.cache.forget(subject)
		u, _ := f.address(item.File.URL)
		f.cache.forget(fileSubject(u, item)) // so that the next run asks anew, for both
		return f.describe(item.String(), at, err)
	}
	f.verified.note(item, BySignature)
	return f.cache.remember(subject, known)
}

// verifyImage checks the signature of an image: of what its tag stands for, an index say, or else of its manifest for one
// platform. subject is the cache's record of the tag.
func (f *Fetcher) verifyImage(ctx context.Context, s source, item release.Item, subject, tagged, digest string) error {
	by, ok := f.signer(item)
	if !ok {
		return nil
	}
	for _, d := range slices.Compact([]string{tagged, digest}) {
		err := f.verifyManifest(ctx, s, item, d, by)
		if errors.Is(err, errNoSignature) {
			continue
		}
		if err != nil {
			f.cache.forget(subject)
			return err
		}
		f.verified.note(item, BySignature)
		return nil
	}
	return f.unsigned(item)
}

// errNoSignature is a tag of signatures that is not there.
var errNoSignature = errors.New("there is no signature")

// verifyManifest checks the signature of one manifest.
func (f *Fetcher) verifyManifest(ctx context.Context, s source, item release.Item, digest string, by signature.Identity) error {
	subject := "signatures " + s.url("manifests", digest).String()
	var known []signature.ImageSignature
	if !f.cache.recall(subject, &known) {
		var err error
		if known, err = f.imageSignatures(ctx, s, item, digest); err != nil {
			return err
		}
	}
	if err := f.signatures.Roots.Image(signature.Image{Reference: item.Image, Arch: item.Arch, Digest: digest}, known, by); err != nil {
		f.cache.forget(subject)
		return err
	}
	return f.cache.remember(subject, known)
}

// Most signatures that an image may have, and bytes of what one of them signs: far more than any has.
const (
	maxSignatures = 32
	maxPayload    = 64 << 10
)

// imageSignatures gets the signatures of a manifest, which are an image of their own: a layer for each.
func (f *Fetcher) imageSignatures(ctx context.Context, s source, item release.Item, digest string) ([]signature.ImageSignature, error) {
	data, _, err := f.manifest(ctx, s, item, signature.Tag(digest))
	if statusOf(err) == http.StatusNotFound {
		return nil, errNoSignature
	}
	if err != nil {
		return nil, fmt.Errorf("its signature: %w", err)
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("its signature: %w", err)
	}
	var all []signature.ImageSignature
	for _, layer := range manifest.Layers {
		if layer.MediaType != signature.MediaType {
			continue
		}
		if len(all) == maxSignatures {
			return nil, fmt.Errorf("it has more than %d signatures", maxSignatures)
		}
		client, err := f.client(ctx, s)
		if err != nil {
			return nil, err
		}
		r := request{item: "the signature of " + item.String(), client: client, url: s.url("blobs", layer.Digest.String())}
		payload, _, err := f.small(ctx, r, maxPayload)
		if err != nil {
			return nil, fmt.Errorf("its signature %s: %w", layer.Digest, err)
		}
		if got := sum(payload); got != layer.Digest.Hex {
			return nil, fmt.Errorf("its signature: %w", &mismatchError{got, layer.Digest.Hex})
		}
		all = append(all, signature.ImageSignature{Payload: payload, Annotations: layer.Annotations})
	}
	return all, nil
}
