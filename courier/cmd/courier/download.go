package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/myadm/myadm/courier/wire"
)

// maxCuts is how often one source may break off, each time after it gave something, before the next one is asked.
const maxCuts = 20

// passPause is how long after a pass over all sources the next one begins, times the number of passes so far.
const passPause = 500 * time.Millisecond

// download gets one blob.
type download struct {
	blob     wire.Blob
	clients  *clients
	passes   int
	stall    time.Duration
	onDisk   atomic.Int64
	received atomic.Int64
}

// run returns a wire.Fetched or a wire.Failed. Whoever ended ctx has to say so: what this returns then does not matter.
func (d *download) run(ctx context.Context) wire.Event {
	source, attempts, err := d.get(ctx)
	if err == nil {
		return wire.Fetched{
			SHA256: d.blob.SHA256, Path: d.blob.Path, Source: source, Received: d.received.Load(), Kept: kept(d.blob),
		}
	}
	failed := wire.Failed{
		SHA256: d.blob.SHA256, Path: d.blob.Path, Cause: wire.CauseHost, Received: d.received.Load(), Attempts: attempts,
	}
	var f *fault
	if errors.As(err, &f) {
		failed.Cause = f.cause
	}
	if len(attempts) == 0 {
		failed.Attempts = []wire.Attempt{{Error: err.Error()}}
	}
	return failed
}

// get returns which source gave the blob, or what was tried and the last error.
func (d *download) get(ctx context.Context) (source string, attempts []wire.Attempt, err error) {
	if there, err := d.done(ctx); there || err != nil {
		return "", nil, err
	}
	part, err := openPartial(ctx, d.blob)
	if err != nil {
		return "", nil, err
	}
	defer part.close()
	there, err := d.done(ctx) // the program that had the lock may have got it
	if !there && err == nil {
		there, err = unpackPlaced(ctx, d.blob)
	}
	if there {
		part.discard()
	}
	if there || err != nil {
		return "", nil, err
	}
	d.onDisk.Store(part.size)
	if part.whole() {
		return "", nil, d.finish(ctx, part)
	}
	if part.size == d.blob.Size {
		if err := part.reset(); err != nil {
			return "", nil, err
		}
	}
	if len(d.blob.Sources) == 0 {
		return "", nil, local(fmt.Errorf("%s is not there to be unpacked", d.blob.Path))
	}
	useless := make([]bool, len(d.blob.Sources)) // those that will not have it a second later either
	for pass := 0; pass < d.passes && slices.Contains(useless, false); pass++ {
		if pass > 0 && !wait(ctx, time.Duration(pass)*passPause) {
			break
		}
		for i, s := range d.blob.Sources {
			if useless[i] {
				continue
			}
			f := d.from(ctx, s, part)
			if f == nil {
				return wire.CleanURL(s.URL), nil, d.finish(ctx, part)
			}
			if f.cause == wire.CauseSpace || f.cause == wire.CauseHost || ctx.Err() != nil {
				return "", nil, f
			}
			attempts = append(attempts, wire.Attempt{URL: wire.CleanURL(s.URL), Error: f.Error()})
			useless[i], err = !f.passing, f
		}
	}
	return "", attempts, err
}

// done tells whether there is nothing to do: the blob is in place, or all that is to be taken out of it.
func (d *download) done(ctx context.Context) (bool, error) {
	if d.blob.Unpack != nil {
		return unpacked(ctx, d.blob)
	}
	return inPlace(ctx, d.blob)
}

// finish puts a whole blob in place, or what is to be taken out of it.
func (d *download) finish(ctx context.Context, part *partial) error {
	if u := d.blob.Unpack; u != nil {
		if err := unpack(ctx, u, part.file); err != nil {
			return err
		}
		if !u.Keep {
			part.discard()
			return nil
		}
	}
	return part.place()
}

// from fills the file from one source. A source that breaks off is asked for the rest at once. Bytes that came in several
// parts, perhaps of several sources, and are not the blob are fetched once more as a whole.
func (d *download) from(ctx context.Context, s wire.Source, part *partial) *fault {
	mixed := part.size > 0
	for cuts := 0; ; {
		before := part.size
		if f := d.ask(ctx, s, part); f != nil {
			if cuts++; f.passing && part.size > before && cuts < maxCuts && ctx.Err() == nil {
				continue
			}
			return f
		}
		if part.whole() {
			return nil
		}
		if err := part.reset(); err != nil {
			return local(err)
		}
		if !mixed {
			return content("its content has another SHA-256 than %s", d.blob.SHA256)
		}
		mixed = false
	}
}

// ask makes one request, for what is missing, and adds what comes to the file. Afterwards the file has the blob's size,
// or there is a fault.
func (d *download) ask(ctx context.Context, s wire.Source, part *partial) *fault {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := d.clients.do(ctx, http.MethodGet, s, rest(s, part))
	if err != nil {
		return unreached(err, s.URL)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusPartialContent && part.size > 0:
		if f := continues(resp.Header.Get("Content-Range"), part.size, d.blob.Size); f != nil {
			return f
		}
	case resp.StatusCode == http.StatusOK:
		if part.size > 0 { // it knows no ranges, or has another version
			if err := part.reset(); err != nil {
				return local(err)
			}
		}
		if err := part.setFrom(s.URL, validator(resp.Header)); err != nil {
			return local(err)
		}
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && part.size > 0: // or knows none and says it like this
		if err := part.reset(); err != nil {
			return local(err)
		}
		return d.ask(ctx, s, part)
	default:
		return answered(resp, s)
	}
	d.onDisk.Store(part.size)
	if have := part.size + resp.ContentLength; resp.ContentLength >= 0 {
		switch {
		case d.blob.Size >= 0 && have != d.blob.Size:
			return content("it has %d bytes, not %d", have, d.blob.Size)
		case have > limit(d.blob):
			return content("it has %d bytes, more than %d", have, limit(d.blob))
		}
	}
	return d.receive(ctx, cancel, resp.Body, part)
}

// receive adds the body to the file.
func (d *download) receive(ctx context.Context, cancel context.CancelCauseFunc, body io.Reader, part *partial) *fault {
	stalled := fmt.Errorf("it sent nothing for %s", d.stall)
	clock := time.AfterFunc(d.stall, func() { cancel(stalled) })
	defer clock.Stop()
	buffer := make([]byte, 256<<10)
	for {
		n, err := body.Read(buffer)
		clock.Reset(d.stall)
		d.received.Add(int64(n))
		if part.size+int64(n) > limit(d.blob) {
			if err := part.reset(); err != nil {
				return local(err)
			}
			return content("it sends more than %d bytes", limit(d.blob))
		}
		if _, err := part.Write(buffer[:n]); err != nil {
			return local(err)
		}
		d.onDisk.Store(part.size)
		switch {
		case errors.Is(err, io.EOF) && part.size < d.blob.Size:
			return content("it ended after %d of %d bytes", part.size, d.blob.Size)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return &fault{cause: wire.CauseSource, err: context.Cause(ctx), passing: true}
		case err != nil:
			return &fault{
				cause: wire.CauseSource, passing: true,
				err: fmt.Errorf("it broke off after %d%s bytes: %w", part.size, ofSize(d.blob), err),
			}
		}
	}
}

// rest is what asks for the part that is missing. Bytes of another source are gone on with as well: the sum tells in the
// end whether that was right.
func rest(s wire.Source, part *partial) http.Header {
	h := http.Header{}
	if part.size > 0 {
		h.Set("Range", fmt.Sprintf("bytes=%d-", part.size))
		if v := part.from(s.URL); v != "" {
			h.Set("If-Range", v)
		}
	}
	return h
}

// validator names a version of the content: RFC 9110, 13.1.5, wants it strong.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return h.Get("Last-Modified")
}

// continues checks the Content-Range of an answer, "bytes FIRST-LAST/TOTAL". A size below 0 is not known.
func continues(header string, first, size int64) *fault {
	var from, to int64
	var total string
	if _, err := fmt.Sscanf(header, "bytes %d-%d/%s", &from, &to, &total); err != nil || from != first {
		return content("asked for the bytes from %d, it answers with Content-Range %.80q", first, header)
	}
	if n, err := strconv.ParseInt(total, 10, 64); total != "*" && size >= 0 && (err != nil || n != size) {
		return content("it has %.20s bytes, not %d", total, size)
	}
	return nil
}

// limit is how long the blob may be.
func limit(b wire.Blob) int64 {
	if b.Size < 0 {
		return wire.MaxSize
	}
	return b.Size
}

// ofSize is " of SIZE" where that is known.
func ofSize(b wire.Blob) string {
	if b.Size < 0 {
		return ""
	}
	return fmt.Sprintf(" of %d", b.Size)
}

// wait tells whether the time has passed and ctx has not ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
