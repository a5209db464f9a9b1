package fetch

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// file gets a file, and the members of it that items are.
func (f *Fetcher) file(ctx context.Context, items []release.Item) ([]Fetched, error) {
	first := items[0]
	u, err := f.address(first.File.URL)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", first, err)
	}
	known, err := f.checksum(ctx, first)
	if err != nil {
		return nil, err
	}
	subject := fileSubject(u, first)
	whole := func() (bundle.Blob, error) {
		b, err := f.blob(ctx, download{
			request: request{item: first.String(), client: f.files, url: u},
			sum:     known.SHA256, size: -1, limit: maxFile,
			advance: func(n, total int64) { f.tell(Event{first.String(), n, total}) },
		})
		if err == nil && b != known {
			err = f.cache.remember(subject, b)
		}
		return b, err
	}
	got, err := f.members(ctx, known.SHA256, items, whole)
	var mismatch *mismatchError
	if errors.As(err, &mismatch) { // maybe it was the checksum that was wrong, and has been corrected since
		f.cache.forget(subject)
	}
	return got, f.describe(first.String(), u, err)
}

// published is what is known of an item's file: the SHA-256 that is published for it, and its size, or 0. A release does
// not change, so it is asked for once.
func (f *Fetcher) published(ctx context.Context, item release.Item) (bundle.Blob, error) {
	u, err := f.address(item.File.URL)
	if err != nil {
		return bundle.Blob{}, fmt.Errorf("fetch %s: %w", item, err)
	}
	subject := fileSubject(u, item)
	var known bundle.Blob
	if f.cache.recall(subject, &known) && sumPattern.MatchString(known.SHA256) {
		return known, nil
	}
	at, err := f.address(item.File.Checksum.URL)
	if err != nil {
		return bundle.Blob{}, fmt.Errorf("fetch %s: %w", item, err)
	}
	data, _, err := f.small(ctx, request{item: item.String(), client: f.files, url: at}, maxChecksum)
	if err != nil {
		return bundle.Blob{}, f.describe("the checksum of "+item.String(), at, err)
	}
	sum, err := parseChecksum(data, item.File.Checksum)
	if err != nil {
		return bundle.Blob{}, f.describe("the checksum of "+item.String(), at, err)
	}
	known = bundle.Blob{SHA256: sum}
	return known, f.cache.remember(subject, known)
}

// fileSubject is what the cache's record of a file is about.
func fileSubject(u *url.URL, item release.Item) string {
	return "checksum " + u.String() + " by " + item.File.Checksum.URL
}

// members finds the items in the cache, or takes them out of the file, which whole gets.
func (f *Fetcher) members(ctx context.Context, sum string, items []release.Item, whole func() (bundle.Blob, error)) ([]Fetched, error) {
	if items[0].Member == "" {
		b, err := whole()
		return allOf(items, b), err
	}
	got, known := f.recallMembers(sum, items)
	for _, g := range got {
		b, ok := f.cache.find(g.Blobs[0].SHA256)
		known = known && ok && b == g.Blobs[0]
	}
	if known {
		return got, nil
	}
	archive, err := whole()
	if err != nil {
		return nil, err
	}
	return f.unpack(ctx, archive, items)
}

// allOf is a file that the items are; there is one item, but for a table that names a file twice.
func allOf(items []release.Item, b bundle.Blob) []Fetched {
	got := make([]Fetched, len(items))
	for i, item := range items {
		got[i] = Fetched{Item: item, Blobs: []bundle.Blob{b}}
	}
	return got
}

// unpack takes items out of an archive of the cache and remembers what they are, for when the cache has neither any more.
func (f *Fetcher) unpack(ctx context.Context, archive bundle.Blob, items []release.Item) ([]Fetched, error) {
	file, err := f.cache.Open(archive.SHA256)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var names []string
	for _, item := range items {
		names = append(names, item.Member)
	}
	known := map[string]bundle.Blob{}
	if !f.cache.recall(membersSubject(archive.SHA256), &known) {
		clear(known)
	}
	err = readMembers(file, names, maxFile, func(name string, r io.Reader) error {
		b, err := f.cache.put(interruptible{ctx, r})
		known[name] = b
		return err
	})
	if err != nil {
		return nil, err
	}
	got := make([]Fetched, len(items))
	for i, item := range items {
		got[i] = Fetched{Item: item, Blobs: []bundle.Blob{known[item.Member]}}
	}
	return got, f.cache.remember(membersSubject(archive.SHA256), known)
}

// recallMembers are the items as they were when the archive with a checksum was last unpacked, if all of them were among it.
func (f *Fetcher) recallMembers(archive string, items []release.Item) ([]Fetched, bool) {
	known := map[string]bundle.Blob{}
	if !f.cache.recall(membersSubject(archive), &known) {
		return nil, false
	}
	got := make([]Fetched, len(items))
	for i, item := range items {
		b := known[item.Member]
		if !sumPattern.MatchString(b.SHA256) || b.Size < 0 {
			return nil, false
		}
		got[i] = Fetched{Item: item, Blobs: []bundle.Blob{b}}
	}
	return got, true
}

// membersSubject is what the cache's record of an archive's members is about.
func membersSubject(archive string) string { return "members of " + archive }

// interruptible is a reader that ends with a context.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (i interruptible) Read(data []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.Reader.Read(data)
}

// readMembers reads a gzipped tar file and hands the members of the given names to store. Names in the file only choose:
// none of them becomes a path. All members must be there, once, as regular files, and the whole may unpack to no more
// than limit bytes.
func readMembers(r io.Reader, names []string, limit int64, store func(name string, r io.Reader) error) error {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	bounded := &io.LimitedReader{R: unzipped, N: limit}
	archive := tar.NewReader(bounded)
	found := map[string]bool{}
	for {
		header, err := archive.Next()
		if err == io.EOF && bounded.N > 0 {
			break
		}
		if bounded.N <= 0 {
			return fmt.Errorf("unpack: %w", tooLong(limit))
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		name := strings.TrimPrefix(header.Name, "./")
		switch {
		case !slices.Contains(names, name):
			continue
		case header.Typeflag != tar.TypeReg:
			return fmt.Errorf("unpack: %s is not a regular file", name)
		case found[name]:
			return fmt.Errorf("unpack: %s is there twice", name)
		}
		found[name] = true
		if err := store(name, archive); err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
	for _, name := range names {
		if !found[name] {
			return fmt.Errorf("unpack: the archive has no %s", name)
		}
	}
	return nil
}

// tell hands an event on, one at a time.
func (f *Fetcher) tell(e Event) {
	f.events.Lock()
	defer f.events.Unlock()
	f.progress(e)
}
