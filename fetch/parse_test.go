package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/myadm/myadm/release"
)

var (
	bare   = release.Checksum{Form: release.FormBare}
	listed = release.Checksum{Form: release.FormList, Name: "runc.amd64"}
	sumA   = strings.Repeat("a", 64)
	sumB   = strings.Repeat("b", 64)
)

func TestParseChecksum(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		form       release.Checksum
		want       string // empty: an error
	}{
		{"bare", sumA, bare, sumA},
		{"bare, with a line end", sumA + "\n", bare, sumA},
		{"capitals", strings.ToUpper(sumA), bare, sumA},
		{"bare, with a name", sumA + "  kubelet", bare, ""},
		{"a page", "<html>" + sumA, bare, ""},
		{"nothing", "", bare, ""},
		{"one line", sumA + "  runc.amd64\n", listed, sumA},
		{"binary mode", sumA + " *runc.amd64", listed, sumA},
		{"a list", sumB + "  runc.arm64\n" + sumA + "  runc.amd64\n" + sumB + "  runc.amd64.asc\n", listed, sumA},
		{"signed in clear", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + sumA + "  runc.amd64\n-----END", listed, sumA},
		{"another file", sumA + "  runc.arm64\n", listed, ""},
		{"two sums", sumA + "  runc.amd64\n" + sumB + "  runc.amd64\n", listed, ""},
		{"twice the same", sumA + "  runc.amd64\n" + sumA + "  runc.amd64\n", listed, sumA},
		{"short", "aaaa  runc.amd64\n", listed, ""},
	} {
		if got, err := parseChecksum([]byte(tt.text), tt.form); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

// FuzzParseChecksum: what comes out is a checksum that the text has.
func FuzzParseChecksum(f *testing.F) {
	for _, seed := range []string{sumA, sumA + "\n", sumA + "  runc.amd64\n", sumB + " *runc.amd64", "", "../x  runc.amd64"} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, list bool) {
		form := bare
		if list {
			form = listed
		}
		got, err := parseChecksum(data, form)
		if err == nil && (!sumPattern.MatchString(got) || !strings.Contains(strings.ToLower(string(data)), got)) {
			t.Errorf("%q out of %q", got, data)
		}
	})
}

func TestReadMembers(t *testing.T) {
	members := map[string][]byte{"bin/ctr": []byte("ctr"), "bin/containerd": []byte("containerd"), "../../etc/passwd": []byte("x")}
	data := archive(t, members)
	got := map[string]string{}
	store := func(name string, r io.Reader) error {
		content, err := io.ReadAll(r)
		got[name] = string(content)
		return err
	}
	if err := readMembers(bytes.NewReader(data), []string{"bin/ctr"}, maxFile, store); err != nil || len(got) != 1 || got["bin/ctr"] != "ctr" {
		t.Errorf("%v, %v", got, err)
	}
	for name, want := range map[string]error{
		"bin/runc":       readMembers(bytes.NewReader(data), []string{"bin/runc"}, maxFile, store),
		"more than":      readMembers(bytes.NewReader(data), []string{"bin/ctr"}, 1000, store),
		"unpack: ":       readMembers(strings.NewReader("no gzip"), []string{"bin/ctr"}, maxFile, store),
		"unexpected EOF": readMembers(bytes.NewReader(data[:len(data)/2]), []string{"bin/ctr"}, maxFile, store),
	} {
		wantError(t, want, name)
		if want == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestReadMembersRefuses: a member is a regular file, and there is one of its name.
func TestReadMembersRefuses(t *testing.T) {
	for want, headers := range map[string][]tar.Header{
		"ctr is there twice":        {{Name: "bin/ctr", Typeflag: tar.TypeReg}, {Name: "./bin/ctr", Typeflag: tar.TypeReg}},
		"ctr is not a regular file": {{Name: "bin/ctr", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
	} {
		var data bytes.Buffer
		zipped := gzip.NewWriter(&data)
		tarred := tar.NewWriter(zipped)
		for _, h := range headers {
			if err := tarred.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(tarred.Close(), zipped.Close()); err != nil {
			t.Fatal(err)
		}
		wantError(t, readMembers(&data, []string{"bin/ctr"}, maxFile, func(string, io.Reader) error { return nil }), want)
	}
}

// FuzzReadMembers: nothing but what was asked for is stored, and that once.
func FuzzReadMembers(f *testing.F) {
	f.Add(archive(f, map[string][]byte{"bin/ctr": []byte("ctr")}))
	f.Add(archive(f, map[string][]byte{"../bin/ctr": []byte("ctr"), "/bin/ctr": []byte("x")}))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var stored []string
		err := readMembers(bytes.NewReader(data), []string{"bin/ctr"}, 1<<20, func(name string, r io.Reader) error {
			stored = append(stored, name)
			_, err := io.Copy(io.Discard, r)
			return err
		})
		if len(stored) > 1 || slices.ContainsFunc(stored, func(s string) bool { return s != "bin/ctr" }) || err == nil && len(stored) != 1 {
			t.Errorf("stored %v, %v", stored, err)
		}
	})
}
