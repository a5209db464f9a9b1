package mirror

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Fault is something that is wrong with some of the paths. In JSON, of the admin endpoint, names are as below.
type Fault struct {
	// Path is a glob of the URL's path, with its slash in front: * and ? stop at slashes, ** does not. Whoever wants a
	// file wherever it lies says **/kubelet.
	Path string `json:"path"`
	// Client is a glob of client addresses, without a port; empty is everybody.
	Client string `json:"client,omitempty"`
	Kind   Kind   `json:"kind"`
	// After is how many bytes of an answer still come, for truncated, stall and die.
	After int64 `json:"after,omitempty"`
	// Times is for how many requests the fault lasts; 0 is until it is cleared.
	Times int `json:"times,omitempty"`
}

// Kind is what is wrong.
type Kind string

// The kinds of faults.
const (
	WrongBytes   Kind = "wrong-bytes"   // one bit in the middle is another; size and entity tag are as always
	Truncated    Kind = "truncated"     // the file ends after so many bytes, as if it had no more
	RedirectLoop Kind = "redirect-loop" // two URLs that point to each other
	NotFound     Kind = "not-found"     // 404
	Unavailable  Kind = "unavailable"   // 503
	Stall        Kind = "stall"         // nothing comes after so many bytes, until the client has gone
	Die          Kind = "die"           // the connection is cut after so many bytes
	OtherDigest  Kind = "other-digest"  // a manifest is that of another image, one that exists when it is asked for by tag
)

var kinds = []Kind{WrongBytes, Truncated, RedirectLoop, NotFound, Unavailable, Stall, Die, OtherDigest}

// Kinds are all kinds of faults.
func Kinds() []Kind { return slices.Clone(kinds) }

func (f Fault) check() error {
	var findings []error
	if !strings.HasPrefix(f.Path, "/") && !strings.HasPrefix(f.Path, "*") {
		findings = append(findings, fmt.Errorf("fault: path %q; hint: it begins with / or **", f.Path))
	}
	if !slices.Contains(kinds, f.Kind) {
		findings = append(findings, fmt.Errorf("fault: no kind %q; hint: one of %v", f.Kind, kinds))
	}
	if f.After < 0 || f.Times < 0 {
		findings = append(findings, fmt.Errorf("fault: after %d, times %d; neither is negative", f.After, f.Times))
	}
	return errors.Join(findings...)
}

// faults are those that are switched on.
type faults struct {
	mu  sync.Mutex
	all []*rule
}

type rule struct {
	Fault
	path, client *regexp.Regexp
}

func (f *faults) add(fault Fault) error {
	if err := fault.check(); err != nil {
		return err
	}
	if fault.Client == "" {
		fault.Client = "**"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, &rule{fault, glob(fault.Path), glob(fault.Client)})
	return nil
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = nil
}

// list gives the faults that are on, each with the Times that are left.
func (f *faults) list() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]Fault, 0, len(f.all))
	for _, r := range f.all {
		list = append(list, r.Fault)
	}
	return list
}

// match returns the first fault that a request meets, or nil, and counts it.
func (f *faults) match(path, client string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.all {
		if !r.path.MatchString(path) || !r.client.MatchString(client) {
			continue
		}
		met := r.Fault
		if r.Times == 1 {
			f.all = slices.Delete(f.all, i, i+1)
		} else if r.Times > 1 {
			r.Times--
		}
		return &met
	}
	return nil
}

// glob matches whole strings.
func glob(pattern string) *regexp.Regexp {
	var out strings.Builder
	for rest := pattern; rest != ""; {
		_, n := utf8.DecodeRuneInString(rest)
		switch {
		case strings.HasPrefix(rest, "**"):
			out.WriteString(".*")
			n = 2
		case rest[0] == '*':
			out.WriteString("[^/]*")
		case rest[0] == '?':
			out.WriteString("[^/]")
		default:
			out.WriteString(regexp.QuoteMeta(rest[:n]))
		}
		rest = rest[n:]
	}
	return regexp.MustCompile(`(?s)\A` + out.String() + `\z`)
}

// intercept answers a request whose fault needs no content, and otherwise returns the writer that the answer goes to.
func (f *Fault) intercept(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, bool) {
	if f == nil {
		return w, false
	}
	switch f.Kind {
	case RedirectLoop:
		target := *r.URL
		if target.RawQuery = "again"; r.URL.RawQuery == "again" {
			target.RawQuery = ""
		}
		http.Redirect(w, r, target.RequestURI(), http.StatusFound)
	case NotFound:
		http.NotFound(w, r)
	case Unavailable:
		http.Error(w, "the mirror is out of order", http.StatusServiceUnavailable)
	case Stall, Die:
		return &dying{ResponseWriter: w, left: f.After, stall: f.Kind == Stall, gone: r.Context().Done()}, false
	default:
		return w, false
	}
	return nil, true
}

// dying lets only so many bytes through. It does not implement io.ReaderFrom, or they would pass it by.
type dying struct {
	http.ResponseWriter
	left  int64
	stall bool
	gone  <-chan struct{}
}

func (d *dying) Write(p []byte) (int, error) {
	n, err := d.ResponseWriter.Write(p[:min(int64(len(p)), d.left)])
	d.left -= int64(n)
	if err != nil || n == len(p) {
		return n, err
	}
	// What has been written must be there before the end is, and a client waits for the headers of an answer of 0 bytes, too.
	if err := http.NewResponseController(d.ResponseWriter).Flush(); err != nil {
		return n, err
	}
	if d.stall {
		<-d.gone
	}
	panic(http.ErrAbortHandler) // net/http's way to cut the connection
}

// serveContent answers with content, which has an entity tag, or with what the fault leaves of it.
func serveContent(w http.ResponseWriter, r *http.Request, tag string, content readSeekerAt, size int64, fault *Fault) {
	w.Header().Set("ETag", `"`+tag+`"`)
	var served io.ReadSeeker = content
	if fault != nil {
		switch fault.Kind {
		case WrongBytes:
			served = io.NewSectionReader(flipped{content, size / 2}, 0, size)
		case Truncated:
			served = io.NewSectionReader(content, 0, min(fault.After, size))
		}
	}
	http.ServeContent(w, r, "", time.Time{}, served)
}

// flipped has one bit that is another.
type flipped struct {
	io.ReaderAt
	at int64
}

func (f flipped) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, offset)
	if i := f.at - offset; i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	return n, err
}
