package bundle_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myadm/myadm/bundle"
)

type entry struct {
	name, body string
	kind       byte
	link       string
	records    map[string]string
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		header := &tar.Header{Typeflag: e.kind, Name: e.name, Linkname: e.link, Size: int64(len(e.body)), Mode: 0o644, PAXRecords: e.records}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

// A tar made by hand has folders in it and names that begin with a dot.
func TestTarByHand(t *testing.T) {
	dir := newFolder(t)
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	entries := []entry{{name: "./", kind: tar.TypeDir}, {name: "./index.json", body: string(index)}, {name: "./blobs/sha256/", kind: tar.TypeDir}}
	b := open(t, dir)
	for _, blob := range bundle.Blobs(b.Index.Artifacts) {
		content, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", blob.SHA256))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry{name: "./blobs/sha256/" + blob.SHA256, body: string(content)})
	}
	name := filepath.Join(t.TempDir(), "hand.tar")
	write(t, name, tarOf(t, entries...))
	if err := open(t, name).Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestOpenTarRefuses(t *testing.T) {
	good, err := os.ReadFile(newTar(t))
	if err != nil {
		t.Fatal(err)
	}
	index := string(encode(t, goodIndex()))
	first := entry{name: "index.json", body: index}
	for name, c := range map[string]struct {
		data []byte
		want []string
	}{
		"no tar":          {[]byte(strings.Repeat("Kubernetes ", 200)), []string{"tar", "hint:"}},
		"empty":           {nil, []string{"empty", "hint:"}},
		"cut in a blob":   {good[:len(good)-2*512-510], []string{"cut off", "hint:"}},
		"cut in a header": {good[:700], []string{"cut off"}},
		"cut between":     {tarOf(t, first), []string{"artifact kubelet", "is missing", "artifact etcd"}},
		"index not first": {tarOf(t, entry{name: "blobs/x"}, first), []string{`starts with "blobs/x"`, "hint:"}},
		"a file twice":    {tarOf(t, first, first), []string{`"index.json" is in the tar file twice`}},
		"climbing":        {tarOf(t, first, entry{name: "../../etc/passwd"}), []string{`"../../etc/passwd"`, "not a path below"}},
		"absolute":        {tarOf(t, first, entry{name: "/etc/passwd"}), []string{`"/etc/passwd"`, "not a path below"}},
		"a link":          {tarOf(t, first, entry{name: "blobs/x", kind: tar.TypeSymlink, link: "/etc/passwd"}), []string{"not a plain file"}},
		"a sparse file":   {sparseTar(t, first), []string{"not a plain file"}},
		"a device":        {tarOf(t, first, entry{name: "blobs/x", kind: tar.TypeChar}), []string{"not a plain file"}},
		"wrong size":      {bytes.Replace(good, []byte("the kubelet"), []byte("the kubelot"), 1), nil}, // opens; see below
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bundle.tar")
			write(t, path, c.data)
			b, err := bundle.Open(path)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				wantError(t, b.Verify(t.Context(), nil), path, "artifact kubelet (amd64)", "sha256", "hint:")
				return
			}
			wantError(t, err, append(c.want, path)...)
		})
	}
}

// sparseTar has a file that GNU tar marked as sparse; archive/tar refuses to write the mark, so it is patched in.
func sparseTar(t *testing.T, first entry) []byte {
	t.Helper()
	data := tarOf(t, first, entry{name: "blobs/x", records: map[string]string{"XNU.sparse.name": "blobs/x"}})
	return bytes.Replace(data, []byte("XNU.sparse."), []byte("GNU.sparse."), 1)
}

// Whatever bytes a tar file has, opening and verifying it ends, and only sections of the file are read.
func FuzzOpenTar(f *testing.F) {
	index := string(encode(f, goodIndex()))
	f.Add(tarOf(f, entry{name: "index.json", body: index}))
	f.Add(tarOf(f, entry{name: "index.json", body: index}, entry{name: "blobs/sha256/" + strings.Repeat("0", 64), body: "1234567"}))
	f.Add(tarOf(f, entry{name: "index.json", body: "{}", records: map[string]string{"MYADM.x": "y"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "bundle.tar")
		write(t, path, data)
		b, err := bundle.Open(path)
		if err != nil {
			return
		}
		defer b.Close()
		if size := bundle.TotalSize(b.Index.Artifacts); size > int64(len(data)) {
			t.Errorf("%d bytes hold blobs of %d", len(data), size)
		}
		_ = b.Verify(t.Context(), nil)
	})
}
