package delivery

import (
	"context"
	"fmt"
	"path"
	"sync"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/host"
)

// importScript hands a command an image layout as a tar: the small files of the folder, and blobs that lie elsewhere. Its
// arguments are the layout's folder, where the blobs' folder is, how many names follow, the names, and the command.
const importScript = `set -e
cd "$1"; ln -sfn "$2" blobs; n=$3; shift 3
names=; while [ "$n" -gt 0 ]; do names="$names $1"; shift; n=$((n-1)); done
tar -cf - $names | "$@"`

// carry brings an image's blobs to a host and has them imported there.
func (d *Delivery) carry(ctx context.Context, s *site, a bundle.Artifact, command []string, told Told) error {
	if err := d.ensure(ctx, a.Blobs[0]); err != nil {
		return err
	}
	heads, err := d.Bundle.Heads(ctx, a)
	if err != nil {
		return err
	}
	if err := d.bring(ctx, s, imageWants(s, a, told)); err != nil {
		return err
	}
	layout := path.Join(s.Dir, "layouts", a.Blobs[0].SHA256)
	var files []host.File
	var names []string
	for _, head := range heads {
		files = append(files, host.File{Path: path.Join(layout, head.Name), Mode: 0o600, Data: head.Data})
		names = append(names, head.Name)
	}
	for _, b := range a.Blobs {
		names = append(names, bundle.BlobPath(b.SHA256))
	}
	if err := s.WriteFiles(ctx, files...); err != nil {
		return err
	}
	argv := append([]string{"sh", "-c", importScript, "sh", layout, "../../blobs", fmt.Sprint(len(names))}, names...)
	if _, err := s.Run(ctx, host.Command(append(argv, command...)...)); err != nil {
		return fmt.Errorf("import %s: %w", a.Image, err)
	}
	return nil
}

// imageWants are an image's blobs, which count together.
func imageWants(s *site, a bundle.Artifact, told Told) []want {
	var mu sync.Mutex
	sizes := make([]int64, len(a.Blobs))
	var wants []want
	for i, b := range a.Blobs {
		wants = append(wants, want{
			name: a.Name, blob: b, path: path.Join(s.Dir, bundle.BlobPath(b.SHA256)), mode: 0o600,
			told: rising(func(n int64) {
				mu.Lock()
				defer mu.Unlock()
				sizes[i] = n
				var sum int64
				for _, size := range sizes {
					sum += size
				}
				told(a.Name, sum)
			}),
		})
	}
	return wants
}
