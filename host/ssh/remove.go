package ssh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
)

const (
	mountedStatus = 90 // the status of removeScript for a path with something mounted below it
	mountedMark   = "myadm-mounted "

	// removeScript removes its arguments. The mount table tells what is mounted below a path; it also knows what is on
	// the same file system (a bind mount), which rm --one-file-system would empty. It writes spaces and the like as octal
	// numbers, which printf makes plain.
	removeScript = `status=0
failed() { [ "$status" = 90 ] || status=1; }
for p; do
  if [ -L "$p" ] || [ ! -d "$p" ]; then rm -f -- "$p" || failed; continue; fi
  real=$(cd -P -- "$p" && pwd -P) || { failed; continue; }
  self=; below=
  while read -r _ _ _ _ m _; do
    case $m in *[!a-zA-Z0-9/._:,@+-]*) m=$(printf "$(printf %s "$m" | sed s/%/%%/g)") ;; esac
    case $m in "$real") self=1 ;; "$real"/*) below=$m; break ;; esac
  done </proc/self/mountinfo
  if [ -n "$below" ]; then printf %s "` + mountedMark + `$p $below"; echo; status=90
  elif [ -n "$self" ]; then find "$p" -xdev -mindepth 1 -maxdepth 1 -exec rm -rf -- {} + || failed
  else rm -rf -- "$p" || failed; fi
done
exit $status`
)

// Remove removes files and whole folders.
func (h *Host) Remove(ctx context.Context, paths ...string) error {
	if err := host.CheckRemove(paths...); err != nil {
		return err
	}
	var all errgroup.Group
	for batch := range batches(paths) {
		all.Go(func() error { return h.remove(ctx, batch) })
	}
	return all.Wait()
}

func (h *Host) remove(ctx context.Context, paths []string) error {
	out, err := h.Run(ctx, host.Command(append([]string{"/bin/sh", "-c", removeScript, "sh"}, paths...)...))
	if err == nil {
		return nil
	}
	if code, _ := host.ExitCode(err); code == mountedStatus {
		for line := range strings.Lines(string(out)) {
			if rest, ok := strings.CutPrefix(line, mountedMark); ok {
				return mounted(strings.TrimSuffix(rest, "\n"), paths)
			}
		}
	}
	var exit *host.ExitError
	if errors.As(err, &exit) { // the script is no help to anybody
		return fmt.Errorf("remove: %s", strings.TrimSpace(string(exit.Stderr)))
	}
	return fmt.Errorf("remove %s: %w", paths[0], err)
}

// mounted takes apart what the script says of a path and the mount below it.
func mounted(said string, paths []string) error {
	i := slices.IndexFunc(paths, func(p string) bool { return strings.HasPrefix(said, p+" ") })
	if i < 0 {
		return fmt.Errorf("remove: something is mounted below a path: %s", said)
	}
	return &host.MountedError{Path: paths[i], Mount: said[len(paths[i])+1:]}
}
