package mirror

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func newTestStore(t *testing.T) store {
	t.Helper()
	s, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreRefusesAnotherBlob(t *testing.T) {
	s, sum := newTestStore(t), strings.Repeat("0", 64)
	if err := s.putAs(sum, strings.NewReader("hello")); err == nil || !strings.Contains(err.Error(), "instead of "+sum) {
		t.Errorf("got %v", err)
	}
	if s.has(sum) {
		t.Error("it is there all the same")
	}
}

// Of two bundles with one image the first one's is served.
func TestFirstImageStays(t *testing.T) {
	s := newTestStore(t)
	var all []image
	for _, raw := range []string{"{}", "{ }"} {
		sum, err := s.put(strings.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		manifest := v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(raw)), Digest: v1.Hash{Algorithm: "sha256", Hex: sum}}
		all = append(all, image{ref: "registry.k8s.io/pause:3.10.2", arch: "amd64", manifest: manifest, blobs: []string{sum}})
	}
	x := newImages(s)
	if err := x.add(all); err != nil {
		t.Fatal(err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(x.repos["registry.k8s.io/pause"].tags["3.10.2"].raw))
	if err != nil || len(index.Manifests) != 1 || index.Manifests[0].Digest != all[0].manifest.Digest {
		t.Errorf("the index is %+v, %v; want %s in it", index, err, all[0].manifest.Digest)
	}
	all[0].ref = "registry.k8s.io:5000/pause"
	if err := x.add(all[:1]); err == nil || !strings.Contains(err.Error(), "no tag; hint:") {
		t.Errorf("an image without a tag: %v", err)
	}
}

// full is a client that takes so many bytes and is gone.
type full struct {
	*httptest.ResponseRecorder
	left int
}

func (f *full) Write(p []byte) (int, error) {
	n, _ := f.ResponseRecorder.Write(p[:min(len(p), f.left)])
	f.left -= n
	if n < len(p) {
		return n, errors.New("gone")
	}
	return n, nil
}

// Bytes count as far as they were sent.
func TestCounterOfALostClient(t *testing.T) {
	for name, send := range map[string]func(*counter, []byte) error{
		"written": func(c *counter, p []byte) error { _, err := c.Write(p); return err },
		"copied":  func(c *counter, p []byte) error { _, err := c.ReadFrom(bytes.NewReader(p)); return err },
		"copied in part": func(c *counter, p []byte) error {
			_, err := c.ReadFrom(&io.LimitedReader{R: bytes.NewReader(p), N: 1000})
			return err
		},
	} {
		c := &counter{ResponseWriter: &full{httptest.NewRecorder(), 300}}
		if err := send(c, make([]byte, 2000)); err == nil || c.sofar().Bytes != 300 || c.sofar().Status != 200 {
			t.Errorf("%s: %+v, %v", name, c.sofar(), err)
		}
	}
	c := &counter{ResponseWriter: httptest.NewRecorder()}
	const size = 5<<19 + 7 // more than one chunk
	if n, err := c.ReadFrom(io.LimitReader(zeros{}, size)); n != size || err != nil || c.sofar().Bytes != size {
		t.Errorf("copied %d, %v; counted %d", n, err, c.sofar().Bytes)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
