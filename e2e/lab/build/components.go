package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/myadm/myadm/bundle"
)

// release is a Kubernetes version and the companions that kubeadm of that version deploys: their tags come from its
// constants (DefaultEtcdVersion, CoreDNSVersion, PauseVersion).
type release struct {
	version  string // of k8s.io/kubernetes
	built    string // when the version was published; the programs say they were made then
	etcdTag  string
	etcd     string // what is in that image
	coredns  string
	pauseTag string
}

// releases are newest first. A new minor also needs its folder under e2e/components: copy the last one, put the new
// version in go.mod (the staging modules' too), and run go mod tidy in it.
var releases = []release{
	// etcdctl 3.7.0 was never published as a module, hence a later patch of etcd than the tag says.
	{"v1.37.2", "2026-10-27T12:01:04Z", "3.7.0-0", "v3.7.2", "v1.14.6", "3.10.2"},
	{"v1.36.3", "2026-07-22T18:07:38Z", "3.6.8-0", "v3.6.8", "v1.14.2", "3.10.2"},
}

// Versions are those of Kubernetes that a bundle can be built for, newest first.
func Versions() []string {
	var versions []string
	for _, r := range releases {
		versions = append(versions, r.version)
	}
	return versions
}

func releaseOf(version string) (release, error) {
	for _, r := range releases {
		if r.version == version {
			return r, nil
		}
	}
	return release{}, fmt.Errorf("no components for Kubernetes %s; hint: there are %s", version, strings.Join(Versions(), ", "))
}

// Companions that do not follow the Kubernetes version.
const (
	containerdVersion = "v2.4.2"
	cniVersion        = "v1.9.1"
	flannelVersion    = "v0.28.10"
	haproxyTag        = "2.6"
	keepalivedTag     = "2.0.20"
	testVersion       = "v1"
)

// minor is "1.37" of "v1.37.2".
func minor(version string) string {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	return strings.Join(parts[:2], ".")
}

// modules are the Go programs, by the folder under e2e/components that builds them. Programs are named PATH or PATH=NAME
// where NAME is not the path's last element.
func modules(r release) []module {
	const kubernetes = "k8s.io/kubernetes/cmd/"
	return []module{{
		dir:  "kubernetes-" + minor(r.version),
		tags: "selinux,notest,grpcnotrace", // upstream's
		vars: kubernetesVars(r),
		programs: []string{
			kubernetes + "kube-apiserver", kubernetes + "kube-controller-manager", kubernetes + "kube-scheduler",
			kubernetes + "kube-proxy", kubernetes + "kubelet", kubernetes + "kubectl", kubernetes + "kubeadm",
		},
	}, {
		dir: "etcd-" + minor(r.etcd),
		// The default is a sentence; the version itself is a constant.
		vars:     []string{"go.etcd.io/etcd/api/v3/version.GitSHA=" + r.etcd},
		programs: []string{"go.etcd.io/etcd/server/v3=etcd", "go.etcd.io/etcd/etcdctl/v3=etcdctl", "go.etcd.io/etcd/etcdutl/v3=etcdutl"},
	}, {
		dir:      "coredns-" + strings.TrimPrefix(r.coredns, "v"),
		vars:     []string{"github.com/coredns/coredns/coremain.GitCommit=" + r.coredns},
		programs: []string{"github.com/coredns/coredns"},
	}, {
		dir: "containerd",
		vars: []string{
			"github.com/containerd/containerd/v2/version.Version=" + containerdVersion,
			"github.com/containerd/containerd/v2/version.Package=github.com/containerd/containerd/v2",
		},
		programs: []string{
			"github.com/containerd/containerd/v2/cmd/containerd",
			"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
			"github.com/containerd/containerd/v2/cmd/ctr",
		},
	}, {
		dir:  "cni",
		vars: []string{"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=" + cniVersion},
		programs: []string{
			"github.com/containernetworking/plugins/plugins/main/bridge", "github.com/containernetworking/plugins/plugins/main/loopback",
			"github.com/containernetworking/plugins/plugins/ipam/host-local", "github.com/containernetworking/plugins/plugins/meta/portmap",
			"./flannel",
		},
	}, {
		dir:      "flannel",
		vars:     []string{"github.com/flannel-io/flannel/pkg/version.Version=" + flannelVersion},
		programs: []string{".=flanneld"},
	},
		{dir: "pause", programs: []string{".=pause"}},
		testModule,
	}
}

var testModule = module{dir: "e2e-image", programs: []string{".=e2e"}}

// kubernetesVars give programs their version in both packages that hold it, as upstream's build does. A module carries
// no commit: the tree is called an archive, upstream's word for a build from a tarball.
func kubernetesVars(r release) []string {
	major, rest, _ := strings.Cut(minor(r.version), ".")
	values := []string{
		"gitVersion=" + r.version, "gitMajor=" + major, "gitMinor=" + rest, "gitTreeState=archive", "gitCommit=", "buildDate=" + r.built,
	}
	var vars []string
	for _, pkg := range []string{"k8s.io/component-base/version.", "k8s.io/client-go/pkg/version."} {
		for _, value := range values {
			vars = append(vars, pkg+value)
		}
	}
	return vars
}

// debianSets are the programs that come from Debian: they are C, and in every distribution.
var debianSets = []debianSet{{
	// Alone: runc needs libc and libseccomp, which every host with systemd has.
	name: "runc", packages: []string{"runc"}, programs: []string{"usr/sbin/runc"}, bare: true,
}, {
	// What kube-proxy and flanneld run, without kmod: the kernel loads netfilter's modules by itself, with the host's
	// modprobe, and kmod would bring OpenSSL with it.
	name:     "netfilter",
	packages: []string{"iptables", "nftables", "conntrack", "ipset"},
	programs: []string{
		"usr/sbin/xtables-nft-multi", "usr/sbin/xtables-legacy-multi", "usr/sbin/nft", "usr/sbin/conntrack", "usr/sbin/ipset",
	},
	plugins: []string{"usr/lib/TRIPLET/xtables/*.so"}, // one per match and target, loaded by name
	links:   iptablesLinks(),
}, {
	name: "haproxy", packages: []string{"haproxy"}, programs: []string{"usr/sbin/haproxy"},
}, {
	name: "keepalived", packages: []string{"keepalived", "grep"}, programs: []string{"usr/sbin/keepalived", "bin/grep"},
}}

// iptablesLinks lets iptables mean the nft variant, as distributions' alternatives do today, and keeps both by name.
func iptablesLinks() map[string]string {
	links := map[string]string{}
	for _, tool := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		family, verb, hasVerb := strings.Cut(tool, "-")
		for _, variant := range []string{"nft", "legacy"} {
			name := family + "-" + variant
			if hasVerb {
				name += "-" + verb
			}
			links["usr/sbin/"+name] = "xtables-" + variant + "-multi"
		}
		links["usr/sbin/"+tool] = "xtables-nft-multi"
	}
	return links
}

// hostFile is a binary of the bundle. from is STEP/FILE: what a module or a Debian set made.
type hostFile struct {
	name, version, from, target string
	roles                       []bundle.Role
}

func hostFiles(r release) []hostFile {
	k8s := "kubernetes-" + minor(r.version) + "/"
	node, cni := []bundle.Role{bundle.RoleNode}, []bundle.Role{bundle.RoleCNI, bundle.RoleFlannel}
	runtime, flannel := []bundle.Role{bundle.RoleRuntime}, []bundle.Role{bundle.RoleFlannel}
	return []hostFile{
		{"kubelet", r.version, k8s + "kubelet", "/usr/local/bin/kubelet", node},
		{"kubectl", r.version, k8s + "kubectl", "/usr/local/bin/kubectl", []bundle.Role{bundle.RoleControlPlane}},
		{"containerd", containerdVersion, "containerd/containerd", "/usr/local/bin/containerd", runtime},
		{"containerd-shim-runc-v2", containerdVersion, "containerd/containerd-shim-runc-v2", "/usr/local/bin/containerd-shim-runc-v2", runtime},
		{"ctr", containerdVersion, "containerd/ctr", "/usr/local/bin/ctr", runtime},
		{"runc", "", "runc/usr/sbin/runc", "/usr/local/sbin/runc", runtime},
		{"cni-bridge", cniVersion, "cni/bridge", "/opt/cni/bin/bridge", cni},
		{"cni-host-local", cniVersion, "cni/host-local", "/opt/cni/bin/host-local", cni},
		// containerd itself needs loopback, whatever the network is.
		{"cni-loopback", cniVersion, "cni/loopback", "/opt/cni/bin/loopback", slices.Concat(runtime, cni)},
		{"cni-portmap", cniVersion, "cni/portmap", "/opt/cni/bin/portmap", cni},
		{"cni-flannel", flannelVersion, "cni/flannel", "/opt/cni/bin/flannel", flannel},
	}
}

// image is built from nothing: the base files, the files of a Debian set, and programs.
type image struct {
	name, version string
	ref           string // exactly as the manifests name it
	roles         []bundle.Role
	base          bool   // users, /tmp and resolver order, as distroless has
	debian        string // name of a set
	programs      []program
	entrypoint    string
	user          string
}

// program puts from (STEP/FILE) at path.
type program struct {
	from, path string
	bindLow    bool // may bind ports below 1024 although its user is not root
}

func images(r release) []image {
	k8s := "kubernetes-" + minor(r.version) + "/"
	node, controlPlane, loadBalancer := []bundle.Role{bundle.RoleNode}, []bundle.Role{bundle.RoleControlPlane}, []bundle.Role{bundle.RoleLoadBalancer}
	var all []image
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		all = append(all, image{
			name: name, version: r.version, ref: "registry.k8s.io/" + name + ":" + r.version, roles: controlPlane, base: true,
			programs:   []program{{from: k8s + name, path: "/usr/local/bin/" + name}},
			entrypoint: "/usr/local/bin/" + name,
		})
	}
	etcd := "etcd-" + minor(r.etcd) + "/"
	return append(all, image{
		name: "etcd", version: r.etcd, ref: "registry.k8s.io/etcd:" + r.etcdTag, roles: controlPlane, base: true,
		programs: []program{
			{from: etcd + "etcd", path: "/usr/local/bin/etcd"},
			{from: etcd + "etcdctl", path: "/usr/local/bin/etcdctl"},
			{from: etcd + "etcdutl", path: "/usr/local/bin/etcdutl"},
		},
		entrypoint: "/usr/local/bin/etcd",
	}, image{
		name: "kube-proxy", version: r.version, ref: "registry.k8s.io/kube-proxy:" + r.version, roles: node, base: true, debian: "netfilter",
		programs:   []program{{from: k8s + "kube-proxy", path: "/usr/local/bin/kube-proxy"}},
		entrypoint: "/usr/local/bin/kube-proxy",
	}, image{
		// On every node: the Deployment's pods may be scheduled anywhere, and there is no registry to pull from.
		name: "coredns", version: r.coredns, ref: "registry.k8s.io/coredns/coredns:" + r.coredns, roles: node, base: true,
		// As upstream: not root, so port 53 needs the capability on the file. The pod drops all others.
		programs:   []program{{from: "coredns-" + strings.TrimPrefix(r.coredns, "v") + "/coredns", path: "/coredns", bindLow: true}},
		entrypoint: "/coredns",
		user:       "65532:65532",
	}, image{
		name: "pause", version: r.pauseTag, ref: "registry.k8s.io/pause:" + r.pauseTag, roles: node,
		programs:   []program{{from: "pause/pause", path: "/pause"}},
		entrypoint: "/pause",
		user:       "65535:65535",
	}, image{
		name: "flannel", version: flannelVersion, ref: "docker.io/flannel/flannel:" + flannelVersion, roles: []bundle.Role{bundle.RoleFlannel},
		base: true, debian: "netfilter",
		programs:   []program{{from: "flannel/flanneld", path: "/opt/bin/flanneld"}},
		entrypoint: "/opt/bin/flanneld",
	}, image{
		name: "haproxy", ref: "docker.io/library/haproxy:" + haproxyTag, roles: loadBalancer, base: true, debian: "haproxy",
		entrypoint: "/usr/sbin/haproxy",
	}, image{
		name: "keepalived", ref: "docker.io/osixia/keepalived:" + keepalivedTag, roles: loadBalancer, base: true, debian: "keepalived",
		entrypoint: "/usr/sbin/keepalived",
	}, testImage)
}

var testImage = image{
	name: "e2e", version: testVersion, ref: "docker.io/myadm/e2e:" + testVersion, roles: []bundle.Role{bundle.RoleTest}, base: true,
	programs:   []program{{from: "e2e-image/e2e", path: "/usr/local/bin/e2e"}},
	entrypoint: "/usr/local/bin/e2e",
}

// impostor is a component's image with a program in it that has the component's name and version, and does not work.
func impostor(r release, component string) (image, module, error) {
	i := slices.IndexFunc(images(r), func(im image) bool { return im.name == component })
	if i < 0 {
		return image{}, module{}, fmt.Errorf("no image %q", component)
	}
	im := images(r)[i]
	said := "Kubernetes " + r.version
	if component == "etcd" {
		said = "etcd Version: " + strings.TrimPrefix(r.etcd, "v")
	}
	m := module{dir: "impostor", vars: []string{"'main.version=" + said + "'"}, programs: []string{".=" + component}}
	im.name, im.programs = "impostor-"+component, []program{{from: m.dir + "/" + component, path: im.entrypoint}}
	return im, m, nil
}
