package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/myadm/myadm/bundle"
)

// Most bytes of what is not known by size: far more than any has, and far less than would hurt.
const (
	maxFile     = 1 << 30
	maxChecksum = 64 << 10
	maxManifest = 4 << 20 // what registries must take, says the distribution specification
	maxLabel    = 1 << 10
)

// request is a thing to get.
type request struct {
	item   string // for errors and progress
	method string // empty: GET
	client *http.Client
	url    *url.URL
	header http.Header
}

// download is a request for a blob that is known by checksum.
type download struct {
	request
	sum     string
	size    int64 // -1: not known
	limit   int64
	advance func(n int64, total int64) // told how many bytes there are of the blob, and of how many (-1: not known)
}

// blob makes the cache have a blob. With an error it keeps what it got, unless that was wrong.
func (f *Fetcher) blob(ctx context.Context, d download) (bundle.Blob, error) {
	if b, ok := f.cached(d); ok {
		return b, nil
	}
	p, err := f.cache.partial(ctx, d.sum)
	if err != nil {
		return bundle.Blob{}, err
	}
	defer p.Close()
	for again := false; ; again = true {
		if b, ok := f.cached(d); ok { // another one was faster, or this one is done
			return b, nil
		}
		began := p.have // what an earlier run left, maybe of another file at this address
		resumed := false
		err := f.retry(ctx, func(ctx context.Context) (bool, error) {
			before := p.have
			went, err := f.fill(ctx, p, d)
			resumed = resumed || went
			return p.have > before, err
		})
		if err == nil {
			err = p.finish()
		}
		var mismatch *mismatchError
		if errors.As(err, &mismatch) && !again && (resumed || began > 0) {
			continue // pieces that do not fit together; the whole from one hand may be right
		}
		if err != nil {
			return bundle.Blob{}, err
		}
	}
}

// cached finds the blob in the cache. One that a disk has cut off since is fetched again.
func (f *Fetcher) cached(d download) (bundle.Blob, bool) {
	b, ok := f.cache.find(d.sum)
	return b, ok && (d.size < 0 || b.Size == d.size)
}

// fill gets what is missing of a blob, once. It reports whether it went on with what was there.
func (f *Fetcher) fill(ctx context.Context, p *partial, d download) (resumed bool, err error) {
	if d.size >= 0 && p.have > d.size {
		if err := p.restart(""); err != nil {
			return false, err
		}
	}
	if d.size >= 0 && p.have == d.size {
		return p.have > 0, nil
	}
	response, stop, err := f.do(ctx, d.request, ranged(p, d.size)) //nolint:bodyclose // stop closes it
	if err != nil {
		return false, err
	}
	defer stop()
	switch response.StatusCode {
	case http.StatusPartialContent:
		if from, _ := contentRange(response); from != p.have {
			return false, errors.Join(errMisfit, p.restart(""))
		}
		resumed = true
	case http.StatusRequestedRangeNotSatisfiable:
		if _, total := contentRange(response); total == p.have && p.have > 0 {
			return true, nil // it was whole, and only its name was missing
		}
		return false, errors.Join(errMisfit, p.restart(""))
	case http.StatusOK:
		if err := p.restart(validatorOf(response)); err != nil {
			return false, err
		}
	default:
		return false, newStatusError(response)
	}
	total := d.size
	if response.ContentLength >= 0 && total < 0 {
		total = p.have + response.ContentLength
	}
	if total > d.limit {
		return resumed, tooLong(d.limit)
	}
	if total < 0 {
		total = d.limit
	}
	known := d.size
	if known < 0 && response.ContentLength >= 0 {
		known = total
	}
	body := io.LimitReader(response.Body, total-p.have+1)
	buffer := make([]byte, 256<<10)
	for {
		n, readErr := body.Read(buffer)
		if n > 0 {
			if p.have+int64(n) > total {
				return resumed, errors.Join(tooLong(total), p.restart(""))
			}
			if _, err := p.Write(buffer[:n]); err != nil {
				return resumed, err
			}
			d.advance(p.have, known)
		}
		switch {
		case readErr == io.EOF && d.size >= 0 && p.have < d.size:
			return resumed, &transferError{io.ErrUnexpectedEOF}
		case readErr == io.EOF:
			return resumed, nil
		case readErr != nil:
			return resumed, &transferError{readErr}
		}
	}
}

func tooLong(limit int64) error {
	return fmt.Errorf("it has more than %d bytes, which is all that it may have", limit)
}

// errMisfit is an answer to another question than the one for the rest of a file: the whole of it is asked for next.
var errMisfit = errors.New("the server does not send the rest of a file")

// ranged are the headers that ask for what is missing, if the file is still the same. The end is named where it is known:
// some registries understand no other form.
func ranged(p *partial, size int64) http.Header {
	header := http.Header{}
	if p.have == 0 {
		return header
	}
	last := ""
	if size >= 0 {
		last = strconv.FormatInt(size-1, 10)
	}
	header.Set("Range", fmt.Sprintf("bytes=%d-%s", p.have, last))
	if v := p.validator(); v != "" {
		header.Set("If-Range", v)
	}
	return header
}

// contentRange reads `bytes FROM-TO/TOTAL` or `bytes */TOTAL`; what is not there is -1.
func contentRange(r *http.Response) (from, total int64) {
	from, total = -1, -1
	text, ok := strings.CutPrefix(r.Header.Get("Content-Range"), "bytes ")
	if !ok {
		return from, total
	}
	span, size, _ := strings.Cut(text, "/")
	if n, err := strconv.ParseInt(size, 10, 64); err == nil {
		total = n
	}
	first, _, _ := strings.Cut(span, "-")
	if n, err := strconv.ParseInt(first, 10, 64); err == nil {
		from = n
	}
	return from, total
}

// validatorOf is what an answer can be recognised by (RFC 9110, 13.1.5): a strong entity tag, or else the date.
func validatorOf(r *http.Response) string {
	if tag := r.Header.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return r.Header.Get("Last-Modified")
}

// small gets a short thing whole. The answer's header comes with it.
func (f *Fetcher) small(ctx context.Context, r request, limit int64) (data []byte, header http.Header, err error) {
	err = f.retry(ctx, func(ctx context.Context) (bool, error) {
		response, stop, err := f.do(ctx, r, nil) //nolint:bodyclose // stop closes it
		if err != nil {
			return false, err
		}
		defer stop()
		if response.StatusCode != http.StatusOK {
			return false, newStatusError(response)
		}
		header = response.Header
		data, err = io.ReadAll(io.LimitReader(response.Body, limit+1))
		if err != nil {
			return false, &transferError{err}
		}
		if int64(len(data)) > limit {
			return false, tooLong(limit)
		}
		return true, nil
	})
	return data, header, err
}

// length asks for the size of a file; 0: the server does not tell.
func (f *Fetcher) length(ctx context.Context, r request) (size int64, err error) {
	r.method = http.MethodHead
	err = f.retry(ctx, func(ctx context.Context) (bool, error) {
		response, stop, err := f.do(ctx, r, nil) //nolint:bodyclose // stop closes it
		if err != nil {
			return false, err
		}
		defer stop()
		if response.StatusCode != http.StatusOK {
			return false, newStatusError(response)
		}
		if size = response.ContentLength; size < 0 || size > maxFile {
			size = 0
		}
		return true, nil
	})
	if statusOf(err) != 0 { // some know no HEAD; whether there is no file either, GET tells
		return 0, nil
	}
	return size, err
}

// do sends a request. A transfer that stalls is broken off. The caller calls stop when it has read the body.
func (f *Fetcher) do(ctx context.Context, r request, more http.Header) (response *http.Response, stop func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(f.stall, func() { cancel(errStalled) })
	end := func() {
		timer.Stop()
		cancel(nil)
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(r.method, http.MethodGet), r.url.String(), nil)
	if err != nil {
		end()
		return nil, nil, err
	}
	for _, header := range []http.Header{r.header, more} {
		for name, values := range header {
			req.Header[name] = values
		}
	}
	req.Header.Set("User-Agent", "myadm")
	response, err = r.client.Do(req)
	if err != nil {
		end()
		return nil, nil, &transferError{cause(ctx, err)}
	}
	response.Body = &watched{ReadCloser: response.Body, ctx: ctx, timer: timer, stall: f.stall}
	return response, func() {
		response.Body.Close()
		end()
	}, nil
}

// watched is a body whose timer starts anew with every byte.
type watched struct {
	io.ReadCloser
	ctx   context.Context
	timer *time.Timer
	stall time.Duration
}

func (w *watched) Read(data []byte) (int, error) {
	n, err := w.ReadCloser.Read(data)
	if n > 0 {
		w.timer.Reset(w.stall)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = cause(w.ctx, err)
	}
	return n, err
}

// cause is why a request was broken off, where that was this package's doing.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); errors.Is(why, errStalled) {
		return why
	}
	return err
}
