package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/myadm/myadm/bundle"
)

// smallRelease is a bundle of one artifact of each kind, and a kubeadm.
func smallRelease(t *testing.T) release {
	t.Helper()
	dir := t.TempDir()
	r := release{version: "v1.37.2", bundle: filepath.Join(dir, "bundle"), kubeadm: filepath.Join(dir, "kubeadm")}
	w, err := bundle.Create(r.bundle, r.version)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		t.Fatal(err)
	}
	errs := []error{os.WriteFile(r.kubeadm, []byte("kubeadm"), 0o755)}
	for target, role := range map[string]bundle.Role{
		"/usr/local/bin/kubelet": bundle.RoleNode, "/usr/local/bin/kubectl": bundle.RoleControlPlane, "/usr/local/sbin/runc": bundle.RoleRuntime,
		"/usr/local/bin/containerd": bundle.RoleRuntime, "/usr/local/bin/ctr": bundle.RoleRuntime, "/opt/cni/bin/bridge": bundle.RoleCNI,
	} {
		name := filepath.Base(target)
		errs = append(errs, w.AddBinary(bundle.Artifact{
			Name: name, Version: "1", Kind: bundle.KindBinary, OS: "linux", Arch: runtime.GOARCH, Roles: []bundle.Role{role}, Target: target, Mode: 0o755,
		}, strings.NewReader(name)))
	}
	for name, role := range map[string]bundle.Role{
		"pause": bundle.RoleNode, "flannel": bundle.RoleFlannel, "etcd": bundle.RoleControlPlane, "haproxy": bundle.RoleLoadBalancer, "e2e": bundle.RoleTest,
	} {
		errs = append(errs, w.AddImage(bundle.Artifact{
			Name: name, Version: "1", Kind: bundle.KindImage, OS: "linux", Arch: runtime.GOARCH, Roles: []bundle.Role{role}, Image: "registry.example/" + name + ":1",
		}, image))
	}
	if err := errors.Join(append(errs, w.Close())...); err != nil {
		t.Fatal(err)
	}
	return r
}

const labDocument = "spec: {kubernetesVersion: v1.37.2, kubelet: {cgroupDriver: cgroupfs}}"

const flannelObjects = `{"items": [{"metadata": {"name": "kube-flannel"}}, {"metadata": {"name": "kube-flannel-cfg"}, "data": {"cni-conf.json": "{\"name\": \"cbr0\"}"}}]}`

// A kit has what a host's role needs and no more, as people have it.
func TestKit(t *testing.T) {
	k, err := newKit(t.Context(), t.TempDir(), smallRelease(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.configure([]byte(labDocument), []byte(flannelObjects), "10.89.0.11"); err != nil {
		t.Fatal(err)
	}
	var got []string
	err = fs.WalkDir(os.DirFS(k.dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"cluster.sh",
		"control-plane/images/etcd.tar", "control-plane/kubeadm.yaml", "control-plane/kubectl", "control-plane/network.json",
		"host.sh",
		"node/10-kubeadm.conf", "node/cni-plugins.tgz", "node/cni.conflist", "node/containerd.service", "node/containerd.tar.gz", "node/containerd.toml",
		"node/images/flannel.tar", "node/images/pause.tar", "node/kubeadm", "node/kubelet", "node/kubelet.service", "node/runc",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for path, words := range map[string]string{
		"node/containerd.toml":       `sandbox = "registry.example/pause:1"` + "\n",
		"node/cni.conflist":          `"cbr0"`,
		"control-plane/kubeadm.yaml": "advertiseAddress: 10.89.0.11\n",
		"node/kubeadm":               "kubeadm",
	} {
		if data, err := os.ReadFile(filepath.Join(k.dir, path)); err != nil || !strings.Contains(string(data), words) {
			t.Errorf("%s: %v, no %q in %s", path, err, words, data)
		}
	}
	if diff := cmp.Diff([]string{"bin/containerd: containerd", "bin/ctr: ctr"}, packedIn(t, filepath.Join(k.dir, "node/containerd.tar.gz"))); diff != "" {
		t.Errorf("containerd's archive (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"bridge: bridge"}, packedIn(t, filepath.Join(k.dir, "node/cni-plugins.tgz"))); diff != "" {
		t.Errorf("the network plugins' archive (-want +got):\n%s", diff)
	}
}

// packedIn are the executable files of a gzipped tar, NAME: CONTENT.
func packedIn(t *testing.T, path string) []string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for in := tar.NewReader(plain); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(all)
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil || header.Mode != 0o755 {
			t.Errorf("%s: %v, mode %o", header.Name, err, header.Mode)
		}
		all = append(all, header.Name+": "+string(data))
	}
}

func TestContainerdConfigHasTheKubeletsCgroupDriver(t *testing.T) {
	k, err := newKit(t.Context(), t.TempDir(), smallRelease(t))
	if err != nil {
		t.Fatal(err)
	}
	for document, want := range map[string]string{labDocument: "SystemdCgroup = false\n", "spec: {}": "SystemdCgroup = true\n"} {
		config, err := containerdConfig([]byte(document), filepath.Join(k.dir, "node", "images"))
		if err != nil || !strings.Contains(string(config), want) {
			t.Errorf("%s: %v, no %q in %s", document, err, want, config)
		}
	}
}

func TestConflistOfNoFlannel(t *testing.T) {
	for _, objects := range []string{"", "{}", `{"items": [{"data": {"cni-conf.json": " "}}]}`} {
		if conflist, err := conflistOf([]byte(objects)); err == nil || !strings.Contains(err.Error(), "flannel") {
			t.Errorf("%q: %s, %v", objects, conflist, err)
		}
	}
}
