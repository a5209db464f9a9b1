package hosttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/myadm/myadm/host"
)

// source is a blob that counts what is read of it.
type source struct {
	host.Blob
	data []byte
	read atomic.Int64
	at   atomic.Int64 // where reading started last
}

func newSource(p string, data []byte) *source {
	sum := sha256.Sum256(data)
	s := &source{data: data}
	s.Blob = host.Blob{Path: p, Mode: 0o755, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	s.Open = func() (io.ReadSeekCloser, error) { return &sourceReader{bytes.NewReader(s.data), s}, nil }
	return s
}

type sourceReader struct {
	*bytes.Reader
	s *source
}

func (r *sourceReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.s.read.Add(int64(n))
	return n, err
}

func (r *sourceReader) Seek(offset int64, whence int) (int64, error) {
	at, err := r.Reader.Seek(offset, whence)
	r.s.at.Store(at)
	return at, err
}

func (r *sourceReader) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{r}) }

func (r *sourceReader) Close() error { return nil }

func upload(t *testing.T, h host.Host, dir string) {
	for _, size := range []int{0, 1, 1 << 15, 5<<20 + 123} {
		src := newSource(fmt.Sprintf("%s/new folder/%d", dir, size), noise(size, 2))
		last := int64(-1)
		must(t, h.Upload(t.Context(), src.Blob, func(n int64) {
			if n < last {
				t.Errorf("progress went from %d to %d", last, n)
			}
			last = n
		}))
		if last != src.Size && size > 0 {
			t.Errorf("progress ended at %d of %d", last, src.Size)
		}
		if info := one(t, h, src.Path); info.SHA256 != src.SHA256 || info.Mode != src.Mode || info.Size != src.Size {
			t.Errorf("uploaded %+v, want %+v", info, src.Blob)
		}
		if info := one(t, h, host.PartPath(src.Blob)); info.Exists {
			t.Errorf("%s is still there", info.Path)
		}

		src.read.Store(0)
		src.Mode = 0o700
		must(t, h.Upload(t.Context(), src.Blob, nil))
		if n := src.read.Load(); n != 0 {
			t.Errorf("%d bytes were sent of what was there already", n)
		}
		if mode := one(t, h, src.Path).Mode; mode != 0o700 {
			t.Errorf("mode %v", mode)
		}
	}
}

// uploadResumes cuts an upload of 24 MiB after 16 and looks at where the next one starts.
func uploadResumes(t *testing.T, h host.Host, dir string) {
	src := newSource(dir+"/blob", noise(24<<20, 3))
	ctx, cut := context.WithCancel(t.Context())
	err := h.Upload(ctx, src.Blob, func(n int64) {
		if n >= 16<<20 {
			cut()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cut upload: %v", err)
	}
	if one(t, h, src.Path).Exists {
		t.Fatal("a cut upload is in place")
	}
	must(t, h.Upload(t.Context(), src.Blob, nil))
	if at := src.at.Load(); at < 8<<20 {
		t.Errorf("the second upload started at %d", at)
	}
	if info := one(t, h, src.Path); info.SHA256 != src.SHA256 {
		t.Errorf("resumed upload: %+v", info)
	}
}

func uploadWrong(t *testing.T, h host.Host, dir string) {
	src := newSource(dir+"/blob", noise(1<<20, 4))
	src.data = noise(1<<20, 5)
	if err := h.Upload(t.Context(), src.Blob, nil); err == nil {
		t.Error("content with another sum was accepted")
	}
	if one(t, h, src.Path).Exists {
		t.Error("content with another sum is in place")
	}
	src.data = noise(1<<20, 4)
	must(t, h.Upload(t.Context(), src.Blob, nil))
	if info := one(t, h, src.Path); info.SHA256 != src.SHA256 {
		t.Errorf("after the wrong content: %+v", info)
	}
}

// uploadUnopened leaves nothing of a source that turns out to be damaged.
func uploadUnopened(t *testing.T, h host.Host, dir string) {
	src, damaged := newSource(dir+"/new folder/blob", noise(10, 8)), errors.New("damaged")
	src.Open = func() (io.ReadSeekCloser, error) { return nil, damaged }
	if err := h.Upload(t.Context(), src.Blob, nil); !errors.Is(err, damaged) {
		t.Errorf("%v, want %v", err, damaged)
	}
	for _, p := range []string{src.Path, host.PartPath(src.Blob)} {
		if one(t, h, p).Exists {
			t.Errorf("%s is there", p)
		}
	}
}
