package mirror

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// images is an OCI registry. What is filled in is served by its own few lines, because go-containerregistry's registry
// refuses the open ranges (bytes=N-) with which a client goes on with a download; pushes are that one's.
type images struct {
	blobs  store
	repos  map[string]*repo // by name: REGISTRY/REPOSITORY
	pushed http.Handler
}

// repo is one repository.
type repo struct {
	tags      map[string]manifest
	otherTags map[string]manifest // what OtherDigest serves instead
	manifests map[string]manifest // by digest, those of both
	blobs     map[string]bool     // SHA-256
}

// manifest is one of a platform, or an index of them.
type manifest struct {
	descriptor v1.Descriptor
	raw        []byte
	other      bool // made for OtherDigest
}

func newImages(s store) *images {
	pushed := registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(s.pushed())), registry.Logger(log.New(io.Discard, "", 0)))
	return &images{blobs: s, repos: map[string]*repo{}, pushed: pushed}
}

// add adds images. As upstream's, every tag is an index of platforms, even of one. Of several images with one name and
// architecture the first stays.
func (x *images) add(all []image) error {
	byRef := map[string]map[string]image{}
	for _, im := range all {
		if byRef[im.ref] == nil {
			byRef[im.ref] = map[string]image{}
		}
		if _, ok := byRef[im.ref][im.arch]; !ok {
			byRef[im.ref][im.arch] = im
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(byRef)) {
		if err := x.addTag(ref, byRef[ref]); err != nil {
			return fmt.Errorf("image %s: %w", ref, err)
		}
	}
	return nil
}

func (x *images) addTag(ref string, byArch map[string]image) error {
	colon := strings.LastIndex(ref, ":")
	if colon < strings.LastIndex(ref, "/") || colon < 0 {
		return fmt.Errorf("no tag; hint: REGISTRY/REPOSITORY:TAG")
	}
	name, tag := ref[:colon], ref[colon+1:]
	r := x.repos[name]
	if r == nil {
		r = &repo{map[string]manifest{}, map[string]manifest{}, map[string]manifest{}, map[string]bool{}}
		x.repos[name] = r
	}
	var platforms, others []manifest
	for _, arch := range slices.Sorted(maps.Keys(byArch)) {
		im := byArch[arch]
		raw, err := os.ReadFile(x.blobs.path(im.manifest.Digest.Hex))
		if err != nil {
			return err
		}
		for _, sum := range im.blobs {
			r.blobs[sum] = true
		}
		m := manifest{descriptor: im.manifest, raw: raw}
		m.descriptor.Platform = &v1.Platform{OS: "linux", Architecture: arch}
		platforms, others = append(platforms, m), append(others, another(m))
	}
	var err error
	if r.tags[tag], err = r.index(platforms, false); err != nil {
		return err
	}
	r.otherTags[tag], err = r.index(others, true)
	return err
}

// index makes the index of some platforms' manifests and keeps them all.
func (r *repo) index(platforms []manifest, other bool) (manifest, error) {
	list := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, p := range platforms {
		list.Manifests = append(list.Manifests, p.descriptor)
		r.manifests[p.descriptor.Digest.String()] = p
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return manifest{}, err
	}
	m := manifest{raw: raw, other: other}
	m.describe(types.OCIImageIndex)
	r.manifests[m.descriptor.Digest.String()] = m
	return m, nil
}

// describe fills in the descriptor from the raw bytes.
func (m *manifest) describe(mediaType types.MediaType) {
	digest, size, err := v1.SHA256(bytes.NewReader(m.raw))
	if err != nil {
		panic(err) // memory was read
	}
	m.descriptor.MediaType, m.descriptor.Digest, m.descriptor.Size = mediaType, digest, size
}

// another is a manifest that says the same and has another digest: it has a space more.
func another(m manifest) manifest {
	m.raw, m.other = append(bytes.Clone(m.raw), ' '), true
	m.describe(m.descriptor.MediaType)
	return m
}

// serve answers a request for /v2/NAME/manifests/REFERENCE or /v2/NAME/blobs/DIGEST of what was filled in, and leaves the
// rest to the registry for pushes. path is the URL's, without the mirror's prefix and /v2/.
func (x *images) serve(w http.ResponseWriter, r *http.Request, path string, fault *Fault) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		elements := strings.Split(path, "/")
		if n := len(elements) - 2; n > 0 {
			name, kind, reference := strings.Join(elements[:n], "/"), elements[n], elements[n+1]
			if found, ok := x.repos[name]; ok && x.serveFrom(found, w, r, kind, reference, fault) {
				return
			}
		}
	}
	x.pushed.ServeHTTP(w, r)
}

func (x *images) serveFrom(from *repo, w http.ResponseWriter, r *http.Request, kind, reference string, fault *Fault) bool {
	switch kind {
	case "blobs":
		sum, ok := strings.CutPrefix(reference, "sha256:")
		if !ok || !from.blobs[sum] {
			return false
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Docker-Content-Digest", reference)
		serveBlob(w, r, x.blobs, sum, fault)
		return true
	case "manifests":
		m, ok := from.manifest(reference, fault)
		if !ok {
			return false
		}
		w.Header().Set("Content-Type", string(m.descriptor.MediaType))
		w.Header().Set("Docker-Content-Digest", m.descriptor.Digest.String())
		serveBytes(w, r, m.raw, fault)
		return true
	}
	return false
}

// manifest finds a manifest by tag or digest. With OtherDigest a tag is that of another image, and a digest that of
// another manifest, unless it was the other image that led there.
func (r *repo) manifest(reference string, fault *Fault) (manifest, bool) {
	other := fault != nil && fault.Kind == OtherDigest
	tags := r.tags
	if other {
		tags = r.otherTags
	}
	if m, ok := tags[reference]; ok {
		return m, true
	}
	m, ok := r.manifests[reference]
	if ok && other && !m.other {
		return another(m), true
	}
	return m, ok
}
