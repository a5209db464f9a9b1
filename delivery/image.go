package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"sync"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/host"
)

// importScript hands a command an image layout as a tar: the small files of the folder, and blobs that lie elsewhere. Its
// arguments are the layout's folder, where the blobs' folder is, how many names follow, the names, and the command. A tar
// that lacks something is no success, whatever the command makes of it: a pipe's status is that of its end alone.
const importScript = `set -e
cd "$1"; ln -sfn "$2" blobs; n=$3; shift 3
names=; while [ "$n" -gt 0 ]; do names="$names $1"; shift; n=$((n-1)); done
exec 3>&1
failed=$({ { tar -cf - $names || echo tar >&4; } | "$@" >&3 4>&-; } 4>&1)
[ -z "$failed" ]`

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
	sum := sha256.New() // two names of one image are two layouts
	for _, head := range heads {
		sum.Write(head.Data) // a hash never fails
	}
	layout := path.Join(s.Dir, "layouts", hex.EncodeToString(sum.Sum(nil)))
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
		return fmt.Errorf("import %s: %w", a.Image, ranAs(err, command...))
	}
	return nil
}

// ranAs names the command that a script ran, instead of the script.
func ranAs(err error, argv ...string) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	return &host.ExitError{Argv: argv, Code: exit.Code, Stderr: exit.Stderr}
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
