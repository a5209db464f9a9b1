package bundle

import (
	"reflect"
	"slices"
)

// Difference is what two bundles have not in common.
type Difference struct {
	OnlyA, OnlyB Share
}

// Share is a part of a bundle.
type Share struct {
	Artifacts []Artifact // in the order of the index; one that is equal in all fields is common
	Blobs     []Blob     // in the order in which the index first names them; fewer than the artifacts', which may share some
}

// Bytes are those of the blobs.
func (s Share) Bytes() int64 { return sizeOf(s.Blobs) }

// StoredBytes are those of what is stored of the blobs.
func (s Share) StoredBytes() int64 { return StoredSize([]Artifact{{Blobs: s.Blobs}}) }

// Diff compares two bundles by their indexes. How a content is stored is no difference. Where a host has all of a, what b brings is OnlyB.
func Diff(a, b *Bundle) Difference {
	return Difference{OnlyA: without(a, b), OnlyB: without(b, a)}
}

// without is what a has and b has not.
func without(a, b *Bundle) Share {
	var share Share
	for _, artifact := range a.Index.Artifacts {
		if !slices.ContainsFunc(b.Index.Artifacts, func(other Artifact) bool { return sameContent(artifact, other) }) {
			share.Artifacts = append(share.Artifacts, artifact)
		}
	}
	for _, blob := range Blobs(a.Index.Artifacts) {
		if _, common := b.verified[blob.SHA256]; !common {
			share.Blobs = append(share.Blobs, blob)
		}
	}
	return share
}

func sameContent(a, b Artifact) bool {
	return reflect.DeepEqual(withContents(a), withContents(b))
}

// withContents is the artifact without how its blobs are stored.
func withContents(a Artifact) Artifact {
	a.Blobs = slices.Clone(a.Blobs)
	for i, blob := range a.Blobs {
		a.Blobs[i] = blob.Content()
	}
	return a
}
