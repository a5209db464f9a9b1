package mirror

import (
	"path"
	"strings"
)

// product is something that upstream releases as one file for each architecture. Its programs have the names that a bundle
// gives them. In path, in members and in the names of checksum files, VERSION stands for the release, as in v2.4.2, PLAIN
// for the same without v, BASE for it without a suffix after a hyphen, ARCH for the architecture, as Go names it.
type product struct {
	name    string
	path    string   // HOST/PATH
	members []member // of a gzip-ed tar file; a product with none is a program as it is, of the product's name
	sums    []sumFile
	list    string   // a file in the same folder with the checksums of all architectures, signed in the clear; or none
	as      []string // upstream's releases that it stands for; none is the one that the bundle names
	also    []string // further releases as which it is served
}

// member is a program in a tar file.
type member struct{ program, path string }

// sumFile is a checksum file beside a file, named by what it adds to that one's name.
type sumFile struct {
	suffix string
	hash   string // sha256 or sha512
	bare   bool   // the sum alone, without a line end; or else a line as sha256sum(1) prints it
}

var (
	kubernetesSums = []sumFile{{".sha256", "sha256", true}, {".sha512", "sha512", true}}
	cniSums        = []sumFile{{".sha256", "sha256", false}, {".sha512", "sha512", false}}
)

const (
	kubernetesPath = "dl.k8s.io/release/VERSION/bin/linux/ARCH/"
	githubPath     = "github.com/OWNER/releases/download/VERSION/"
)

func github(owner, file string) string { return strings.Replace(githubPath, "OWNER", owner, 1) + file }

// products are what the hosts of a cluster need besides images. The lab's runc is Debian's and its flannel plugin is one of
// its own: they are served as the releases that they stand for.
//
// Sources: https://kubernetes.io/releases/download/, the release pages of each project, and the scripts that make them
// (runc: script/release_sign.sh, flannel's plugin: scripts/package.sh).
var products = []product{
	{name: "kubelet", path: kubernetesPath + "kubelet", sums: kubernetesSums},
	{name: "kubectl", path: kubernetesPath + "kubectl", sums: kubernetesSums},
	{name: "kubeadm", path: kubernetesPath + "kubeadm", sums: kubernetesSums},
	{
		name: "containerd",
		path: github("containerd/containerd", "containerd-static-PLAIN-linux-ARCH.tar.gz"),
		members: []member{
			{"containerd", "bin/containerd"}, {"containerd-shim-runc-v2", "bin/containerd-shim-runc-v2"}, {"ctr", "bin/ctr"},
		},
		sums: []sumFile{{".sha256sum", "sha256", false}},
	},
	{
		name: "runc",
		path: github("opencontainers/runc", "runc.ARCH"),
		list: "runc.sha256sum",
		as:   []string{"v1.5.2"},
	},
	{
		name: "cni-plugins",
		path: github("containernetworking/plugins", "cni-plugins-linux-ARCH-VERSION.tgz"),
		members: []member{
			{"cni-bridge", "./bridge"}, {"cni-host-local", "./host-local"}, {"cni-loopback", "./loopback"}, {"cni-portmap", "./portmap"},
		},
		sums: cniSums,
	},
	{
		name:    "cni-flannel",
		path:    github("flannel-io/cni-plugin", "cni-plugin-flannel-linux-ARCH-BASE.tgz"), // without the tag's suffix
		members: []member{{"cni-flannel", "flannel-ARCH"}},
		sums:    cniSums,
		as:      []string{"v1.9.1-flannel3"},
	},
}

// at fills in a path of a product.
func at(pattern, version, arch string) string {
	base, _, _ := strings.Cut(version, "-")
	return strings.NewReplacer("VERSION", version, "PLAIN", strings.TrimPrefix(version, "v"), "BASE", base, "ARCH", arch).Replace(pattern)
}

// needs are the programs that a product is made of.
func (p product) needs() []member {
	if len(p.members) == 0 {
		return []member{{p.name, path.Base(p.path)}}
	}
	return p.members
}
