package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/myadm/myadm/bundle"
)

// The files of an image's step.
const (
	archiveName = "image.tar"
	digestName  = "digest" // the manifest's, without a line end
)

// image is a step that holds an OCI archive.
func (b *builder) image(im image, made map[string]*step) *step {
	// With its tag in the name, one Kubernetes version's image does not push the other's out of the cache.
	s := &step{name: "image-" + im.name + "-" + tag(im.ref) + "-" + b.Arch, inputs: []string{bundle.APIVersion, fmt.Sprint(im)}}
	if im.debian != "" {
		s.needs = append(s.needs, made[im.debian])
	}
	for _, p := range im.programs {
		s.needs = append(s.needs, made[stepName(p.from)])
	}
	s.make = func(_ context.Context, dir string) error {
		packed, err := b.pack(im, made)
		if err != nil {
			return err
		}
		digest, err := packed.Digest()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, digestName), []byte(digest.String()), 0o644); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(dir, archiveName))
		if err != nil {
			return err
		}
		return errors.Join(bundle.WriteArchive(f, im.ref, packed), f.Close())
	}
	return s
}

// pack makes the image: what changes least comes first, as its own layer, so that images share it.
func (b *builder) pack(im image, made map[string]*step) (v1.Image, error) {
	var layers []v1.Layer
	add := func(fill func(*layerBuilder) error) error {
		l := newLayer()
		if err := fill(l); err != nil {
			return err
		}
		done, err := l.finish()
		layers = append(layers, done)
		return err
	}
	var err error
	if im.base {
		err = errors.Join(err, add((*layerBuilder).baseFiles))
	}
	if im.debian != "" {
		err = errors.Join(err, add(func(l *layerBuilder) error { return l.tree(b.dir(made[im.debian])) }))
	}
	for _, p := range im.programs {
		err = errors.Join(err, add(func(l *layerBuilder) error { return l.file(b.path(made, p.from), p.path, p.bindLow) }))
	}
	if err != nil {
		return nil, err
	}
	packed := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	packed, err = mutate.AppendLayers(packed, layers...)
	if err != nil {
		return nil, err
	}
	config, err := packed.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created, config.History = "linux", b.Arch, v1.Time{Time: time.Unix(0, 0).UTC()}, nil
	config.Config = v1.Config{
		User: im.user, WorkingDir: "/", Entrypoint: []string{im.entrypoint},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	return mutate.ConfigFile(packed, config)
}

// tag is what follows the colon of name:tag.
func tag(ref string) string { return ref[strings.LastIndex(ref, ":")+1:] }
