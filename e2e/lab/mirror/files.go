package mirror

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/Masterminds/semver/v3"
)

// files are what is served beside images, by HOST/PATH.
type files struct {
	blobs store
	all   map[string]file
}

// file has a blob, or a text that is made when it is first asked for.
type file struct {
	blob string
	text func() (string, error)
}

func text(s string) file { return file{text: func() (string, error) { return s, nil }} }

// addProducts adds the files that a bundle's programs make, and their checksum files. What is there already stays: two
// bundles may have the same containerd.
func (f *files) addProducts(programs []program, products []product) error {
	byArch := map[string]map[string]program{}
	for _, p := range programs {
		if byArch[p.arch] == nil {
			byArch[p.arch] = map[string]program{}
		}
		byArch[p.arch][p.name] = p
	}
	for _, arch := range slices.Sorted(maps.Keys(byArch)) {
		for _, p := range products {
			if err := f.addProduct(p, arch, byArch[arch]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *files) addProduct(p product, arch string, have map[string]program) error {
	var members []packed
	var version string
	for _, m := range p.needs() {
		if found, ok := have[m.program]; ok { // a bundle may have less
			members = append(members, packed{strings.ReplaceAll(m.path, "ARCH", arch), found.blob})
			version = found.version
		}
	}
	if len(members) == 0 {
		return nil
	}
	blob := members[0].blob
	if len(p.members) > 0 {
		var err error
		if blob, err = f.blobs.pack(members); err != nil {
			return err
		}
	}
	releases := p.as
	if len(releases) == 0 {
		releases = []string{version}
	}
	for _, release := range slices.Concat(releases, p.also) {
		f.addRelease(p, release, arch, blob)
	}
	return nil
}

// addRelease adds one file and its checksum files.
func (f *files) addRelease(p product, version, arch, blob string) {
	name := at(p.path, version, arch)
	if _, ok := f.all[name]; ok {
		return
	}
	f.all[name] = file{blob: blob}
	for _, sum := range p.sums {
		f.all[name+sum.suffix] = file{text: f.checksum(sum, path.Base(name), blob)}
	}
	if p.list != "" {
		list := path.Join(path.Dir(name), p.list)
		others, err := "", error(nil)
		if old, ok := f.all[list]; ok {
			others, err = old.text()
		}
		f.all[list] = file{text: func() (string, error) { return withLine(others, blob+"  "+path.Base(name)), err }}
	}
}

// checksum is the text of a checksum file. A SHA-512 is computed when it is asked for: a blob's name has only its SHA-256.
func (f *files) checksum(sum sumFile, name, blob string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		hex := blob
		if sum.hash == "sha512" {
			var err error
			if hex, err = hashFile(f.blobs.path(blob), sha512.New()); err != nil {
				return "", err
			}
		}
		if sum.bare {
			return hex, nil
		}
		return hex + "  " + name + "\n", nil
	})
}

func hashFile(name string, h hash.Hash) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	_, err = io.Copy(h, file)
	return hex.EncodeToString(h.Sum(nil)), err
}

// A list of checksums that is signed in the clear (RFC 9580, section 7). The signature is nobody's.
const (
	signedBegin = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
	signedEnd   = "-----BEGIN PGP SIGNATURE-----\n\naW4gdGhlIGxhYiBub2JvZHkgc2lnbnM=\n=bGFi\n-----END PGP SIGNATURE-----\n"
)

// withLine adds a line to such a list, which may be empty, in the order of the files' names.
func withLine(list, line string) string {
	body := strings.TrimSuffix(strings.TrimPrefix(list, signedBegin), signedEnd)
	lines := append(strings.FieldsFunc(body, func(r rune) bool { return r == '\n' }), line)
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(path.Base(a[64:]), path.Base(b[64:])) })
	return signedBegin + strings.Join(lines, "\n") + "\n" + signedEnd
}

// addLabels adds the files that say which version is newest, of all and of each minor: dl.k8s.io/release/LABEL.txt. As
// upstream's they have no line end.
func (f *files) addLabels(versions []string) error {
	newest := map[string]*semver.Version{}
	for _, version := range versions {
		v, err := semver.NewVersion(version)
		if err != nil {
			return fmt.Errorf("version %s: %w", version, err)
		}
		minor := fmt.Sprintf("-%d.%d", v.Major(), v.Minor())
		for _, label := range []string{"stable", "stable" + minor, "latest", "latest" + minor} {
			if have := newest[label]; have == nil || v.GreaterThan(have) {
				newest[label] = v
			}
		}
	}
	for label, v := range newest {
		f.setLabel(label, "v"+v.String())
	}
	return nil
}

func (f *files) setLabel(label, version string) {
	f.all["dl.k8s.io/release/"+label+".txt"] = text(version)
}

func (f *files) serve(w http.ResponseWriter, r *http.Request, name string, fault *Fault) {
	found, ok := f.all[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if found.blob != "" {
		serveBlob(w, r, f.blobs, found.blob, fault)
		return
	}
	said, err := found.text()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	serveBytes(w, r, []byte(said), fault)
}

// serveBlob serves a blob, or a part of it (RFC 9110, section 14), with its SHA-256 as entity tag.
func serveBlob(w http.ResponseWriter, r *http.Request, s store, sum string, fault *Fault) {
	blob, err := os.Open(s.path(sum))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer blob.Close()
	info, err := blob.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	serveContent(w, r, sum, blob, info.Size(), fault)
}

func serveBytes(w http.ResponseWriter, r *http.Request, data []byte, fault *Fault) {
	serveContent(w, r, fmt.Sprintf("%x", sha256.Sum256(data)), bytes.NewReader(data), int64(len(data)), fault)
}

// readSeekerAt is a file, or bytes.
type readSeekerAt interface {
	io.ReadSeeker
	io.ReaderAt
}
