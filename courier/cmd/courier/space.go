package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/myadm/myadm/courier/wire"
)

// demand is what a file system has to hold.
type demand struct {
	dir   string // a folder on it
	bytes int64
}

// enoughSpace tells before anything is downloaded whether the disks have the space for what is missing.
func enoughSpace(blobs []wire.Blob) error {
	var devices []uint64
	demands := map[uint64]*demand{}
	for _, b := range wanted(blobs) {
		dir, device, err := existing(filepath.Dir(b.Path))
		if err != nil {
			return local(err)
		}
		if demands[device] == nil {
			devices = append(devices, device)
			demands[device] = &demand{dir: dir}
		}
		d := demands[device]
		if more := missing(b); d.bytes > math.MaxInt64-more {
			d.bytes = math.MaxInt64
		} else {
			d.bytes += more
		}
	}
	for _, device := range devices {
		d := demands[device]
		free, err := freeBytes(d.dir)
		if err != nil {
			return local(err)
		}
		if d.bytes > free {
			return &fault{cause: wire.CauseSpace, err: fmt.Errorf(
				"%s: %d bytes are needed and %d are free; hint: make room there and run again", d.dir, d.bytes, free)}
		}
	}
	return nil
}

// wanted are the files that blobs become: the blobs themselves, and what is taken out of them. A packed blob is there for a
// while at least, unless its files are there already.
func wanted(blobs []wire.Blob) []wire.Blob {
	var all []wire.Blob
	for _, b := range blobs {
		if b.Unpack == nil {
			all = append(all, b)
			continue
		}
		files := asBlobs(b.Unpack)
		if slices.ContainsFunc(files, func(f wire.Blob) bool { return missing(f) > 0 }) {
			all = append(append(all, b), files...)
		}
	}
	return all
}

// missing is what a blob still takes: nothing when a file of its size is there, which has its content in general. A blob
// of an unknown size takes nothing that is known of.
func missing(b wire.Blob) int64 {
	if info, err := os.Lstat(b.Path); b.Size < 0 || err == nil && info.Mode().IsRegular() && info.Size() == b.Size {
		return 0
	}
	if info, err := os.Lstat(partialPath(b)); err == nil && info.Size() <= b.Size {
		return b.Size - info.Size()
	}
	return b.Size
}

// existing is the folder, or the nearest one above it that there is, and its device.
func existing(dir string) (string, uint64, error) {
	for {
		info, err := os.Stat(dir)
		if err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				return dir, s.Dev, nil
			}
			return dir, 0, nil
		}
		if gone(err) != nil || dir == "/" {
			return "", 0, err
		}
		dir = filepath.Dir(dir)
	}
}

// freeBytes is what users other than root may still write: a file system that is full to the last byte harms the host.
func freeBytes(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if free := float64(s.Bavail) * float64(s.Bsize); free < math.MaxInt64 {
		return int64(s.Bavail) * s.Bsize, nil
	}
	return math.MaxInt64, nil
}
