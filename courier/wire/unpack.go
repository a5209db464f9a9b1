package wire

import (
	"errors"
	"fmt"
	"io/fs"
)

// MaxSize is how long a blob of an unknown size may be, a file of an archive, and what of an archive is read, unpacked: 4 GiB.
const MaxSize = 4 << 30

// Unpack are files to take out of a blob when it is whole and its sum is right. Each has a size and a sum of its own. Those
// that are in place are left alone; when that is all of them, the blob is not fetched. When one of the others is not what
// it should be, none is put in place.
type Unpack struct {
	Format Format `json:"format"`
	Files  []File `json:"files"`

	// Keep keeps the packed blob at its path, for peers. Otherwise nothing is there afterwards.
	Keep bool `json:"keep,omitempty"`
}

// Format is how a blob is packed.
type Format string

// The formats.
const (
	TarGzip Format = "tar+gzip" // an archive, of which members are taken out
	Zstd    Format = "zstd"     // one file, with a window of 8 MiB at most
)

// File is a file in a blob, and where it belongs.
type File struct {
	// Member is the regular file in the archive, without "./". It only chooses: no name of an archive becomes a path. Of
	// several with the name, the first counts. In a file that is not an archive it is empty.
	Member string `json:"member,omitempty"`

	SHA256 string      `json:"sha256"`
	Size   int64       `json:"size"`           // bytes
	Path   string      `json:"path"`           // as Blob.Path
	Mode   fs.FileMode `json:"mode,omitempty"` // as Blob.Mode
}

func (u Unpack) check() error {
	switch u.Format {
	case TarGzip:
	case Zstd:
		if len(u.Files) > 1 {
			return fmt.Errorf("%s holds one file, not %d", u.Format, len(u.Files))
		}
	default:
		return fmt.Errorf("format %.40q is none of %s and %s", u.Format, TarGzip, Zstd)
	}
	if len(u.Files) == 0 {
		return errors.New("there is no file to take out")
	}
	seen := map[string]bool{}
	for _, f := range u.Files {
		switch {
		case (f.Member == "") != (u.Format == Zstd):
			return fmt.Errorf("a file of %s has member %.80q", u.Format, f.Member)
		case seen[f.Member]:
			return fmt.Errorf("member %.80q is there twice", f.Member)
		case f.Size < 0 || f.Size > MaxSize:
			return fmt.Errorf("file %.80q: size %d is not between 0 and %d", f.Member, f.Size, int64(MaxSize))
		}
		seen[f.Member] = true
		if err := checkFile(f.SHA256, f.Path, f.Mode); err != nil {
			return err
		}
	}
	return nil
}
