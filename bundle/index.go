package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// APIVersion is the format's; a change that an older reader would get wrong raises it. One that does not know Blob.Zstd
// refuses the index, as every field that it does not know.
const APIVersion = "bundle.myadm.dev/v1alpha2"

// firstVersion had one blob per artifact at a path that the index named; an image's was an archive, with a digest that no
// registry knew.
const firstVersion = "bundle.myadm.dev/v1alpha1"

const (
	indexName = "index.json"
	maxIndex  = 4 << 20 // bytes; an index of a hundred artifacts has 100 KB
)

// Index is index.json.
type Index struct {
	APIVersion        string     `json:"apiVersion"`
	KubernetesVersion string     `json:"kubernetesVersion"` // with a v: "v1.37.2"
	Artifacts         []Artifact `json:"artifacts"`
}

// Artifact is one binary or image; the package comment explains the fields.
type Artifact struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Kind    Kind   `json:"kind"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	Roles   []Role `json:"roles"`
	Blobs   []Blob `json:"blobs"`
	Target  string `json:"target,omitempty"`
	Mode    Mode   `json:"mode,omitempty"`
	Image   string `json:"image,omitempty"`
	Digest  string `json:"digest,omitempty"`
}

// Size is the number of bytes of an artifact's blobs.
func (a Artifact) Size() int64 { return sizeOf(a.Blobs) }

// StoredSize is the number of bytes of what is stored of an artifact.
func (a Artifact) StoredSize() int64 { return sizeOf(Stored([]Artifact{a})) }

// Blob is one content.
type Blob struct {
	SHA256 string `json:"sha256"` // in lower-case hex
	Size   int64  `json:"size"`   // in bytes

	// Zstd is set where the content is stored compressed, as binaries are that become smaller by it.
	Zstd Packed `json:"zstd,omitzero"`
}

// Stored is what is stored of a content, as a content of its own: itself, unless it is compressed.
func (b Blob) Stored() Blob {
	if b.Zstd != (Packed{}) {
		return Blob{SHA256: b.Zstd.SHA256, Size: b.Zstd.Size}
	}
	return b
}

// Content is the blob without how it is stored.
func (b Blob) Content() Blob { return Blob{SHA256: b.SHA256, Size: b.Size} }

// path is relative to the index, with slashes.
func (b Blob) path() string { return blobsFolder + "/" + b.Stored().SHA256 }

const blobsFolder = "blobs/sha256"

// Kind is what an artifact is and so how it gets onto a host.
type Kind string

// The kinds.
const (
	KindBinary Kind = "binary" // a file, copied to its target
	KindImage  Kind = "image"  // imported into containerd
)

// Role is a reason for a host to get an artifact. A role that this version of myadm does not know selects nothing.
type Role string

// The roles that myadm selects by.
const (
	RoleNode         Role = "node"            // every host
	RoleControlPlane Role = "control-plane"   // hosts that run the control plane
	RoleWorker       Role = "worker"          // hosts that do not; empty today, since those need nothing but node's
	RoleRuntime      Role = "runtime"         // hosts that myadm installs containerd on
	RoleCNI          Role = "cni"             // the reference CNI plugins, unless the user brings a network
	RoleFlannel      Role = "network:flannel" // hosts of clusters with plugin: flannel
	RoleLoadBalancer Role = "load-balancer"   // hosts with a node-local API load balancer
	RoleTest         Role = "test"            // for tests; myadm never sends it
)

// Mode is a file's permissions, octal in JSON.
type Mode fs.FileMode

// MarshalText writes four octal digits.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText reads octal digits; permissions only, no set-user-ID or type bits.
func (m *Mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || n > uint64(fs.ModePerm) {
		return fmt.Errorf("mode %q is not octal permissions such as 0755", text)
	}
	*m = Mode(n)
	return nil
}

// ParseIndex reads and checks an index. Its error holds every finding, each naming the artifact and the field.
func ParseIndex(data []byte) (*Index, error) {
	// The version comes first and leniently: a newer index shall be called newer, not malformed.
	var header struct {
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(data, &header); err != nil {
		return nil, fmt.Errorf("index.json: %w%s", err, damagedHint)
	}
	if header.APIVersion == firstVersion {
		return nil, fmt.Errorf("index.json: apiVersion %s is of an older myadm, this one reads %s; hint: make the bundle anew",
			firstVersion, APIVersion)
	}
	if header.APIVersion != APIVersion {
		return nil, fmt.Errorf("index.json: apiVersion %q is not %s; hint: use the myadm that made the bundle, or a newer one",
			header.APIVersion, APIVersion)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	index := &Index{}
	if err := decoder.Decode(index); err != nil {
		return nil, fmt.Errorf("index.json: %w; hint: use the myadm that made the bundle, or a newer one", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("index.json: something follows the index; hint: make the bundle anew")
	}
	if err := index.validate(); err != nil {
		return nil, err
	}
	return index, nil
}

var (
	namePattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$`)
	versionPattern = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+:~_-]{0,127}$`)
	rolePattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9:-]{0,62}[a-z0-9])?$`)
	sumPattern     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// name:tag with a registry host in front, as containerd stores names: nothing is expanded.
	imagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$`)
)

func (x *Index) validate() error {
	var findings []error
	if v, hasV := strings.CutPrefix(x.KubernetesVersion, "v"); !hasV || !strictSemver(v) {
		findings = append(findings, fmt.Errorf("index.json: kubernetesVersion %q is not a version such as v1.37.2", x.KubernetesVersion))
	}
	if len(x.Artifacts) == 0 {
		findings = append(findings, errors.New("index.json: no artifacts; hint: make the bundle anew"))
	}
	known := map[string]owned{}  // contents by checksum
	files := map[string]owned{}  // what is stored by checksum
	taken := map[string]string{} // a thing that only one artifact of a platform may have, to that artifact's name
	for i, a := range x.Artifacts {
		report := func(format string, args ...any) {
			findings = append(findings, fmt.Errorf("artifact %d (%s): "+format, append([]any{i, a.Name}, args...)...))
		}
		a.check(report)
		for _, thing := range []string{"name " + a.Name, "target " + a.Target, "image " + a.Image} {
			if strings.HasSuffix(thing, " ") {
				continue
			}
			key := a.OS + "/" + a.Arch + " " + thing
			if other, dup := taken[key]; dup {
				report("%s is already that of %s", thing, other)
			}
			taken[key] = a.Name
		}
		for _, blob := range a.Blobs {
			if other, shared := known[blob.SHA256]; shared && other.blob.Size != blob.Size {
				report("blob %s has %d bytes here and %d in %s", blob.SHA256, blob.Size, other.blob.Size, other.owner.Name)
			} else if shared && other.blob != blob {
				report("blob %s is stored in another way than in %s", blob.SHA256, other.owner.Name)
			}
			file := blob.Stored()
			if other, shared := files[file.SHA256]; shared && other.blob.Stored().Size != file.Size {
				report("what is stored as %s has %d bytes here and %d in %s", file.SHA256, file.Size, other.blob.Stored().Size, other.owner.Name)
			}
			known[blob.SHA256], files[file.SHA256] = owned{a, blob}, owned{a, blob}
		}
	}
	return errors.Join(findings...)
}

func (a Artifact) check(report func(format string, args ...any)) {
	for _, field := range []struct {
		name, value string
		pattern     *regexp.Regexp
	}{
		{"name", a.Name, namePattern},
		{"version", a.Version, versionPattern},
		{"os", a.OS, namePattern},
		{"arch", a.Arch, namePattern},
	} {
		if !field.pattern.MatchString(field.value) {
			report("%s %q is missing or malformed", field.name, field.value)
		}
	}
	if len(a.Roles) == 0 {
		report("no roles, so no host would get it")
	}
	for _, role := range a.Roles {
		if !rolePattern.MatchString(string(role)) {
			report("role %q is malformed", role)
		}
	}
	a.checkBlobs(report)
	switch a.Kind {
	case KindBinary:
		if !path.IsAbs(a.Target) || path.Clean(a.Target) != a.Target || a.Target == "/" {
			report("target %q is not a clean absolute path", a.Target)
		}
		if a.Mode == 0 {
			report("mode is missing")
		}
		if a.Image != "" || a.Digest != "" {
			report("a binary has no image or digest")
		}
	case KindImage:
		if !imagePattern.MatchString(a.Image) {
			report("image %q is not a full name:tag such as registry.k8s.io/pause:3.10.2", a.Image)
		}
		if sum, ok := strings.CutPrefix(a.Digest, "sha256:"); !ok || !sumPattern.MatchString(sum) {
			report("digest %q is not sha256:HEX", a.Digest)
		}
		if a.Target != "" || a.Mode != 0 {
			report("an image has no target or mode")
		}
	default:
		report("kind %q is neither %s nor %s; hint: use the myadm that made the bundle, or a newer one", a.Kind, KindBinary, KindImage)
	}
}

func (a Artifact) checkBlobs(report func(format string, args ...any)) {
	seen := map[string]bool{}
	for _, blob := range a.Blobs {
		if !sumPattern.MatchString(blob.SHA256) {
			report("sha256 %q is missing or malformed", blob.SHA256)
		}
		if blob.Size < 0 {
			report("size %d is negative", blob.Size)
		}
		if seen[blob.SHA256] {
			report("blob %s is named twice", blob.SHA256)
		}
		if blob.Zstd != (Packed{}) {
			a.checkPacked(blob, report)
		}
		seen[blob.SHA256] = true
	}
	switch {
	case a.Kind == KindBinary && len(a.Blobs) != 1:
		report("%d blobs; a binary has one", len(a.Blobs))
	case a.Kind == KindImage && len(a.Blobs) < 2:
		report("%d blobs; an image has a manifest and a configuration at least", len(a.Blobs))
	case a.Kind == KindImage && "sha256:"+a.Blobs[0].SHA256 != a.Digest:
		report("digest %s is not that of its first blob, the manifest, %s", a.Digest, a.Blobs[0].SHA256)
	case a.Kind == KindImage && a.Blobs[0].Size > maxManifest:
		report("a manifest of %d bytes, more than the %d that one may have", a.Blobs[0].Size, maxManifest)
	}
}

func (a Artifact) checkPacked(blob Blob, report func(format string, args ...any)) {
	switch packed := blob.Zstd; {
	case a.Kind != KindBinary:
		report("blob %s is packed, which only binaries are", blob.SHA256)
	case !sumPattern.MatchString(packed.SHA256):
		report("zstd: sha256 %q is missing or malformed", packed.SHA256)
	case packed.Size <= 0 || packed.Size >= blob.Size:
		report("zstd: size %d is not less than that of the content, %d", packed.Size, blob.Size)
	case packed.SHA256 == blob.SHA256:
		report("zstd: sha256 %s is that of the content", packed.SHA256)
	}
}

func strictSemver(version string) bool {
	_, err := semver.StrictNewVersion(version)
	return err == nil
}
