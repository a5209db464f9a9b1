// Package release is the table of what a version of Kubernetes needs on its hosts and where its makers publish that:
// the binaries, the archives that some of them are in, their checksums, and the images. It is data and knows no network;
// package fetch gets what it names.
//
// Which versions belong together is said once: package config has those of the images, companions.go those of the host's
// programs. Kubernetes' own are the version itself, so every patch release of a known minor will do, also one that is
// newer than myadm.
//
//	Kubernetes        dl.k8s.io/release/VERSION/bin/linux/ARCH/NAME, its checksum beside it
//	containerd        the static build, since the other one asks for a glibc that long-lived distributions do not have
//	runc              one file per architecture, and one list of checksums for all
//	CNI plugins       one archive with all of them
//	flannel's plugin  an archive of its own, whose name has a shorter version than its tag
//	images            registry.k8s.io and docker.io, as config.ImagesOf names them
package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
)

// Item is one binary or image for Linux hosts of one architecture. Its fields are those of a bundle's artifact.
type Item struct {
	Name    string // "kubelet"; once per architecture
	Version string // "v1.37.2"; of an image that is not Kubernetes' own, its tag
	Kind    bundle.Kind
	Arch    string // as Go names it
	Roles   []bundle.Role

	// Of a binary: the absolute path on the host and its permissions, the file as published, and which member of it is
	// the binary when that file is an archive.
	Target string
	Mode   bundle.Mode
	File   File
	Member string // "bin/ctr", without a leading "./"; empty: the file itself

	// Of an image: registry/repository:tag, exactly as manifests name it. Its digest is the registry's to say.
	Image string

	// Signer signs the file, or the image's manifest, with a certificate of the sigstore project. The zero value: its makers
	// sign it otherwise, or not at all.
	Signer Signer
}

// Signer is who signs, in the words of his certificate.
type Signer struct {
	Subject string // an email address
	Issuer  string // URL of who vouches for it
}

// File is a file as its makers publish it. Items out of one archive have the same File.
type File struct {
	URL       string
	Checksum  Checksum
	Signature Signature
}

// Signature is where the signature of a file is published, and the signer's certificate. It is empty where there is none.
type Signature struct{ URL, Certificate string }

// Checksum is where the SHA-256 of a file is published, and in which form.
type Checksum struct {
	URL  string
	Form Form
	Name string // the file's name in the forms that have names
}

// Form is how a checksum is written down.
type Form string

// The forms.
const (
	FormBare Form = "bare" // 64 hex digits and nothing else, as dl.k8s.io has it
	FormList Form = "list" // `HEX  NAME`, a line per file, be it one, as sha256sum writes it
)

// architectures are those that every maker publishes for.
var architectures = []string{"amd64", "arm64"}

// Architectures lists the architectures of hosts that there is everything for, as Go names them.
func Architectures() []string { return slices.Clone(architectures) }

// Items lists everything that hosts of an architecture may need for a Kubernetes version (vX.Y.Z), binaries first; a
// host's roles say which of it the host gets. The test images have no maker and are not among it. A version of a minor
// that is not known and an architecture that nobody publishes for are errors.
func Items(version, arch string) ([]Item, error) {
	c, err := companionsOf(version)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(architectures, arch) {
		return nil, fmt.Errorf("there are no releases for architecture %q; hint: use %s", arch, strings.Join(architectures, " or "))
	}
	images, err := images(version, arch)
	if err != nil {
		return nil, err
	}
	return append(binaries(version, arch, c), images...), nil
}

// Select returns the items that have any of the roles, in their order; all of them when no role is given.
func Select(items []Item, roles ...bundle.Role) []Item {
	if len(roles) == 0 {
		return items
	}
	var selected []Item
	for _, item := range items {
		if slices.ContainsFunc(item.Roles, func(r bundle.Role) bool { return slices.Contains(roles, r) }) {
			selected = append(selected, item)
		}
	}
	return selected
}

// Roles lists the roles that select something, in the order of their constants.
func Roles() []bundle.Role {
	return []bundle.Role{
		bundle.RoleNode, bundle.RoleControlPlane, bundle.RoleRuntime, bundle.RoleCNI, bundle.RoleFlannel, bundle.RoleLoadBalancer,
	}
}

// String is the item as errors and progress name it: "kubelet v1.37.2 (amd64)".
func (i Item) String() string { return fmt.Sprintf("%s %s (%s)", i.Name, i.Version, i.Arch) }

// Artifact is the item as a bundle lists it, without what only its bytes tell.
func (i Item) Artifact() bundle.Artifact {
	return bundle.Artifact{
		Name: i.Name, Version: i.Version, Kind: i.Kind, OS: "linux", Arch: i.Arch, Roles: slices.Clone(i.Roles),
		Target: i.Target, Mode: i.Mode, Image: i.Image,
	}
}

// images are named by package config, for a cluster that has everything.
func images(version, arch string) ([]Item, error) {
	c := &config.Cluster{}
	c.Spec.KubernetesVersion = version
	c.Spec.Networking.Plugin = config.PluginFlannel
	c.Spec.LoadBalancer.Type = config.LoadBalancerKeepalived
	config.SetDefaults(c)
	refs, err := config.ImagesOf(c)
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, row := range imageTable {
		ref := row.ref(refs)
		items = append(items, Item{
			Name: row.name, Version: ref[strings.LastIndexByte(ref, ':')+1:], Kind: bundle.KindImage, Arch: arch, Roles: row.roles, Image: ref,
			Signer: signerOf(ref),
		})
	}
	return items, nil
}

func binaries(version, arch string, c companions) []Item {
	var items []Item
	for _, row := range binaryTable {
		v := row.version(version, c)
		file := row.file(v, arch, row.name)
		items = append(items, Item{
			Name: row.name, Version: v, Kind: bundle.KindBinary, Arch: arch, Roles: row.roles, Target: row.target, Mode: 0o755,
			File: file, Member: strings.ReplaceAll(row.member, "ARCH", arch), Signer: signerOf(file.URL),
		})
	}
	return items
}
