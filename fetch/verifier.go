package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"

	"github.com/myadm/myadm/bundle"
)

// verifier is a reader of a blob that ends in an error instead of io.EOF when it was another one: a disk may have changed
// what was right when it was stored.
type verifier struct {
	io.Reader
	hash hash.Hash
	want string
}

func newVerifier(r io.Reader, b bundle.Blob) *verifier {
	h := sha256.New()
	return &verifier{io.TeeReader(r, h), h, b.SHA256}
}

func (v *verifier) Read(data []byte) (int, error) {
	n, err := v.Reader.Read(data)
	if err == io.EOF {
		if got := hex.EncodeToString(v.hash.Sum(nil)); got != v.want {
			return n, &mismatchError{got, v.want}
		}
	}
	return n, err
}
