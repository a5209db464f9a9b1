package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/unified"
	"github.com/myadm/myadm/workflow"
)

// publicFiles are those that only root may read by their mode, and that are shown all the same: patterns of path.Match. Of
// any other such file no content is shown, since it may hold what nobody else is to read.
var publicFiles = []string{
	config.ManifestsDir + "/*.yaml", // static pods, 0600 as kubeadm's: the API shows their content as that of the mirror pods
}

// isPublic tells whether the content of a file with that mode may be shown.
func isPublic(file string, mode fs.FileMode) bool {
	return mode.Perm()&0o004 != 0 || slices.ContainsFunc(publicFiles, func(pattern string) bool {
		ok, err := path.Match(pattern, file)
		return ok && err == nil
	})
}

// showing bounds the files of a host that are read at the same time.
const showing = 8

// ShowFiles fills the Diff of those changes that create, change or delete a regular file, if the plan is to show it
// (workflow.WithDiffs); otherwise it costs nothing. wanted are the files as they are to be; changes of other objects are left
// alone. It takes one round trip, and one more for each file that is there.
func ShowFiles(ctx context.Context, r host.Reader, changes []workflow.Change, wanted ...host.File) error {
	if !workflow.WantsDiffs(ctx) {
		return nil
	}
	var shown []*workflow.Change
	var files []host.File // beside shown; one to delete has no Data
	var paths []string
	for i := range changes {
		c := &changes[i]
		at := slices.IndexFunc(wanted, func(f host.File) bool { return f.Path == c.Object })
		switch {
		case at >= 0 && c.Action != workflow.Delete:
			files = append(files, wanted[at])
		case at < 0 && c.Action == workflow.Delete && path.IsAbs(c.Object):
			files = append(files, host.File{Path: c.Object, Mode: 0o004})
		default:
			continue
		}
		shown, paths = append(shown, c), append(paths, c.Object)
	}
	if len(shown) == 0 {
		return nil
	}
	infos, err := r.Stat(ctx, paths...)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(showing)
	for i, info := range infos {
		group.Go(func() (err error) {
			shown[i].Diff, err = showFile(ctx, r, info, files[i], shown[i].Action == workflow.Delete)
			return err
		})
	}
	return group.Wait()
}

// showFile shows how a file becomes what it is to be, or goes.
func showFile(ctx context.Context, r host.Reader, have host.Info, want host.File, gone bool) (string, error) {
	var was []byte
	switch {
	case have.Exists && !have.Mode.IsRegular():
		if gone {
			return "", nil // a folder, or a link
		}
	case have.Exists && have.Size > unified.MaxSize:
		return unified.Large, nil
	case have.Exists:
		data, err := r.ReadFile(ctx, have.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if ctx.Err() != nil {
				return "", err
			}
			return fmt.Sprintf("(not shown: %v)", err), nil
		}
		if was = data; err == nil && data == nil {
			was = []byte{}
		}
	}
	is := want.Data
	switch {
	case gone:
		is = nil
	case is == nil:
		is = []byte{}
	}
	text := unified.Diff(want.Path, was, is)
	if text != "" && (!isPublic(want.Path, want.Mode) || was != nil && !isPublic(have.Path, have.Mode)) {
		return unified.Secret, nil
	}
	return text, nil
}
