package phases

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/workflow"
)

// atOnce has several looks at a host made at the same time, and gives what they find in their order.
func atOnce(ctx context.Context, looks ...func(ctx context.Context) ([]workflow.Change, error)) ([]workflow.Change, error) {
	found := make([][]workflow.Change, len(looks))
	g, ctx := errgroup.WithContext(ctx)
	for i, look := range looks {
		g.Go(func() (err error) {
			found[i], err = look(ctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(found...), nil
}

// diffFiles compares files with what is on the host, in one round trip, and shows how they differ if the plan is to. A
// change's Object is the file's path.
func diffFiles(ctx context.Context, r host.Reader, files []host.File) ([]workflow.Change, error) {
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.Path
	}
	infos, err := r.Sums(ctx, paths...)
	if err != nil {
		return nil, err
	}
	var changes []workflow.Change
	for i, f := range files {
		sum := sha256.Sum256(f.Data)
		if change, differs := diffFile(infos[i], f.Path, f.Mode.Perm(), hex.EncodeToString(sum[:])); differs {
			changes = append(changes, change)
		}
	}
	return changes, ShowFiles(ctx, r, changes, files...)
}

// writeChanged writes the files that changes names.
func writeChanged(ctx context.Context, h host.Host, files []host.File, changes []workflow.Change) error {
	var wanted []host.File
	for _, f := range files {
		if hasObject(changes, f.Path) {
			wanted = append(wanted, f)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	return h.WriteFiles(ctx, wanted...)
}

// diffFile compares what stands at a path with the mode and the sum that a regular file there should have.
func diffFile(have host.Info, path string, mode fs.FileMode, sum string) (workflow.Change, bool) {
	switch {
	case !have.Exists:
		return workflow.Change{Action: workflow.Create, Object: path}, true
	case have.SHA256 != sum:
		return workflow.Change{Action: workflow.Update, Object: path, Detail: "content"}, true
	case have.Mode.Perm() != mode:
		return workflow.Change{Action: workflow.Update, Object: path, Detail: fmt.Sprintf("mode %04o to %04o", have.Mode.Perm(), mode)}, true
	}
	return workflow.Change{}, false
}

func hasObject(changes []workflow.Change, object string) bool {
	for _, c := range changes {
		if c.Object == object {
			return true
		}
	}
	return false
}
