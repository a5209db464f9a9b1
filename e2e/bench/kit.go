package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/bundle"
)

// scriptFiles are what somebody who makes clusters by a script has written once.
//
//go:embed script
var scriptFiles embed.FS

// The folders of a kit: what goes to every host, and what a control plane gets besides.
const (
	kitNode         = "node"
	kitControlPlane = "control-plane"
)

// kit is a folder of what the script brings to hosts, in the forms in which people have it: containerd and the network plugins
// as archives of their makers, programs as they are published, an archive for each image. It has the bundle's contents,
// layer by layer, so that both tools send and unpack the same bytes; and only what a host's role needs.
type kit struct{ dir string }

// newKit makes a kit of a release. All of that is before anybody's clock starts.
func newKit(ctx context.Context, dir string, r release) (kit, error) {
	k := kit{dir}
	for _, folder := range []string{kitNode, kitControlPlane} {
		if err := os.MkdirAll(filepath.Join(dir, folder, "images"), 0o700); err != nil {
			return k, err
		}
	}
	for name, folder := range map[string]string{
		"cluster.sh": "", "host.sh": "", "containerd.service": kitNode, "kubelet.service": kitNode, "10-kubeadm.conf": kitNode,
	} {
		data, err := scriptFiles.ReadFile(path.Join("script", name))
		if err != nil {
			return k, err
		}
		if err := k.write(data, folder, name); err != nil {
			return k, err
		}
	}
	kubeadm, err := os.Open(r.kubeadm)
	if err != nil {
		return k, err
	}
	defer kubeadm.Close()
	if err := k.copy(kubeadm, kitNode, "kubeadm"); err != nil {
		return k, err
	}
	content, err := bundle.Open(r.bundle)
	if err != nil {
		return k, err
	}
	defer content.Close()
	return k, k.fill(ctx, content)
}

// packed are the binaries that their makers publish in one archive, and how it calls them.
var packed = map[string]struct{ archive, folder string }{
	"containerd": {"containerd.tar.gz", "bin"}, "ctr": {"containerd.tar.gz", "bin"}, "containerd-shim-runc-v2": {"containerd.tar.gz", "bin"},
	"bridge": {"cni-plugins.tgz", "."}, "host-local": {"cni-plugins.tgz", "."}, "loopback": {"cni-plugins.tgz", "."},
	"portmap": {"cni-plugins.tgz", "."}, "flannel": {"cni-plugins.tgz", "."},
}

// fill puts what a bundle has for the two kinds of hosts into the kit.
func (k kit) fill(ctx context.Context, from *bundle.Bundle) error {
	node := []bundle.Role{bundle.RoleNode, bundle.RoleRuntime, bundle.RoleCNI, bundle.RoleFlannel}
	archives := map[string][]bundle.Artifact{}
	for _, a := range from.Select(runtime.GOARCH, append(slices.Clone(node), bundle.RoleControlPlane)...) {
		folder := kitControlPlane
		if slices.ContainsFunc(a.Roles, func(r bundle.Role) bool { return slices.Contains(node, r) }) {
			folder = kitNode
		}
		if in, ok := packed[path.Base(a.Target)]; ok && a.Kind == bundle.KindBinary {
			archives[in.archive] = append(archives[in.archive], a)
			continue
		}
		content, name, err := k.open(ctx, from, a)
		if err != nil {
			return err
		}
		if err := errors.Join(k.copy(content, folder, name), content.Close()); err != nil {
			return err
		}
	}
	for name, artifacts := range archives {
		if err := k.pack(ctx, from, name, artifacts); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// open opens an artifact and tells how the file with it is called.
func (k kit) open(ctx context.Context, from *bundle.Bundle, a bundle.Artifact) (io.ReadCloser, string, error) {
	if a.Kind == bundle.KindImage {
		archive, _, err := from.Archive(ctx, a)
		return archive, "images/" + a.Name + ".tar", err
	}
	content, err := from.Open(ctx, a)
	return content, path.Base(a.Target), err
}

// pack writes a gzipped tar of programs into the folder of every host.
func (k kit) pack(ctx context.Context, from *bundle.Bundle, name string, artifacts []bundle.Artifact) (err error) {
	file, err := os.Create(filepath.Join(k.dir, kitNode, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	compressed := gzip.NewWriter(file)
	out := tar.NewWriter(compressed)
	for _, a := range artifacts {
		base := path.Base(a.Target)
		header := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(packed[base].folder, base), Size: a.Size(), Mode: int64(a.Mode)}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		content, err := from.Open(ctx, a)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, content)
		if err := errors.Join(err, content.Close()); err != nil {
			return err
		}
	}
	return errors.Join(out.Close(), compressed.Close())
}

func (k kit) copy(from io.Reader, folder, name string) (err error) {
	file, err := os.OpenFile(filepath.Join(k.dir, folder, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}

func (k kit) write(data []byte, folder, name string) error {
	return os.WriteFile(filepath.Join(k.dir, folder, name), data, 0o600)
}

// configure writes what depends on the hosts: kubeadm's configuration, containerd's, and the pod network's, of which network
// are the objects of a cluster of myadm's.
func (k kit) configure(document, network []byte, address string) error {
	kubeadm, err := renderKubeadm(document, kubeadmOptions{address: address})
	if err != nil {
		return err
	}
	containerd, err := containerdConfig(document, filepath.Join(k.dir, kitNode, "images"))
	if err != nil {
		return err
	}
	conflist, err := conflistOf(network)
	if err != nil {
		return err
	}
	manifests, err := asManifests(network, address, "6443")
	if err != nil {
		return err
	}
	return errors.Join(
		k.write(kubeadm, kitControlPlane, "kubeadm.yaml"),
		k.write(manifests, kitControlPlane, "network.json"),
		k.write(containerd, kitNode, "containerd.toml"),
		k.write(conflist, kitNode, "cni.conflist"),
	)
}

// containerdConfig is what the script changes of containerd's defaults. Which pause image there is, an archive of it tells.
func containerdConfig(document []byte, images string) ([]byte, error) {
	var cluster struct {
		Spec struct {
			Kubelet struct {
				CgroupDriver string `json:"cgroupDriver"`
			} `json:"kubelet"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(document, &cluster); err != nil {
		return nil, fmt.Errorf("the lab's Cluster document: %w", err)
	}
	pause, err := imageIn(filepath.Join(images, "pause.tar"))
	if err != nil {
		return nil, err
	}
	// As containerd's own default does, it reads what is in conf.d: there is what the lab's hosts need.
	return fmt.Appendf(nil, `version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %q

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = %t
`, pause, cluster.Spec.Kubelet.CgroupDriver != "cgroupfs"), nil
}

// imageIn is the name of the image in an OCI archive.
func imageIn(archive string) (string, error) {
	file, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer file.Close()
	in := tar.NewReader(file)
	for {
		header, err := in.Next()
		if err != nil {
			return "", fmt.Errorf("%s: index.json: %w", archive, err)
		}
		if header.Name != "index.json" {
			continue
		}
		var index struct {
			Manifests []struct {
				Annotations map[string]string `json:"annotations"`
			} `json:"manifests"`
		}
		if err := json.NewDecoder(in).Decode(&index); err != nil {
			return "", fmt.Errorf("%s: index.json: %w", archive, err)
		}
		for _, m := range index.Manifests {
			if name := m.Annotations["io.containerd.image.name"]; name != "" {
				return name, nil
			}
		}
		return "", fmt.Errorf("%s: the image has no name", archive)
	}
}

// conflistOf finds in flannel's objects how the runtime joins pods to the network.
func conflistOf(objects []byte) ([]byte, error) {
	var list struct {
		Items []struct {
			Data map[string]string `json:"data"`
		} `json:"items"`
	}
	if err := json.Unmarshal(objects, &list); err != nil {
		return nil, fmt.Errorf("flannel's objects: %w", err)
	}
	for _, o := range list.Items {
		if conflist := o.Data["cni-conf.json"]; strings.TrimSpace(conflist) != "" {
			return []byte(conflist), nil
		}
	}
	return nil, errors.New("flannel's objects: no ConfigMap has a cni-conf.json")
}
