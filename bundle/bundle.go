// Package bundle holds what one version of Kubernetes needs on its hosts, binaries and images, in a form that needs no
// registry and no network: a folder, or the same folder as one plain tar file.
//
//	index.json            what is in it: see Index
//	blobs/sha256/HEX      each content once, named by the SHA-256 of the file
//
// In a tar file index.json is the first file, so that a reader of the stream knows at once what follows. A tar file is read
// in place and never unpacked. The fields of an artifact:
//
//	name, version     "kubelet", "v1.37.2"; a name is there once per os and arch
//	kind              "binary" or "image"
//	os, arch          as Go names them: "linux", "amd64"
//	roles             which hosts get it, see Role; a host gets an artifact when it has any of the roles
//	blobs             its contents, each with its sha256 in lower-case hex and its size in bytes; zstd, with a sha256
//	                  and a size as well, tells of a binary what is stored of it when that is compressed
//	target, mode      of a binary: its absolute path on the host and its permissions in octal, "0755"
//	image, digest     of an image: name:tag, and its manifest's digest as `ctr images ls` shows it
//
// A binary has one blob. It is compressed once, when it is added, and travels like that where the other side can unpack it;
// Open gives the content. An image has those that a registry has of it for one platform, with the same bytes: its manifest
// (OCI, or Docker's schema 2), its configuration, then its layers. So images that are built on each other share blobs, as
// do two versions, and the digest on a host is the registry's. Archive makes of them what containerd imports.
//
// Nothing is trusted: Open checks the whole index and the size of every blob, and a blob's checksum is verified before
// its first use. Where a blob is follows from its checksum; no path is read. Unknown fields are errors, because a reader
// that ignored one (a compression, say) would install garbage. What unpacks to more than its size is not unpacked further.
package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Bundle is an open bundle. Its methods may be used by many goroutines at once.
type Bundle struct {
	Index Index

	path     string
	blobs    source
	verified map[string]*verification // by checksum, each with a lock of its own
}

// Open opens the folder or tar file at path and checks its index and that every blob is there with its size. All
// findings are reported at once. It reads no blob; Verify does.
func Open(path string) (*Bundle, error) {
	b, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", path, err)
	}
	return b, nil
}

func open(path string) (*Bundle, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("no such file or folder; hint: --bundle and artifacts.bundle name one")
	}
	if err != nil {
		return nil, err
	}
	var blobs source
	if info.IsDir() {
		blobs, err = openFolder(path)
	} else {
		blobs, err = openTarFile(path)
	}
	if err != nil {
		return nil, err
	}
	b, err := load(path, blobs)
	if err != nil {
		return nil, errors.Join(err, blobs.Close())
	}
	return b, nil
}

func load(path string, blobs source) (*Bundle, error) {
	file, size, err := blobs.open(indexName)
	if err != nil {
		return nil, fmt.Errorf("%w; hint: a bundle has an index.json beside its blobs", err)
	}
	defer file.Close()
	if size.bytes > maxIndex {
		return nil, fmt.Errorf("index.json has %d bytes, more than the %d that an index may have", size.bytes, maxIndex)
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read index.json: %w", err)
	}
	index, err := ParseIndex(data)
	if err != nil {
		return nil, err
	}
	b := withIndex(path, blobs, *index)
	return b, b.checkSizes()
}

// OpenFolder opens a folder that has blobs as a bundle's has them, and maybe others, by an index that is known from
// elsewhere. It is Open otherwise.
func OpenFolder(dir string, index Index) (*Bundle, error) {
	b, err := OpenPartial(dir, index)
	if err != nil {
		return nil, err
	}
	if err := b.checkSizes(); err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, errors.Join(err, b.Close()))
	}
	return b, nil
}

// OpenPartial is OpenFolder for a folder that is still being filled: blobs may be missing. One that is missing when it is
// to be opened is an error that is fs.ErrNotExist.
func OpenPartial(dir string, index Index) (*Bundle, error) {
	if err := index.validate(); err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	blobs, err := openFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	return withIndex(dir, blobs, index), nil
}

func withIndex(path string, blobs source, index Index) *Bundle {
	b := &Bundle{Index: index, path: path, blobs: blobs, verified: map[string]*verification{}}
	for _, blob := range Blobs(index.Artifacts) {
		b.verified[blob.SHA256] = &verification{blob: blob}
	}
	return b
}

func (b *Bundle) checkSizes() error {
	var findings []error
	for _, o := range b.owned() {
		if err := b.checkSize(o.blob); err != nil {
			findings = append(findings, fmt.Errorf("artifact %s (%s): %w", o.owner.Name, o.owner.Arch, err))
		}
	}
	return errors.Join(findings...)
}

// Close releases the files. What its methods opened in a tar file is unusable afterwards.
func (b *Bundle) Close() error { return b.blobs.Close() }

// Path is where the bundle was opened.
func (b *Bundle) Path() string { return b.path }

// Select returns the Linux artifacts for an architecture that have any of the roles, in the order of the index.
func (b *Bundle) Select(arch string, roles ...Role) []Artifact {
	var selected []Artifact
	for _, a := range b.Index.Artifacts {
		if a.OS == "linux" && a.Arch == arch && slices.ContainsFunc(a.Roles, func(r Role) bool { return slices.Contains(roles, r) }) {
			selected = append(selected, a)
		}
	}
	return selected
}

// Find returns the Linux artifact with a name, or an error that says what the bundle has instead.
func (b *Bundle) Find(name, arch string) (Artifact, error) {
	var archs []string
	for _, a := range b.Index.Artifacts {
		if a.OS != "linux" || a.Name != name {
			continue
		}
		if a.Arch == arch {
			return a, nil
		}
		archs = append(archs, a.Arch)
	}
	if len(archs) > 0 {
		return Artifact{}, fmt.Errorf("bundle %s has %s for %v, not for %s; hint: use a bundle made for %s", b.path, name, archs, arch, arch)
	}
	return Artifact{}, fmt.Errorf("bundle %s (Kubernetes %s) has no %s; hint: it is incomplete or made for another version of myadm",
		b.path, b.Index.KubernetesVersion, name)
}

// Image is Find for an artifact that must be an image.
func (b *Bundle) Image(name, arch string) (Artifact, error) { return b.findKind(KindImage, name, arch) }

// Binary is Find for an artifact that must be a binary.
func (b *Bundle) Binary(name, arch string) (Artifact, error) {
	return b.findKind(KindBinary, name, arch)
}

func (b *Bundle) findKind(kind Kind, name, arch string) (Artifact, error) {
	a, err := b.Find(name, arch)
	if err != nil {
		return Artifact{}, err
	}
	if a.Kind != kind {
		return Artifact{}, fmt.Errorf("bundle %s: %s is of kind %s, not %s", b.path, name, a.Kind, kind)
	}
	return a, nil
}

// Blobs are those of the artifacts, in their order, a blob that several share once.
func Blobs(artifacts []Artifact) []Blob {
	seen := map[string]bool{}
	var first []Blob
	for _, a := range artifacts {
		for _, blob := range a.Blobs {
			if !seen[blob.SHA256] {
				seen[blob.SHA256] = true
				first = append(first, blob)
			}
		}
	}
	return first
}

// Stored is what is stored of the artifacts' blobs, in their order, each file once.
func Stored(artifacts []Artifact) []Blob {
	seen := map[string]bool{}
	var first []Blob
	for _, blob := range Blobs(artifacts) {
		if file := blob.Stored(); !seen[file.SHA256] {
			seen[file.SHA256] = true
			first = append(first, file)
		}
	}
	return first
}

// TotalSize is the number of bytes of the artifacts' blobs, a blob that several share counted once. Of what is stored it
// is StoredSize.
func TotalSize(artifacts []Artifact) int64 { return sizeOf(Blobs(artifacts)) }

// StoredSize is the number of bytes of what is stored of the artifacts.
func StoredSize(artifacts []Artifact) int64 { return sizeOf(Stored(artifacts)) }

func sizeOf(blobs []Blob) int64 {
	var total int64
	for _, blob := range blobs {
		total += blob.Size
	}
	return total
}

// owned is a blob, and the first artifact of the index that has it.
type owned struct {
	owner Artifact
	blob  Blob
}

func (b *Bundle) owned() []owned {
	seen := map[string]bool{}
	var all []owned
	for _, a := range b.Index.Artifacts {
		for _, blob := range a.Blobs {
			if !seen[blob.SHA256] {
				seen[blob.SHA256] = true
				all = append(all, owned{a, blob})
			}
		}
	}
	return all
}
