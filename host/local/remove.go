package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/myadm/myadm/host"
)

// Remove removes files and whole folders.
func (h *Host) Remove(ctx context.Context, paths ...string) error {
	if err := start(ctx, host.CheckRemove(paths...)); err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		errs = append(errs, remove(path))
	}
	return errors.Join(errs...)
}

// remove removes one path. The mount table, unlike device numbers, also tells what is mounted from the same file system.
func remove(path string) error {
	info, err := os.Lstat(path)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return os.Remove(path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	mounts, err := mountPoints()
	if err != nil {
		return err
	}
	mounted := false
	for _, m := range mounts {
		if strings.HasPrefix(m, real+"/") {
			return &host.MountedError{Path: path, Mount: m}
		}
		mounted = mounted || m == real
	}
	return removeTree(path, device(info), mounted)
}

// removeTree empties a folder, and removes it unless it is kept. What is on another device was mounted just now.
func removeTree(dir string, dev uint64, keep bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !missing(err) {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.IsDir() {
			err = os.Remove(path)
		} else if info, statErr := os.Lstat(path); statErr != nil {
			err = statErr
		} else if device(info) != dev {
			return &host.MountedError{Path: dir, Mount: path}
		} else {
			err = removeTree(path, dev, false)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if keep {
		return nil
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func device(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Dev
	}
	return 0
}

func owner(info fs.FileInfo) uint32 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Uid
	}
	return ^uint32(0)
}

// octal is how the mount table writes spaces, tabs, newlines and backslashes.
var octal = regexp.MustCompile(`\\[0-7]{3}`)

// mountPoints lists this machine's mount points (proc(5), /proc/PID/mountinfo: the fifth field).
func mountPoints() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var points []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			return nil, fmt.Errorf("mountinfo: %q", lines.Text())
		}
		points = append(points, octal.ReplaceAllStringFunc(fields[4], func(s string) string {
			n, _ := strconv.ParseUint(s[1:], 8, 8) // three octal digits; those above 377 do not occur
			return string([]byte{byte(n)})
		}))
	}
	return points, nil
}
