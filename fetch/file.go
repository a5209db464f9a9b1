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
	u, err := f.locate(first.File.URL)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", first, err)
	}
	sum, err := f.checksum(ctx, first)
	if err != nil {
		return nil, err
	}
	whole := func() (bundle.Blob, error) {
		return f.blob(ctx, download{
			request: request{item: first.String(), client: f.files, url: u},
			sum:     sum, size: -1, limit: maxFile,
			advance: func(n, total int64) { f.tell(Event{first.String(), n, total}) },
		})
	}
	got, err := f.members(ctx, sum, items, whole)
	var mismatch *mismatchError
	if errors.As(err, &mismatch) { // maybe it was the checksum that was wrong, and has been corrected since
		f.cache.forget(checksumSubject(u, first))
	}
	return got, f.describe(first.String(), u, err)
}

// published is the SHA-256 that is published for an item's file. A release does not change, so it is asked for once.
func (f *Fetcher) published(ctx context.Context, item release.Item) (string, error) {
	u, err := f.locate(item.File.URL)
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", item, err)
	}
	subject := checksumSubject(u, item)
	var known struct {
		SHA256 string `json:"sha256"`
	}
	if f.cache.recall(subject, &known) && sumPattern.MatchString(known.SHA256) {
		return known.SHA256, nil
	}
	at, err := f.locate(item.File.Checksum.URL)
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", item, err)
	}
	data, _, err := f.small(ctx, request{item: item.String(), client: f.files, url: at}, maxChecksum)
	if err != nil {
		return "", f.describe("the checksum of "+item.String(), at, err)
	}
	if known.SHA256, err = parseChecksum(data, item.File.Checksum); err != nil {
		return "", f.describe("the checksum of "+item.String(), at, err)
	}
	return known.SHA256, f.cache.remember(subject, known)
}

func checksumSubject(u *url.URL, item release.Item) string {
	return "checksum " + u.String() + " by " + item.File.Checksum.URL
}

// members finds the items in the cache, or takes them out of the file, which whole gets.
func (f *Fetcher) members(ctx context.Context, sum string, items []release.Item, whole func() (bundle.Blob, error)) ([]Fetched, error) {
	got := make([]Fetched, len(items))
	if items[0].Member == "" {
		b, err := whole()
		for i, item := range items {
			got[i] = Fetched{Item: item, Blobs: []bundle.Blob{b}}
		}
		return got, err
	}
	known := map[string]string{} // SHA-256 of members by name
	f.cache.recall("members of "+sum, &known)
	missing := false
	for i, item := range items {
		b, ok := f.cache.find(known[item.Member])
		got[i] = Fetched{Item: item, Blobs: []bundle.Blob{b}}
		missing = missing || !ok
	}
	if !missing {
		return got, nil
	}
	archive, err := whole()
	if err != nil {
		return nil, err
	}
	file, err := f.cache.Open(archive.SHA256)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var names []string
	for _, item := range items {
		names = append(names, item.Member)
	}
	members := map[string]bundle.Blob{}
	err = readMembers(file, names, maxFile, func(name string, r io.Reader) error {
		b, err := f.cache.put(interruptible{ctx, r})
		members[name] = b
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, item := range items {
		got[i].Blobs = []bundle.Blob{members[item.Member]}
		known[item.Member] = members[item.Member].SHA256
	}
	return got, f.cache.remember("members of "+sum, known)
}

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
