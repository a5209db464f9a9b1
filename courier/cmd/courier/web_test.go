package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/myadm/myadm/courier/wire"
)

// bytesOf are n bytes, always the same for a seed.
func bytesOf(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) //nolint:errcheck // it never fails
	return b
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// web is a real TLS server that keeps what it was asked.
type web struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

func newWeb(t *testing.T, handler http.HandlerFunc) *web {
	w := &web{}
	w.Server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, r.Clone(t.Context()))
		w.mu.Unlock()
		handler(rw, r)
	}))
	t.Cleanup(w.Close)
	w.Config.ErrorLog = nil
	return w
}

func (w *web) requests() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// ca is what trusts the server; that all of httptest's servers have the same certificate is of use here.
func (w *web) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw}))
}

// file serves content with an ETag and ranges.
func file(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+hexSum(content)[:8]+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// cut serves content as file does, and breaks off each answer after n bytes, for the first cuts answers.
func cut(content []byte, n, cuts int) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		cuts--
		left := cuts
		mu.Unlock()
		if left >= 0 {
			w = &cutting{w, n}
		}
		file(content)(w, r)
	}
}

type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	if c.left -= n; c.left == 0 && err == nil {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// blob is a blob of content in a folder.
func blob(dir string, content []byte, urls ...string) wire.Blob {
	b := wire.Blob{SHA256: hexSum(content), Size: int64(len(content)), Path: filepath.Join(dir, "sub", "blob"), Mode: 0o750}
	for _, u := range urls {
		b.Sources = append(b.Sources, wire.Source{URL: u})
	}
	return b
}

// placed checks that a blob is at its path with its mode, and that nothing else is in its folder.
func placed(t *testing.T, b wire.Blob, content []byte) {
	t.Helper()
	got, err := os.ReadFile(b.Path)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%s: %d bytes, %v; want the %d of the blob", b.Path, len(got), err, len(content))
	}
	info, err := os.Stat(b.Path)
	if err != nil || info.Mode() != b.Mode {
		t.Fatalf("%s: mode %v, %v; want %v", b.Path, info.Mode(), err, b.Mode)
	}
	only(t, filepath.Dir(b.Path), filepath.Base(b.Path))
}

// only checks what files there are in a folder.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Fatalf("%s has %v, want %v", dir, names, want)
	}
}

// put writes a file, for what stood there before.
func put(t *testing.T, path string, content []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
}
