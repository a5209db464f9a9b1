package fetch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/myadm/myadm/bundle"
)

// Cache is a folder of verified blobs, each named by its SHA-256:
//
//	blobs/sha256/HEX    whole blobs
//	partial/HEX         blobs under way: what there is of them so far; partial/HEX.validator is the server's word for which file that is
//	records/HEX.json    what was learnt about addresses and archives, see record
//	lock                held shared by who uses blobs, exclusively by who deletes
//
// A time of modification is when a file was last used; what was not used for longest goes first. Records are small, and
// save requests also for what is there no more: they go when nothing else is left.
type Cache struct {
	dir  string
	lock *os.File
}

var (
	errBusy = errors.New("another myadm uses the cache; hint: try again when it has ended")
	// sumPattern keeps names of blobs from being paths.
	sumPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

const (
	validatorSuffix = ".validator"
	temporary       = ".new-" // begins the names of files that no other run will go on with
)

// OpenCache opens the cache in a folder, which it makes for the user alone; an empty name is DefaultCacheDir.
func OpenCache(dir string) (*Cache, error) {
	if dir == "" {
		var err error
		if dir, err = DefaultCacheDir(); err != nil {
			return nil, err
		}
	}
	c := &Cache{dir: dir}
	for _, sub := range []string{"", "blobs", "blobs/sha256", "partial", "records"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("cache: %w; hint: --cache-dir names a folder that can be written", err)
		}
	}
	var err error
	if c.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("cache: %w; hint: --cache-dir names a folder that can be written", err)
	}
	return c, nil
}

// Close gives the cache free.
func (c *Cache) Close() error { return c.lock.Close() }

// Dir is where the cache is.
func (c *Cache) Dir() string { return c.dir }

// hold keeps others from deleting until Close. It waits for who deletes right now.
func (c *Cache) hold(ctx context.Context) error {
	if err := flock(ctx, c.lock, unix.LOCK_SH); err != nil {
		return fmt.Errorf("cache %s: %w", c.dir, err)
	}
	return nil
}

// Open opens a blob for reading and notes its use.
func (c *Cache) Open(sum string) (*os.File, error) {
	if !sumPattern.MatchString(sum) {
		return nil, fmt.Errorf("cache %s: %q is not a SHA-256", c.dir, sum)
	}
	file, err := os.Open(c.blob(sum))
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if info, err := file.Stat(); err == nil {
		touchOld(file.Name(), info.ModTime())
	}
	return file, nil
}

func (c *Cache) blob(sum string) string { return filepath.Join(c.dir, "blobs", "sha256", sum) }

// find returns a blob that the cache has, and notes its use.
func (c *Cache) find(sum string) (bundle.Blob, bool) {
	if !sumPattern.MatchString(sum) {
		return bundle.Blob{}, false
	}
	info, err := os.Stat(c.blob(sum))
	if err != nil {
		return bundle.Blob{}, false
	}
	touchOld(c.blob(sum), info.ModTime())
	return bundle.Blob{SHA256: sum, Size: info.Size()}, true
}

// touch is only for the order in which things are deleted: when it fails, on a file system without times, nothing is lost.
func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

// touchOld leaves alone what was used just now: whoever knows a file by its time need not read it again.
func touchOld(path string, used time.Time) {
	if time.Since(used) > time.Minute {
		touch(path)
	}
}

// put stores what r holds.
func (c *Cache) put(r io.Reader) (bundle.Blob, error) {
	file, err := os.CreateTemp(filepath.Join(c.dir, "partial"), temporary)
	if err != nil {
		return bundle.Blob{}, c.describe(err)
	}
	defer os.Remove(file.Name()) // gone already, unless something failed
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, hash), r)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return bundle.Blob{}, c.describe(err)
	}
	b := bundle.Blob{SHA256: hex.EncodeToString(hash.Sum(nil)), Size: size}
	return b, c.describe(os.Rename(file.Name(), c.blob(b.SHA256)))
}

// describe says of a full disk which it is.
func (c *Cache) describe(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w; hint: make room where %s is (myadm bundle prune empties the cache), or give --cache-dir", err, c.dir)
	}
	return err
}

// Pruned is what Prune did.
type Pruned struct {
	Files   int   `json:"files"`   // that were deleted
	Deleted int64 `json:"deleted"` // bytes
	Kept    int64 `json:"kept"`    // bytes that are left
}

// Prune deletes what was not used for longest until the cache has no more than limit bytes. It refuses while another
// myadm uses the cache.
func (c *Cache) Prune(limit int64) (Pruned, error) {
	if err := unix.Flock(int(c.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errBusy
		}
		return Pruned{}, fmt.Errorf("prune cache %s: %w", c.dir, err)
	}
	defer unix.Flock(int(c.lock.Fd()), unix.LOCK_UN)
	files, err := c.files()
	if err != nil {
		return Pruned{}, fmt.Errorf("prune cache %s: %w", c.dir, err)
	}
	var p Pruned
	for _, f := range files {
		p.Kept += f.size
	}
	for _, f := range files {
		abandoned := strings.HasPrefix(filepath.Base(f.path), temporary)
		if !abandoned && p.Kept <= limit {
			continue
		}
		if err := os.Remove(f.path); err != nil {
			return p, fmt.Errorf("prune cache: %w", err)
		}
		p.Files++
		p.Deleted, p.Kept = p.Deleted+f.size, p.Kept-f.size
	}
	return p, nil
}

type cacheFile struct {
	path   string
	size   int64
	used   time.Time
	record bool
}

// files lists all files but the lock, in the order in which they go.
func (c *Cache) files() ([]cacheFile, error) {
	var all []cacheFile
	for _, sub := range []string{"blobs/sha256", "partial", "records"} {
		entries, err := os.ReadDir(filepath.Join(c.dir, sub))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			info, err := e.Info()
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue
			case err != nil:
				return nil, err
			case info.Mode().IsRegular():
				all = append(all, cacheFile{filepath.Join(c.dir, sub, e.Name()), info.Size(), info.ModTime(), sub == "records"})
			}
		}
	}
	slices.SortFunc(all, func(a, b cacheFile) int {
		switch {
		case a.record && !b.record:
			return 1
		case b.record && !a.record:
			return -1
		}
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.path, b.path))
	})
	return all, nil
}

// record is the file of what was learnt about a subject, an address or a checksum. Nothing in it is needed: it saves
// asking again.
func (c *Cache) record(subject string) string {
	sum := sha256.Sum256([]byte(subject))
	return filepath.Join(c.dir, "records", hex.EncodeToString(sum[:])+".json")
}

// recall reads a record into v; a missing or damaged one is not there.
func (c *Cache) recall(subject string, v any) bool {
	data, err := os.ReadFile(c.record(subject))
	if err != nil || json.Unmarshal(data, v) != nil {
		return false
	}
	touch(c.record(subject))
	return true
}

func (c *Cache) remember(subject string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Join(c.dir, "records"), temporary)
	if err != nil {
		return c.describe(err)
	}
	defer os.Remove(file.Name())
	_, err = io.Copy(file, bytes.NewReader(data))
	if err := errors.Join(err, file.Close()); err != nil {
		return c.describe(err)
	}
	return c.describe(os.Rename(file.Name(), c.record(subject)))
}

func (c *Cache) forget(subject string) { _ = os.Remove(c.record(subject)) }

// flock takes a lock. Nothing tells when it comes free except a call that cannot be interrupted, so it asks often.
func flock(ctx context.Context, file *os.File, how int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for another myadm: %w", ctx.Err())
		}
	}
}
