package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// partial is a blob under way. It is locked: whoever else wants the blob waits, and then finds it in the cache.
type partial struct {
	cache *Cache
	sum   string
	file  *os.File
	have  int64
}

// partial opens what there is of a blob. The caller looks for the whole blob again afterwards, since another one may have
// finished it.
func (c *Cache) partial(ctx context.Context, sum string) (*partial, error) {
	if !sumPattern.MatchString(sum) {
		return nil, fmt.Errorf("%q is not a SHA-256", sum)
	}
	file, err := os.OpenFile(filepath.Join(c.dir, "partial", sum), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, c.describe(err)
	}
	p := &partial{cache: c, sum: sum, file: file}
	if err := flock(ctx, file, unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.have = info.Size()
	return p, nil
}

// Close leaves what there is for the next one.
func (p *partial) Close() error { return p.file.Close() }

func (p *partial) validatorPath() string { return p.file.Name() + validatorSuffix }

// validator is the entity tag or date by which the server knows the file that this is the beginning of; empty: none.
func (p *partial) validator() string {
	data, err := os.ReadFile(p.validatorPath())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// restart empties the file and notes the validator of what comes.
func (p *partial) restart(validator string) error {
	p.have = 0
	err := p.file.Truncate(0)
	if validator == "" {
		if e := os.Remove(p.validatorPath()); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return err
	}
	return errors.Join(err, p.cache.describe(os.WriteFile(p.validatorPath(), []byte(validator), 0o600)))
}

// Write appends.
func (p *partial) Write(data []byte) (int, error) {
	n, err := p.file.WriteAt(data, p.have)
	p.have += int64(n)
	return n, p.cache.describe(err)
}

// mismatchError is a file that has another checksum than was expected.
type mismatchError struct{ got, want string }

func (e *mismatchError) Error() string { return "its SHA-256 is " + e.got + ", not " + e.want }

// finish verifies the file and gives it its name in the cache. A file with another checksum is emptied.
func (p *partial) finish() error {
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(p.file, 0, p.have)); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != p.sum {
		return errors.Join(&mismatchError{got, p.sum}, p.restart(""))
	}
	if err := p.file.Sync(); err != nil { // or a power cut would leave the name without the content
		return p.cache.describe(err)
	}
	if err := os.Rename(p.file.Name(), p.cache.blob(p.sum)); err != nil {
		return err
	}
	if err := os.Remove(p.validatorPath()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
