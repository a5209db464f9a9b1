package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// format is part of every step's key. Raise it when the code that makes steps changes what they hold.
const format = "1"

// step is a folder of the cache and how it is made.
type step struct {
	name   string
	inputs []string // all that decides the content, apart from needs
	needs  []*step
	keep   time.Duration // how long one made from other inputs stays, because something may use it
	make   func(ctx context.Context, dir string) error
}

// key is the checksum of a step's inputs and of those of all below it.
func (s *step) key() string {
	hash := sha256.New()
	for _, part := range append([]string{format, s.name}, s.inputs...) {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	for _, need := range s.needs {
		fmt.Fprint(hash, need.key())
	}
	return hex.EncodeToString(hash.Sum(nil))[:16]
}

func (b *builder) dir(s *step) string { return filepath.Join(b.CacheDir, s.name+"-"+s.key()) }

// path is that of STEP/FILE.
func (b *builder) path(made map[string]*step, from string) string {
	name := stepName(from)
	return filepath.Join(b.dir(made[name]), strings.TrimPrefix(from, name+"/"))
}

func stepName(from string) string {
	name, _, _ := strings.Cut(from, "/")
	return name
}

// run returns the folder of a step, making it and what it needs first. One process at a time makes steps; one that finds
// everything made waits for nobody.
func (b *builder) run(ctx context.Context, s *step) (string, error) {
	dir := b.dir(s)
	if exists(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(b.CacheDir, 0o755); err != nil {
		return "", err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return "", err
	}
	return dir, errors.Join(b.removeUnfinished(), b.make(ctx, s), unlock())
}

func (b *builder) make(ctx context.Context, s *step) error {
	dir := b.dir(s)
	if exists(dir) {
		return nil
	}
	for _, need := range s.needs {
		if err := b.make(ctx, need); err != nil {
			return err
		}
	}
	start := time.Now()
	fmt.Fprintf(b.Out, "%s: making\n", s.name)
	// A folder has its final name only when it is complete, so a build that was killed leaves nothing to trust.
	temp, err := os.MkdirTemp(b.CacheDir, unfinished+"*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := s.make(ctx, temp); err != nil {
		return fmt.Errorf("make %s: %w", s.name, err)
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	if err := os.Rename(temp, dir); err != nil {
		return err
	}
	fmt.Fprintf(b.Out, "%s: made in %s\n", s.name, time.Since(start).Round(100*time.Millisecond))
	return b.removeOlder(s)
}

// removeOlder deletes a step's folders with other keys.
func (b *builder) removeOlder(s *step) error {
	entries, err := os.ReadDir(b.CacheDir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		i := strings.LastIndex(name, "-")
		if i < 0 || name[:i] != s.name || name[i+1:] == s.key() {
			continue
		}
		if info, err := entry.Info(); err != nil || time.Since(info.ModTime()) < s.keep {
			continue
		}
		if err := os.RemoveAll(filepath.Join(b.CacheDir, name)); err != nil {
			return err
		}
	}
	return nil
}

// unfinished begins the names of folders in which a step works.
const unfinished = ".making-"

// removeUnfinished deletes what killed builds left behind. The lock is held, so nobody works there.
func (b *builder) removeUnfinished() error {
	left, err := filepath.Glob(filepath.Join(b.CacheDir, unfinished+"*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// lock waits until no other process makes steps. The kernel releases it if this one dies.
func (b *builder) lock(ctx context.Context) (unlock func() error, err error) {
	file, err := os.OpenFile(filepath.Join(b.CacheDir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for waited := false; ; waited = true {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
		}
		if !waited {
			fmt.Fprintln(b.Out, "waiting for another build")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), file.Close())
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
