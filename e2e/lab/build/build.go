// Package build makes a bundle of one Kubernetes version from source: the Go programs from their modules (e2e/components
// holds one module per line, with its go.sum), the C programs from Debian packages, the images from those files.
//
// Everything is a step: a folder in the cache, named by the checksum of all that went into it. A step that is there is
// never made again, so a second run only looks, and a change remakes just what depends on it. The bundle is a step too.
// The same sources, Go version and Debian packages give the same bytes: nothing holds a time, a path or an order by chance.
//
// Nothing but Go's module proxy and a Debian mirror is needed: apt works in a folder of its own, without root and for any
// architecture. components.go is the table of what is built.
package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/myadm/myadm/bundle"
)

// Options say what to build and where.
type Options struct {
	KubernetesVersion string    // one of Versions; empty: the newest
	Arch              string    // as Go names it; empty: this machine's
	CacheDir          string    // empty: MYADM_LAB_CACHE, or myadm-lab in the user's cache folder
	ComponentsDir     string    // the folder e2e/components of the source tree
	Out               io.Writer // progress, a line per step; nil: none
}

// Bundle builds the bundle, unless the cache has it, and returns its folder. Delete nothing there while a lab uses it.
func Bundle(ctx context.Context, o Options) (string, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return "", err
	}
	s, err := b.bundle()
	if err != nil {
		return "", err
	}
	return b.run(ctx, s)
}

// Kubeadm returns the path of the real kubeadm of that version, to compare with. It is built together with the
// components and is not in the bundle.
func Kubeadm(ctx context.Context, o Options) (string, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return "", err
	}
	return b.program(ctx, modules(b.release)[0], "kubeadm")
}

// Etcd returns the path of the etcd of that version, for those who run one of their own.
func Etcd(ctx context.Context, o Options) (string, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return "", err
	}
	return b.program(ctx, modules(b.release)[1], "etcd")
}

// TestImage returns the path of the end-to-end tests' image, an OCI archive whose image is called TestImageName.
func TestImage(ctx context.Context, o Options) (string, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return "", err
	}
	s, err := b.module(testModule)
	if err != nil {
		return "", err
	}
	archive := b.image(testImage, map[string]*step{testModule.dir: s})
	dir, err := b.run(ctx, archive)
	return filepath.Join(dir, archiveName), err
}

// Impostor returns a build of a component's image that does not work (see e2e/components/impostor): the path of an OCI
// archive, which has the name of the component's.
func Impostor(ctx context.Context, o Options, component string) (archive string, err error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return "", err
	}
	im, m, err := impostor(b.release, component)
	if err != nil {
		return "", err
	}
	s, err := b.module(m)
	if err != nil {
		return "", err
	}
	dir, err := b.run(ctx, b.image(im, map[string]*step{m.dir: s}))
	return filepath.Join(dir, archiveName), err
}

// TestImageName is the test image's name:tag.
var TestImageName = testImage.ref

type builder struct {
	Options
	release   release
	goVersion string
}

func newBuilder(ctx context.Context, o Options) (*builder, error) {
	o.KubernetesVersion = cmp.Or(o.KubernetesVersion, releases[0].version)
	o.Arch = cmp.Or(o.Arch, runtime.GOARCH)
	o.CacheDir = cmp.Or(o.CacheDir, os.Getenv("MYADM_LAB_CACHE"))
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find a cache folder: %w; hint: set MYADM_LAB_CACHE", err)
		}
		o.CacheDir = filepath.Join(dir, "myadm-lab")
	}
	var err error
	if o.CacheDir, err = filepath.Abs(o.CacheDir); err != nil {
		return nil, err
	}
	r, err := releaseOf(o.KubernetesVersion)
	if err != nil {
		return nil, err
	}
	if _, known := triplets[o.Arch]; !known {
		return nil, fmt.Errorf("no Debian packages for architecture %s; hint: there are amd64 and arm64", o.Arch)
	}
	goVersion, err := output(ctx, o.ComponentsDir, nil, "go", "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	return &builder{o, r, goVersion}, nil
}

// program is the path of one of a module's programs.
func (b *builder) program(ctx context.Context, m module, name string) (string, error) {
	s, err := b.module(m)
	if err != nil {
		return "", err
	}
	dir, err := b.run(ctx, s)
	return filepath.Join(dir, name), err
}

// bundle is the last step; all others are below it.
func (b *builder) bundle() (*step, error) {
	made := map[string]*step{}
	for _, m := range modules(b.release) {
		s, err := b.module(m)
		if err != nil {
			return nil, err
		}
		made[m.dir] = s
	}
	for _, set := range debianSets {
		made[set.name] = b.debian(set)
	}
	files, archives := hostFiles(b.release), images(b.release)
	s := &step{name: "bundle-" + b.release.version + "-" + b.Arch, keep: 24 * time.Hour, inputs: []string{
		bundle.APIVersion, bundle.Packing, fmt.Sprint(files),
	}}
	for _, f := range files {
		s.needs = append(s.needs, made[stepName(f.from)])
	}
	packed := make([]*step, len(archives))
	for i, im := range archives {
		packed[i] = b.image(im, made)
		s.needs = append(s.needs, packed[i])
		if im.version == "" {
			s.needs = append(s.needs, made[im.debian]) // see version
		}
	}
	s.make = func(_ context.Context, dir string) error {
		w, err := bundle.Create(dir, b.release.version)
		if err != nil {
			return err
		}
		fill := func() error {
			for _, f := range files {
				if err := b.addFile(w, f, made); err != nil {
					return err
				}
			}
			for i, im := range archives {
				if err := b.addImage(w, im, made, packed[i]); err != nil {
					return err
				}
			}
			return w.Close()
		}
		return errors.Join(fill(), w.Discard())
	}
	return s, nil
}

func (b *builder) addFile(w *bundle.Writer, f hostFile, made map[string]*step) error {
	version, err := b.version(f.version, made[stepName(f.from)])
	if err != nil {
		return err
	}
	content, err := os.Open(b.path(made, f.from))
	if err != nil {
		return err
	}
	a := bundle.Artifact{Name: f.name, Version: version, OS: "linux", Arch: b.Arch, Roles: f.roles, Target: f.target, Mode: 0o755}
	return errors.Join(w.AddBinary(a, content), content.Close())
}

func (b *builder) addImage(w *bundle.Writer, im image, made map[string]*step, packed *step) error {
	version, err := b.version(im.version, made[im.debian])
	if err != nil {
		return err
	}
	digest, err := os.ReadFile(filepath.Join(b.dir(packed), digestName))
	if err != nil {
		return err
	}
	a := bundle.Artifact{
		Name: im.name, Version: version, OS: "linux", Arch: b.Arch, Roles: im.roles, Image: im.ref, Digest: string(digest),
	}
	return w.AddArchive(a, filepath.Join(b.dir(packed), archiveName))
}

// version is that of the table. What has none there comes from Debian and has its package's.
func (b *builder) version(version string, from *step) (string, error) {
	if version != "" {
		return version, nil
	}
	data, err := os.ReadFile(filepath.Join(b.dir(from), versionName))
	return string(data), err
}
