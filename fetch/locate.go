package fetch

import (
	"context"
	"fmt"
	"net/url"
	"sync"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/release"
)

// Located is what hosts need, and where all of it is. The cache has some of its blobs, maybe none but the manifests of
// images. Its methods may be used by many goroutines at once, for as long as the Fetcher is not closed.
type Located struct {
	// Bundle is open where the cache has its blobs, or will have them: one that is missing is an error of its methods that
	// is fs.ErrNotExist. The caller closes it.
	Bundle *bundle.Bundle

	f       *Fetcher
	parcels map[string]*parcel // by the SHA-256 of what is in them
}

// parcel is what comes from one place: an image, or a file and what is in it.
type parcel struct {
	items []Fetched
	image source // of an image, which is the only item

	file    *url.URL    // nil: it is an image
	whole   bundle.Blob // the file
	filling sync.Mutex  // so that an archive is unpacked once
}

// Locate finds out what Provide would get, without getting it: the same artifacts with the same blobs, and where they are.
//
// What it asks for is small: checksum files, the manifests and configurations of images, and the sizes of files. Nothing
// but the archive tells what is in an archive: that is fetched once, and what was in it is remembered for longer than the
// cache has it. Files of a server that tells no sizes are fetched too. Once everything is remembered nobody is asked for
// anything for a day, which is how long a tag is believed; what was pruned of manifests is asked for again.
func (f *Fetcher) Locate(ctx context.Context, version string, archs []string, roles []bundle.Role) (*Located, error) {
	items, err := itemsOf(version, archs, roles)
	if err != nil {
		return nil, err
	}
	got, from := make([]Fetched, len(items)), make([]*parcel, len(items))
	err = each(ctx, jobs(items), func(ctx context.Context, job []int) error {
		p, err := f.locate(ctx, pick(items, job))
		if err != nil {
			return err
		}
		for i, at := range job {
			got[at], from[at] = p.items[i], p
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l := &Located{f: f, parcels: map[string]*parcel{}}
	for i, item := range got {
		for _, b := range item.Blobs {
			if l.parcels[b.SHA256] == nil {
				l.parcels[b.SHA256] = from[i]
			}
		}
	}
	if l.Bundle, err = bundle.OpenPartial(f.cache.dir, indexOf(version, got)); err != nil {
		return nil, err
	}
	return l, nil
}

// locate finds the items of a job.
func (f *Fetcher) locate(ctx context.Context, items []release.Item) (*parcel, error) {
	if items[0].Kind != bundle.KindImage {
		return f.locateFile(ctx, items)
	}
	image, s, err := f.locateImage(ctx, items[0])
	return &parcel{items: []Fetched{image}, image: s}, err
}

func (f *Fetcher) locateFile(ctx context.Context, items []release.Item) (*parcel, error) {
	u, err := f.address(items[0].File.URL)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", items[0], err)
	}
	known, err := f.checksum(ctx, items[0])
	if err != nil {
		return nil, err
	}
	p := &parcel{file: u}
	if items[0].Member != "" {
		if p.items, err = f.locateMembers(ctx, known.SHA256, items); err != nil {
			return nil, err
		}
	}
	if p.whole, err = f.locateWhole(ctx, u, items); err != nil {
		return nil, err
	}
	if items[0].Member == "" {
		p.items = allOf(items, p.whole)
	}
	return p, nil
}

// locateMembers remembers what is in an archive, or looks.
func (f *Fetcher) locateMembers(ctx context.Context, archive string, items []release.Item) ([]Fetched, error) {
	if got, known := f.recallMembers(archive, items); known {
		return got, nil
	}
	return f.file(ctx, items)
}

// locateWhole is an items' file with its size, which is remembered, or that of the file in the cache, or what the server
// tells. A server that does not tell has to send the file.
func (f *Fetcher) locateWhole(ctx context.Context, u *url.URL, items []release.Item) (bundle.Blob, error) {
	first := items[0]
	known, err := f.published(ctx, first)
	if err != nil || known.Size > 0 {
		return known, err
	}
	cached, ok := f.cache.find(known.SHA256)
	known.Size = cached.Size
	if !ok {
		if known.Size, err = f.length(ctx, request{item: first.String(), client: f.files, url: u}); err != nil {
			return known, f.describe(first.String(), u, err)
		}
	}
	if known.Size > 0 {
		return known, f.cache.remember(fileSubject(u, first), known)
	}
	if _, err := f.file(ctx, items); err != nil {
		return known, err
	}
	return f.published(ctx, first) // which tells the size, now that the file was here
}

// Has tells whether the cache has a blob.
func (f *Fetcher) Has(b bundle.Blob) bool {
	got, ok := f.cache.find(b.SHA256)
	return ok && got == b
}

// Ensure makes the cache have blobs of the bundle after all, several at a time, as Get does. It ends with the first error,
// and keeps what was got.
func (l *Located) Ensure(ctx context.Context, blobs ...bundle.Blob) error {
	wanted := map[*parcel][]bundle.Blob{}
	var order []*parcel
	asked := map[string]bool{}
	for _, b := range blobs {
		p := l.parcels[b.SHA256]
		if p == nil {
			return fmt.Errorf("blob %s is none of those that were located", b.SHA256)
		}
		if asked[b.SHA256] || l.f.Has(b) {
			continue
		}
		asked[b.SHA256] = true
		if wanted[p] == nil {
			order = append(order, p)
		}
		wanted[p] = append(wanted[p], b)
	}
	return each(ctx, order, func(ctx context.Context, p *parcel) error {
		if p.file == nil {
			return l.f.imageBlobs(ctx, p.image, p.items[0], wanted[p])
		}
		return p.ensureFile(ctx, l.f)
	})
}

// ensureFile gets a file, or all that is in it. It may turn out to have another size than the server told before: what was
// told is wrong then, and what is known from now on is right.
func (p *parcel) ensureFile(ctx context.Context, f *Fetcher) error {
	p.filling.Lock()
	defer p.filling.Unlock()
	var items []release.Item
	for _, item := range p.items {
		items = append(items, item.Item)
	}
	got, err := f.file(ctx, items)
	if err != nil {
		return err
	}
	for i, item := range got {
		if is, was := item.Blobs[0], p.items[i].Blobs[0]; is != was {
			return f.describe(item.String(), p.file, fmt.Errorf("it has %d bytes and SHA-256 %s, and %d and %s were told; hint: try again, "+
				"the new ones count then", is.Size, is.SHA256, was.Size, was.SHA256))
		}
	}
	return nil
}
