package main

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/myadm/myadm/courier/wire"
)

// zstdWindow is how far back a file of zstd may refer, which is held in memory: the 8 MiB that RFC 8878, 3.1.1.1.2, has
// every decoder support.
const zstdWindow = 8 << 20

// asBlobs are the files in a blob as if they were fetched by themselves.
func asBlobs(u *wire.Unpack) []wire.Blob {
	var files []wire.Blob
	for _, f := range u.Files {
		files = append(files, wire.Blob{SHA256: f.SHA256, Size: f.Size, Path: f.Path, Mode: f.Mode})
	}
	return files
}

// unpacked tells whether all files of a blob are in place, and gives them their modes. The blob is removed then, unless
// it is to be kept: a program that unpacked it may have been killed before it could.
func unpacked(ctx context.Context, b wire.Blob) (bool, error) {
	for _, f := range asBlobs(b.Unpack) {
		if there, err := inPlace(ctx, f); !there || err != nil {
			return false, err
		}
	}
	if b.Unpack.Keep {
		return true, nil
	}
	if left, err := inPlace(ctx, b); !left || err != nil {
		return err == nil, err
	}
	return true, remove(b.Path)
}

// unpackPlaced unpacks a blob that is at its path already, and tells whether it was.
func unpackPlaced(ctx context.Context, b wire.Blob) (bool, error) {
	if b.Unpack == nil {
		return false, nil
	}
	if there, err := inPlace(ctx, b); !there || err != nil {
		return false, err
	}
	file, err := os.Open(b.Path)
	if err != nil {
		return false, local(err)
	}
	defer file.Close()
	if err := unpack(ctx, b.Unpack, file); err != nil {
		return false, err
	}
	if b.Unpack.Keep {
		return true, nil
	}
	return true, remove(b.Path)
}

func remove(path string) error {
	if err := gone(os.Remove(path)); err != nil {
		return local(err)
	}
	return nil
}

// kept tells whether a blob that was unpacked is at its path, as it was wanted.
func kept(b wire.Blob) bool {
	if b.Unpack == nil || !b.Unpack.Keep {
		return false
	}
	info, err := os.Lstat(b.Path)
	return err == nil && info.Mode().IsRegular() && (b.Size < 0 || info.Size() == b.Size)
}

// unpack puts the files that are missing in place, of a packed blob that is whole. Each is written beside its target; not
// before all are there and right is the first one moved.
func unpack(ctx context.Context, u *wire.Unpack, packed io.ReadSeeker) (err error) {
	parts, err := openMissing(ctx, u)
	defer func() {
		for _, p := range parts {
			if err != nil {
				p.discard()
			}
			p.close()
		}
	}()
	if err != nil {
		return err
	}
	if _, err := packed.Seek(0, io.SeekStart); err != nil {
		return local(err)
	}
	if u.Format == wire.Zstd {
		err = takeZstd(reader{ctx, packed}, parts[""])
	} else {
		err = takeMembers(reader{ctx, packed}, parts)
	}
	if err != nil {
		return packedFault(err)
	}
	members := slices.Sorted(maps.Keys(parts))
	for _, member := range members {
		if p := parts[member]; !p.whole() {
			return content("unpack %s: its content has another SHA-256 than %s", cmp.Or(member, p.blob.Path), p.blob.SHA256)
		}
	}
	for _, member := range members {
		if err := parts[member].place(); err != nil {
			return err
		}
	}
	return nil
}

// openMissing opens, empty, what the files that are not in place grow in, by member. On an error it returns those it has.
func openMissing(ctx context.Context, u *wire.Unpack) (map[string]*partial, error) {
	files := slices.Clone(u.Files)
	slices.SortFunc(files, func(a, b wire.File) int { return cmp.Compare(a.Path, b.Path) }) // one order of locks
	parts := map[string]*partial{}
	for _, f := range files {
		b := wire.Blob{SHA256: f.SHA256, Size: f.Size, Path: f.Path, Mode: f.Mode}
		if there, err := inPlace(ctx, b); there || err != nil {
			if err != nil {
				return parts, err
			}
			continue
		}
		p, err := openPartial(ctx, b)
		if err != nil {
			return parts, err
		}
		parts[f.Member] = p
		if err := p.reset(); err != nil {
			return parts, err
		}
	}
	return parts, nil
}

// takeZstd unpacks one file. A program that runs at the same time may have placed it: then there is none.
func takeZstd(r io.Reader, p *partial) error {
	if p == nil {
		return nil
	}
	decoder, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdWindow))
	if err != nil {
		return err
	}
	defer decoder.Close()
	_, err = io.Copy(p, io.LimitReader(decoder, p.blob.Size))
	if err != nil {
		return err
	}
	switch n, err := io.ReadFull(decoder, make([]byte, 1)); {
	case n > 0:
		return content("unpack: there are more than %d bytes", p.blob.Size)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// takeMembers unpacks the members that there are parts for. It reads no further than the last of them.
func takeMembers(r io.Reader, parts map[string]*partial) error {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	bounded := &io.LimitedReader{R: unzipped, N: wire.MaxSize}
	archive := tar.NewReader(bounded)
	taken := map[string]bool{}
	for len(taken) < len(parts) {
		header, err := archive.Next()
		switch {
		case err != nil && bounded.N <= 0:
			return content("unpack: the archive has more than %d bytes", int64(wire.MaxSize))
		case errors.Is(err, io.EOF):
			return content("unpack: the archive has no %s", first(parts, taken))
		case err != nil:
			return err
		}
		name := strings.TrimPrefix(header.Name, "./")
		p := parts[name]
		switch {
		case p == nil || taken[name]:
			continue
		case header.Typeflag != tar.TypeReg:
			return content("unpack: %s is not a regular file", name)
		case header.Size != p.blob.Size:
			return content("unpack: %s has %d bytes, not %d", name, header.Size, p.blob.Size)
		}
		taken[name] = true
		if _, err := io.Copy(p, archive); err != nil {
			return err
		}
	}
	return nil
}

// first is the first member by name that was not taken.
func first(parts map[string]*partial, taken map[string]bool) string {
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if !taken[name] {
			return name
		}
	}
	return ""
}

// packedFault tells what is not readable as packed from what the host's disk did.
func packedFault(err error) error {
	var known *fault
	var disk *fs.PathError
	if errors.As(err, &known) || errors.As(err, &disk) {
		return local(err)
	}
	return content("unpack: %w", err)
}
