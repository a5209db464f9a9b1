//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/e2e/lab"
)

// faultyBundle is a bundle that is seen to be wrong before anything is sent.
type faultyBundle struct {
	name  string
	make  func(c *carrier, t *testing.T) string // returns its path
	code  int
	words []string
}

var faultyBundles = []faultyBundle{
	{"of another version", func(*carrier, *testing.T) string { return made.older }, 2,
		[]string{"is of Kubernetes " + older + ", and " + newest + " is wanted", "hint: name the bundle of that version"}},
	{"for another architecture", (*carrier).forAnotherArch, 3, []string{"h1: ", "[Bundle]", "has kubelet for [arm64], not for amd64", "hint: use a bundle made for amd64"}},
	{"an index that is cut", (*carrier).withCutIndex, 1, []string{"index.json: unexpected end", "hint: the bundle is damaged"}},
	{"an index with a wrong sum", (*carrier).withWrongSum, 1, []string{"artifact kubelet (amd64): blobs/sha256/", "is missing", "hint: the bundle is damaged"}},
	{"a blob that is cut", (*carrier).withCutBlob, 1, []string{"artifact kubelet (amd64): blobs/sha256/", "has 1000 bytes instead of", "hint: the bundle is damaged"}},
	{"a tar that climbs out", (*carrier).climbing, 1, []string{`"../../etc/x" in the tar file is not a path below its root`, "hint: copy it again"}},
	{"a tar with a link", (*carrier).linking, 1, []string{`in the tar file is not a plain file`, "hint: copy it again"}},
}

// TestBundleFaults has a host get its share from bundles that are wrong in every way, and onto disks that are full. Each time
// the message says where and what to do, nothing that was on the host is replaced, and what is there is whole. In the end the
// host is a node, and has been sent nothing again that was whole.
func TestBundleFaults(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 1})
	c := newCarrier(t, s)
	bare := c.state(t)
	for _, f := range faultyBundles {
		t.Run(f.name, func(t *testing.T) {
			path := f.make(c, t)
			c.apply(t, path).want(t, f.code).wantWords(t, f.words...)
			if diff := bare.difference(c.state(t)); diff != "" {
				t.Errorf("the host (-before +after):\n%s", diff)
			}
			for _, outside := range []string{"/etc/x", filepath.Join(filepath.Dir(path), "../../etc/x")} {
				if _, err := os.Lstat(outside); err == nil {
					t.Errorf("there is %s on the operator's machine", outside)
				}
			}
		})
	}

	mount := func(t *testing.T, options, dir string) {
		t.Helper()
		s.shell(t, "h1", "mkdir -p "+dir+" && mount -t tmpfs -o "+options+" tmpfs "+dir)
	}
	mount(t, "size=30m", "/usr/local/bin")
	mount(t, "size=300m", "/var/lib/containerd")
	t.Run("full disks, as preflight sees them", func(t *testing.T) {
		before := c.state(t)
		c.apply(t, made.bundle).want(t, 3).wantWords(t, "h1: ", "[Disk] /var/lib/containerd has 300 MiB free", "hint: make room there")
		if diff := before.difference(c.state(t)); diff != "" {
			t.Errorf("the host (-before +after):\n%s", diff)
		}
	})
	// From here on things come to the host.
	for _, f := range []struct {
		name   string
		bundle func(*testing.T) string
		before func(*testing.T)
		words  []string
	}{
		{"a full disk for binaries", c.good, nil,
			[]string{"h1: ", "upload /usr/local/bin/", "the disk of /usr/local/bin is full", "hint: make room there"}},
		{"a binary with a wrong byte", c.withWrongBinary, func(t *testing.T) { mount(t, "remount,size=1g", "/usr/local/bin") },
			[]string{"h1: ", "send kubelet: ", ": blobs/sha256/", "has sha256 ", "hint: the bundle is damaged"}},
		{"a full disk for images", c.good, nil,
			[]string{"h1: images: import registry.k8s.io/", "/var/lib/containerd/", "no space left on device", "hint: make room on that disk"}},
		{"an image with a wrong byte", c.withWrongImage, func(t *testing.T) { mount(t, "remount,size=4g", "/var/lib/containerd") },
			[]string{"h1: ", "artifact flannel (amd64): blobs/sha256/", "has sha256 ", "hint: the bundle is damaged"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			if f.before != nil {
				f.before(t)
			}
			before := c.state(t)
			c.apply(t, f.bundle(t), "--ignore-preflight-errors", "Disk").want(t, 1).wantWords(t, f.words...)
			before.wantKept(t, c.state(t))
		})
	}
	c.apply(t, made.bundle).want(t, 0)
	s.wantReady(t, "h1")
	if lacking := c.lacking(t); lacking > 0 {
		t.Errorf("the host lacks %d bytes", lacking)
	}
	s.waitAvailable(t)

	t.Run("a wrong byte for a host that runs", func(t *testing.T) {
		before, lives := c.state(t), s.lives(t)
		c.apply(t, c.withOtherKubelet(t)).want(t, 1).wantWords(t, "h1: ", "send kubelet: ", "has sha256 ", "hint: the bundle is damaged")
		before.wantKept(t, c.state(t))
		if diff := lives.difference(s.lives(t)); diff != "" {
			t.Errorf("containers were started anew (-before +after):\n%s", diff)
		}
	})
	c.apply(t, made.bundle).want(t, 0)
	s.wantReady(t, "h1")
}

// wantKept fails the test unless every file of the listing is still there, untouched. What is not yet whole may change.
func (before listing) wantKept(t *testing.T, after listing) {
	t.Helper()
	for name, was := range before {
		if is := after[name]; strings.HasPrefix(was, "f ") && !strings.HasSuffix(name, ".part") && is != was {
			t.Errorf("%s was %s, and is %s", name, was, is)
		}
	}
}

// carrier brings bundles to h1, counts what travels, and makes faulty ones from the good one.
type carrier struct {
	s     *site
	link  *lab.Link
	index bundle.Index
	dir   string // for faulty bundles
}

// newCarrier lays the link that the operator's ssh_config leads over.
func newCarrier(t *testing.T, s *site) *carrier {
	t.Helper()
	c := &carrier{s: s, link: s.takeLink(t, 0), dir: t.TempDir()}
	must(t, json.Unmarshal(read(t, filepath.Join(made.bundle, "index.json")), &c.index))
	return c
}

// apply makes the cluster, and fails the test if more travelled than the host lacked of its share, or anything that does not
// match the good bundle's sums is in place.
func (c *carrier) apply(t *testing.T, from string, args ...string) result {
	t.Helper()
	lacking, before := c.lacking(t), c.link.Traffic().Sent
	r := c.s.myadm(t, nil, append([]string{"apply", "-f", c.s.document, "--kubeconfig-out", c.s.kubeconfig, "--bundle", from}, args...)...)
	sent := c.link.Traffic().Sent - before
	t.Logf("%d MB sent of %d MB that the host lacked; now it lacks %d MB", sent/1e6, lacking/1e6, c.lacking(t)/1e6)
	// SSH adds some, and myadm's commands and files are a megabyte.
	if limit := lacking + lacking/50 + 2<<20; sent > limit {
		t.Errorf("%d bytes were sent, of at most %d: %s", sent, limit, r)
	}
	return r
}

// lacking is how many bytes of its share of the good bundle the host does not have in place. It fails the test when something
// else is there instead.
func (c *carrier) lacking(t *testing.T) int64 {
	t.Helper()
	var script strings.Builder
	b := bundle.Bundle{Index: c.index}
	share := b.Select(runtime.GOARCH, bundle.RoleNode, bundle.RoleControlPlane, bundle.RoleRuntime, bundle.RoleCNI, bundle.RoleFlannel)
	for _, a := range share {
		if a.Kind == bundle.KindBinary {
			fmt.Fprintf(&script, "[ ! -e %[1]s ] || sha256sum %[1]s\n", a.Target)
		}
	}
	script.WriteString("[ ! -S /run/containerd/containerd.sock ] || /usr/local/bin/ctr -n k8s.io images ls 2>/dev/null | awk '{ print $3, $1 }' || true\n")
	have := map[string]string{}
	for line := range strings.Lines(c.s.shell(t, "h1", script.String())) {
		if sum, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			have[strings.TrimSpace(name)] = strings.TrimPrefix(sum, "sha256:")
		}
	}
	var lacking int64
	for _, a := range share {
		place, sum := a.Target+a.Image, a.Blobs[0].SHA256 // an image's first blob is its manifest
		switch have[place] {
		case sum:
		case "":
			lacking += a.Size()
		default:
			t.Errorf("%s has sum %s, want %s", place, have[place], sum)
		}
	}
	return lacking
}

// state is what there is on the host, by identity, and its images.
func (c *carrier) state(t *testing.T) listing {
	t.Helper()
	all := c.s.touched(t, "h1")
	out := c.s.shell(t, "h1", "[ ! -S /run/containerd/containerd.sock ] || /usr/local/bin/ctr -n k8s.io images ls 2>/dev/null | awk '{ print $1, $3 }' || true")
	for line := range strings.Lines(out) {
		name, digest, _ := strings.Cut(strings.TrimSpace(line), " ")
		all["image "+name] = "f " + digest
	}
	return all
}

func (c *carrier) good(*testing.T) string { return made.bundle }

// linked is a copy of the good bundle that shares its blobs' files, but for one, with an index that is changed.
func (c *carrier) linked(t *testing.T, without string, change func(index string) string) string {
	t.Helper()
	dir := filepath.Join(c.dir, strings.ReplaceAll(filepath.Base(t.Name()), " ", "_"))
	blobs := filepath.Join(dir, "blobs", "sha256")
	must(t, os.MkdirAll(blobs, 0o755))
	for _, blob := range bundle.Blobs(c.index.Artifacts) {
		blob = blob.Stored()
		if blob.SHA256 == without {
			continue
		}
		from, to := filepath.Join(made.bundle, "blobs", "sha256", blob.SHA256), filepath.Join(blobs, blob.SHA256)
		if err := os.Link(from, to); err != nil { // another file system
			must(t, os.WriteFile(to, read(t, from), 0o644))
		}
	}
	index := string(read(t, filepath.Join(made.bundle, "index.json")))
	if change != nil {
		index = change(index)
	}
	must(t, os.WriteFile(filepath.Join(dir, "index.json"), []byte(index), 0o644))
	return dir
}

// blob is the last one of an artifact as it is stored: all of a binary, or a layer.
func (c *carrier) blob(t *testing.T, name string) bundle.Blob {
	t.Helper()
	b := bundle.Bundle{Index: c.index}
	a, err := b.Find(name, runtime.GOARCH)
	must(t, err)
	return a.Blobs[len(a.Blobs)-1].Stored()
}

func (c *carrier) content(t *testing.T, blob bundle.Blob) []byte {
	t.Helper()
	return read(t, filepath.Join(made.bundle, "blobs", "sha256", blob.SHA256))
}

// replaced is linked with another content of one blob.
func (c *carrier) replaced(t *testing.T, blob bundle.Blob, data []byte) string {
	t.Helper()
	dir := c.linked(t, blob.SHA256, nil)
	must(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", blob.SHA256), data, 0o644))
	return dir
}

func flipped(data []byte) []byte {
	data = bytes.Clone(data)
	data[len(data)/2] ^= 1
	return data
}

func (c *carrier) forAnotherArch(t *testing.T) string {
	return c.linked(t, "", func(index string) string { return strings.ReplaceAll(index, `"amd64"`, `"arm64"`) })
}

func (c *carrier) withCutIndex(t *testing.T) string {
	return c.linked(t, "", func(index string) string { return index[:len(index)/2] })
}

func (c *carrier) withWrongSum(t *testing.T) string {
	sum := c.blob(t, "kubelet").SHA256
	return c.linked(t, "", func(index string) string { return strings.ReplaceAll(index, sum, strings.Repeat("0", len(sum))) })
}

func (c *carrier) withCutBlob(t *testing.T) string {
	blob := c.blob(t, "kubelet")
	return c.replaced(t, blob, c.content(t, blob)[:1000])
}

func (c *carrier) withWrongBinary(t *testing.T) string {
	blob := c.blob(t, "kubelet")
	return c.replaced(t, blob, flipped(c.content(t, blob)))
}

// withWrongImage damages the image that comes last, which no full disk let through.
func (c *carrier) withWrongImage(t *testing.T) string {
	blob := c.blob(t, "flannel")
	return c.replaced(t, blob, flipped(c.content(t, blob)))
}

// withOtherKubelet has an index that asks for another kubelet than the one that hosts have, and a content that is neither.
func (c *carrier) withOtherKubelet(t *testing.T) string {
	blob := c.blob(t, "kubelet")
	other := flipped(c.content(t, blob))
	sum := sha256.Sum256(other)
	wanted := hex.EncodeToString(sum[:])
	b := bundle.Bundle{Index: c.index}
	a, err := b.Find("kubelet", runtime.GOARCH)
	must(t, err)
	dir := c.linked(t, blob.SHA256, func(index string) string {
		index = strings.ReplaceAll(index, a.Blobs[0].SHA256, strings.Repeat("0", len(wanted))) // its content, if it is packed
		return strings.ReplaceAll(index, blob.SHA256, wanted)
	})
	other[0] ^= 1
	must(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", wanted), other, 0o644))
	return dir
}

func (c *carrier) climbing(t *testing.T) string {
	return c.tar(t, &tar.Header{Typeflag: tar.TypeReg, Name: "../../etc/x", Size: 1, Mode: 0o644})
}

func (c *carrier) linking(t *testing.T) string {
	return c.tar(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "blobs/sha256/" + c.blob(t, "kubelet").SHA256, Linkname: "/etc/x"})
}

// tar is a bundle in a tar file with the good index and something else. It lies two folders deep, for what climbs out.
func (c *carrier) tar(t *testing.T, header *tar.Header) string {
	t.Helper()
	index := read(t, filepath.Join(made.bundle, "index.json"))
	path := filepath.Join(t.TempDir(), "two", "deep", "bundle.tar")
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	file, err := os.Create(path)
	must(t, err)
	defer file.Close()
	w := tar.NewWriter(file)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "index.json", Size: int64(len(index)), Mode: 0o644}))
	_, err = w.Write(index)
	must(t, err)
	must(t, w.WriteHeader(header))
	_, err = w.Write(make([]byte, header.Size))
	must(t, err)
	must(t, w.Close())
	return path
}
