package bundle_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/myadm/myadm/bundle"
)

// compressible is a content of some size that becomes smaller; random one that does not.
var compressible = []byte(strings.Repeat("a program is mostly the same instructions again\n", 5000) + string(random[:1000]))

var random = func() []byte {
	b := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{1}).Read(b) //nolint:errcheck // it never fails
	return b
}()

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func pack(t testing.TB, data []byte, options ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

// newPacked is a bundle with a kubelet that is compressed and a ctr that is not.
func newPacked(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	w := create(t, path)
	err := errors.Join(
		w.AddBinary(artifacts()[0], iotest.OneByteReader(bytes.NewReader(compressible))),
		w.AddBinary(artifacts()[1], bytes.NewReader(random)),
		w.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPacked(t *testing.T) {
	for _, name := range []string{"bundle", "bundle.tar"} {
		t.Run(name, func(t *testing.T) {
			path := newPacked(t, name)
			b := open(t, path)
			if err := b.Verify(t.Context(), nil); err != nil {
				t.Error(err)
			}
			kubelet, ctr := find(t, b, "kubelet"), find(t, b, "ctr")
			want := bundle.Blob{SHA256: sumOf(compressible), Size: int64(len(compressible))}
			if kubelet.Blobs[0].Content() != want || kubelet.Size() != want.Size || kubelet.StoredSize() > 10_000 {
				t.Errorf("%+v", kubelet)
			}
			if ctr.Blobs[0] != (bundle.Blob{SHA256: sumOf(random), Size: int64(len(random))}) || ctr.StoredSize() != ctr.Size() {
				t.Errorf("%+v", ctr)
			}
			stored := kubelet.StoredSize() + ctr.StoredSize()
			if all := b.Index.Artifacts; bundle.StoredSize(all) != stored || bundle.TotalSize(all) != want.Size+ctr.Size() {
				t.Errorf("%d of %d bytes are stored", bundle.StoredSize(all), bundle.TotalSize(all))
			}

			for _, c := range []struct {
				a    bundle.Artifact
				want []byte
			}{{kubelet, compressible}, {ctr, random}} {
				file, err := b.Open(t.Context(), c.a)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(iotest.TestReader(file, c.want), file.Close()); err != nil {
					t.Errorf("%s: %v", c.a.Name, err)
				}
			}
			// As an upload that goes on does it, and one that begins anew after that.
			file, err := b.OpenBlob(t.Context(), bundle.Blob{SHA256: want.SHA256})
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			for _, from := range []int64{want.Size - 1500, 0, 70_000} {
				if _, err := file.Seek(from, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				if rest, err := io.ReadAll(file); err != nil || !bytes.Equal(rest, compressible[from:]) {
					t.Errorf("from %d: %d bytes, %v", from, len(rest), err)
				}
			}
			if _, err := file.Seek(-1, io.SeekStart); err == nil {
				t.Error("went before the start")
			}

			packed, err := b.OpenPacked(t.Context(), kubelet)
			if err != nil {
				t.Fatal(err)
			}
			defer packed.Close()
			data, err := io.ReadAll(packed)
			if zip := kubelet.Blobs[0].Zstd; err != nil || sumOf(data) != zip.SHA256 || int64(len(data)) != zip.Size {
				t.Errorf("%d bytes with %s, %v; want %+v", len(data), sumOf(data), err, zip)
			}
			reader, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderMaxWindow(8<<20)) // as a host reads it
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			if content, err := io.ReadAll(reader); err != nil || !bytes.Equal(content, compressible) {
				t.Errorf("%d bytes, %v", len(content), err)
			}
			_, err = b.OpenPacked(t.Context(), ctr)
			wantError(t, err, path, "ctr", "not stored compressed")
			_, err = b.OpenPacked(t.Context(), bundle.Artifact{Name: "etcd", Kind: bundle.KindImage})
			wantError(t, err, "etcd", "no binary")
			if name == "bundle" {
				files := []string{kubelet.Blobs[0].Zstd.SHA256, ctr.Blobs[0].SHA256}
				slices.Sort(files)
				if got := names(t, filepath.Join(path, "blobs", "sha256")); got != strings.Join(files, " ") {
					t.Errorf("there are %s", got)
				}
			}
		})
	}
}

// The same content is stored once, and gives the same bytes.
func TestPackedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle")
	w := create(t, path)
	var errs []error
	for _, a := range artifacts()[:2] {
		errs = append(errs, w.AddBinary(a, bytes.NewReader(compressible)))
	}
	if err := errors.Join(append(errs, w.Close())...); err != nil {
		t.Fatal(err)
	}
	b, other := open(t, path), open(t, newPacked(t, "bundle"))
	if first, second := find(t, b, "kubelet").Blobs[0], find(t, b, "ctr").Blobs[0]; first != second || first != find(t, other, "kubelet").Blobs[0] {
		t.Errorf("%+v, %+v", first, second)
	}
	if got := names(t, filepath.Join(path, "blobs", "sha256")); strings.Contains(got, " ") {
		t.Errorf("there are %s", got)
	}
}

// respell makes a folder's kubelet one of what is stored and what that is said to hold.
func respell(t testing.TB, dir string, stored []byte, content bundle.Blob) {
	t.Helper()
	write(t, filepath.Join(dir, "blobs", "sha256", sumOf(stored)), stored)
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index bundle.Index
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	content.Zstd = bundle.Packed{SHA256: sumOf(stored), Size: int64(len(stored))}
	index.Artifacts[0].Blobs = []bundle.Blob{content}
	write(t, filepath.Join(dir, "index.json"), encode(t, index))
}

func TestPackedRefused(t *testing.T) {
	content := bundle.Blob{SHA256: sumOf(compressible), Size: int64(len(compressible))}
	good := pack(t, compressible)
	for name, c := range map[string]struct {
		stored  []byte
		content bundle.Blob
		want    string
	}{
		"other content":  {pack(t, append([]byte("x"), compressible[1:]...)), content, "unpacks to " /* the size, with another sum */},
		"less":           {pack(t, compressible[1:]), content, "unpacks to "},
		"more":           {pack(t, append(compressible[:len(compressible):len(compressible)], 'x')), content, "unpacks to more than"},
		"a bomb":         {pack(t, make([]byte, 50<<20)), bundle.Blob{SHA256: content.SHA256, Size: 20_000}, "unpacks to more than 20000 bytes"},
		"cut off":        {good[:len(good)-5], content, "unexpected EOF"},
		"not compressed": {random[:1000], content, "magic number mismatch"},
		"garbage after":  {append(good[:len(good):len(good)], random[:10]...), content, "unpack "},
		"much memory":    {pack(t, make([]byte, 20<<20), zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false)), bundle.Blob{SHA256: content.SHA256, Size: 20 << 20}, "window size exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newPacked(t, "bundle")
			respell(t, dir, c.stored, c.content)
			b := open(t, dir)
			file := "blobs/sha256/" + sumOf(c.stored)
			wantError(t, b.Verify(t.Context(), nil), "kubelet", file, c.want, "hint:")
			kubelet := find(t, b, "kubelet")
			_, err := b.Open(t.Context(), kubelet)
			wantError(t, err, file, c.want)
			_, err = b.OpenPacked(t.Context(), kubelet)
			wantError(t, err, file, c.want)
			w := create(t, filepath.Join(t.TempDir(), "copy"))
			wantError(t, w.Copy(t.Context(), b, kubelet), "add kubelet", file, c.want)
		})
	}
}

// What is damaged on the disk is told as that, whatever it does to unpacking.
func TestPackedDamaged(t *testing.T) {
	dir := newPacked(t, "bundle")
	b := open(t, dir)
	kubelet := find(t, b, "kubelet")
	file := filepath.Join(dir, "blobs", "sha256", kubelet.Blobs[0].Zstd.SHA256)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	write(t, file, data)
	wantError(t, b.Verify(t.Context(), nil), "kubelet", "has sha256 "+sumOf(data)+" instead of "+kubelet.Blobs[0].Zstd.SHA256)
	write(t, file, data[1:])
	_, err = bundle.Open(dir)
	wantError(t, err, "kubelet", "bytes instead of", "hint:")
}

// A folder with contents as they are, such as a cache of downloads, becomes a bundle with compressed ones; a bundle with
// compressed ones is copied as it is.
func TestCopyPacks(t *testing.T) {
	cache := t.TempDir()
	if err := os.MkdirAll(filepath.Join(cache, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(cache, "blobs", "sha256", sumOf(compressible)), compressible)
	kubelet := artifacts()[0]
	kubelet.Kind, kubelet.Blobs = bundle.KindBinary, []bundle.Blob{{SHA256: sumOf(compressible), Size: int64(len(compressible))}}
	raw, err := bundle.OpenFolder(cache, bundle.Index{APIVersion: bundle.APIVersion, KubernetesVersion: "v1.37.2", Artifacts: []bundle.Artifact{kubelet}})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	from := raw
	for _, name := range []string{"of the cache", "of the copy.tar"} {
		path := filepath.Join(t.TempDir(), name)
		w := create(t, path)
		if err := errors.Join(w.Copy(t.Context(), from, from.Index.Artifacts[0]), w.Close()); err != nil {
			t.Fatal(err)
		}
		from = open(t, path)
		if err := from.Verify(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if got, want := find(t, from, "kubelet").Blobs[0], find(t, open(t, newPacked(t, "bundle")), "kubelet").Blobs[0]; got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		d := bundle.Diff(raw, from) // how it is stored is no difference
		if d.OnlyA.Artifacts != nil || d.OnlyB.Artifacts != nil || d.OnlyA.Blobs != nil || d.OnlyB.Blobs != nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if raw.Index.Artifacts[0].Blobs[0].Zstd != (bundle.Packed{}) {
		t.Error("the cache's own index was changed")
	}
	d := bundle.Diff(open(t, newFolder(t)), from)
	if zip := from.Index.Artifacts[0].Blobs[0].Zstd; d.OnlyB.Bytes() != int64(len(compressible)) || d.OnlyB.StoredBytes() != zip.Size {
		t.Errorf("%d bytes, %d stored; want %d and %d", d.OnlyB.Bytes(), d.OnlyB.StoredBytes(), len(compressible), zip.Size)
	}
}

// FuzzPacked: whatever is stored, what is opened is the content that the index names.
func FuzzPacked(f *testing.F) {
	want := []byte(strings.Repeat("hello ", 1000))
	f.Add(pack(f, want))
	f.Add(append(pack(f, want[:3000]), pack(f, want[3000:])...))
	f.Add(pack(f, make([]byte, 1<<20)))
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x58"))
	f.Add([]byte("\x50\x2a\x4d\x18\x00\x00\x00\x00"))
	dir := newPacked(f, "bundle")
	f.Fuzz(func(t *testing.T, stored []byte) {
		if len(stored) == 0 || len(stored) >= len(want) {
			return
		}
		respell(t, dir, stored, bundle.Blob{SHA256: sumOf(want), Size: int64(len(want))})
		defer os.Remove(filepath.Join(dir, "blobs", "sha256", sumOf(stored)))
		b := open(t, dir)
		file, err := b.Open(t.Context(), b.Index.Artifacts[0])
		if err != nil {
			return
		}
		defer file.Close()
		if err := iotest.TestReader(file, want); err != nil {
			t.Error(err)
		}
	})
}
