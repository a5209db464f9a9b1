package release

import (
	"strings"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
)

// Who gets what.
var (
	node         = []bundle.Role{bundle.RoleNode}
	controlPlane = []bundle.Role{bundle.RoleControlPlane}
	runtime      = []bundle.Role{bundle.RoleRuntime}
	network      = []bundle.Role{bundle.RoleCNI, bundle.RoleFlannel}
	flannel      = []bundle.Role{bundle.RoleFlannel}
	balancer     = []bundle.Role{bundle.RoleLoadBalancer}
	// containerd itself needs the loopback plugin, whatever the network is.
	runtimeAndNetwork = []bundle.Role{bundle.RoleRuntime, bundle.RoleCNI, bundle.RoleFlannel}
)

// Where binaries go. runc stands where its makers' instructions put it.
const (
	binDir  = "/usr/local/bin/"
	sbinDir = "/usr/local/sbin/"
)

// binary is a row: a program, whose it is, and where it goes.
type binary struct {
	name    string
	version func(kubernetes string, c companions) string
	file    func(version, arch, name string) File
	member  string // ARCH stands for the architecture
	target  string
	roles   []bundle.Role
}

var binaryTable = []binary{
	{"kubelet", ofKubernetes, kubernetesFile, "", binDir + "kubelet", node},
	{"kubectl", ofKubernetes, kubernetesFile, "", binDir + "kubectl", controlPlane},
	{"containerd", ofContainerd, containerdFile, "bin/containerd", binDir + "containerd", runtime},
	{"containerd-shim-runc-v2", ofContainerd, containerdFile, "bin/containerd-shim-runc-v2", binDir + "containerd-shim-runc-v2", runtime},
	{"ctr", ofContainerd, containerdFile, "bin/ctr", binDir + "ctr", runtime},
	{"runc", ofRunc, runcFile, "", sbinDir + "runc", runtime},
	{"cni-bridge", ofCNI, cniFile, "bridge", config.CNIBinDir + "/bridge", network},
	{"cni-host-local", ofCNI, cniFile, "host-local", config.CNIBinDir + "/host-local", network},
	{"cni-loopback", ofCNI, cniFile, "loopback", config.CNIBinDir + "/loopback", runtimeAndNetwork},
	{"cni-portmap", ofCNI, cniFile, "portmap", config.CNIBinDir + "/portmap", network},
	{"cni-flannel", ofFlannelCNI, flannelCNIFile, "flannel-ARCH", config.CNIBinDir + "/flannel", flannel},
}

// image is a row: an image, and who gets it.
type image struct {
	name  string
	ref   func(config.Images) string
	roles []bundle.Role
}

var imageTable = []image{
	{"kube-apiserver", func(i config.Images) string { return i.APIServer }, controlPlane},
	{"kube-controller-manager", func(i config.Images) string { return i.ControllerManager }, controlPlane},
	{"kube-scheduler", func(i config.Images) string { return i.Scheduler }, controlPlane},
	{"etcd", func(i config.Images) string { return i.Etcd }, controlPlane},
	{"kube-proxy", func(i config.Images) string { return i.Proxy }, node},
	// On every node: the Deployment's pods may be scheduled anywhere.
	{"coredns", func(i config.Images) string { return i.CoreDNS }, node},
	{"pause", func(i config.Images) string { return i.Pause }, node},
	{"flannel", func(i config.Images) string { return i.Flannel }, flannel},
	{"haproxy", func(i config.Images) string { return i.HAProxy }, balancer},
	{"keepalived", func(i config.Images) string { return i.Keepalived }, balancer},
}

func ofKubernetes(kubernetes string, _ companions) string { return kubernetes }
func ofContainerd(_ string, c companions) string          { return c.containerd }
func ofRunc(_ string, c companions) string                { return c.runc }
func ofCNI(_ string, c companions) string                 { return c.cni }
func ofFlannelCNI(_ string, c companions) string          { return c.flannelCNI }

// The layouts. Versions have their v.

const kubernetesReleases = "https://dl.k8s.io/release/"

// signers are who signs, by how URLs and images begin. The source for Kubernetes, whose images are signed when they are
// promoted from the staging registry, is https://kubernetes.io/docs/tasks/administer-cluster/verify-signed-artifacts/.
// runc signs its list of checksums with PGP; of the others there are checksums alone.
var signers = []struct {
	prefix string
	Signer
}{
	{kubernetesReleases, Signer{"krel-staging@k8s-releng-prod.iam.gserviceaccount.com", "https://accounts.google.com"}},
	{config.DefaultImageRepository + "/", Signer{"krel-trust@k8s-releng-prod.iam.gserviceaccount.com", "https://accounts.google.com"}},
}

// signerOf is the zero value for what nobody signs.
func signerOf(place string) Signer {
	for _, s := range signers {
		if strings.HasPrefix(place, s.prefix) {
			return s.Signer
		}
	}
	return Signer{}
}

// kubernetesFile is described at https://kubernetes.io/releases/download/. Beside each file are .sha256 and .sha512, and
// .sig and .cert.
func kubernetesFile(version, arch, name string) File {
	url := kubernetesReleases + version + "/bin/linux/" + arch + "/" + name
	return File{
		URL: url, Checksum: Checksum{URL: url + ".sha256", Form: FormBare}, Signature: Signature{URL: url + ".sig", Certificate: url + ".cert"},
	}
}

func containerdFile(version, arch, _ string) File {
	return githubFile("containerd/containerd", version, "containerd-static-"+strings.TrimPrefix(version, "v")+"-linux-"+arch+".tar.gz", ".sha256sum")
}

func cniFile(version, arch, _ string) File {
	return githubFile("containernetworking/plugins", version, "cni-plugins-linux-"+arch+"-"+version+".tgz", ".sha256")
}

// flannelCNIFile: the tag counts flannel's own builds of a version of the plugins, the file's name does not.
func flannelCNIFile(version, arch, _ string) File {
	plugins, _, _ := strings.Cut(version, "-flannel")
	return githubFile("flannel-io/cni-plugin", version, "cni-plugin-flannel-linux-"+arch+"-"+plugins+".tgz", ".sha256")
}

// runcFile: the list of checksums has a line for each architecture and each form that runc is published in.
func runcFile(version, arch, _ string) File {
	f := githubFile("opencontainers/runc", version, "runc."+arch, "")
	f.Checksum.URL = f.URL[:strings.LastIndexByte(f.URL, '/')+1] + "runc.sha256sum"
	return f
}

// githubFile is a file of a release on GitHub, with its checksum in a file beside it whose name has the suffix.
func githubFile(repository, version, name, suffix string) File {
	url := "https://github.com/" + repository + "/releases/download/" + version + "/" + name
	return File{URL: url, Checksum: Checksum{URL: url + suffix, Form: FormList, Name: name}}
}
