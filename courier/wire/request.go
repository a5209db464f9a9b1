// Package wire is what myadm and its courier, a small program on a host, say to each other. myadm writes one Request as
// JSON to the program's standard input; the program answers with Events, one JSON object a line, on its standard output.
//
// Secrets (headers, keys, tokens, proxies with a password) are in the Request alone: never in an argv, and in no Event.
// Both sides are of the same build, so unknown fields and unknown types are errors on either side.
package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path"
)

// MaxRequest is the longest request, and the longest offer, in bytes; one blob takes about half a kilobyte.
const MaxRequest = 16 << 20

// Request is one of *Fetch, *Serve and *Probe.
type Request interface {
	// Command is the program's only argument: "fetch", "serve" or "probe".
	Command() string
	// Check tells everything that is wrong with the request.
	Check() error
}

// Fetch asks for blobs to be downloaded and put in place. It is answered by Progress, one Fetched or Failed for each blob,
// and Done.
type Fetch struct {
	Blobs []Blob `json:"blobs"`
	Net   Net    `json:"net"`

	Parallel     int `json:"parallel,omitempty"`     // blobs at a time; 0: 4
	Passes       int `json:"passes,omitempty"`       // how often a source with a passing fault is asked; 0: 3
	StallSeconds int `json:"stallSeconds,omitempty"` // how long a source may send nothing; 0: 30
}

// Blob is a file, known by its content, and where to get it.
type Blob struct {
	SHA256  string      `json:"sha256"`         // lower-case hex of the whole content
	Size    int64       `json:"size"`           // bytes; -1: unknown, at most MaxSize, and the sum decides
	Path    string      `json:"path"`           // where it belongs: absolute and clean; missing folders are made with mode 0755
	Mode    fs.FileMode `json:"mode,omitempty"` // permission bits; 0: 0644
	Sources []Source    `json:"sources"`        // in the order in which they are asked

	Unpack *Unpack `json:"unpack,omitempty"` // nil: the blob is what is wanted
}

// Source is a URL of a blob, at a web server or at another host's courier.
type Source struct {
	URL string `json:"url"` // http or https

	// Headers are sent to the URL's own host alone, never to one that it redirects to.
	Headers map[string]string `json:"headers,omitempty"`

	// Pin is the lower-case hex SHA-256 of the certificate (DER) that the server must have. With a pin nothing else of the
	// certificate counts, no proxy is used and no redirect followed: it is a peer.
	Pin string `json:"pin,omitempty"`
}

// Net is how the host gets to its sources.
type Net struct {
	CA    string `json:"ca,omitempty"` // PEM, trusted besides the host's own roots
	Proxy Proxy  `json:"proxy"`
}

// Proxy is as in the variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Those of the host do not count. As with them,
// localhost and loopback addresses are never reached through a proxy.
type Proxy struct {
	HTTP  string `json:"http,omitempty"`
	HTTPS string `json:"https,omitempty"`
	No    string `json:"no,omitempty"` // names, domains, addresses and CIDRs, separated by commas
}

// Serve asks for blobs to be served to other hosts, at https://ADDRESS/sha256/HEX, until standard input closes. Offers
// may follow it. It is answered by Listening, by Served from time to time, and by Done.
type Serve struct {
	Address     string            `json:"address"`     // host:port; port 0 takes a free one
	Certificate string            `json:"certificate"` // PEM, self-signed, for this one time
	Key         string            `json:"key"`         // PEM (PKCS #8), Ed25519 or ECDSA
	Token       string            `json:"token"`       // what peers send as "Authorization: Bearer TOKEN"
	Blobs       map[string]string `json:"blobs"`       // absolute path by SHA-256; may be empty at first
}

// Probe asks what can be reached from the host. It is answered by one Probed for each target, and Done.
type Probe struct {
	Targets       []Target `json:"targets"`
	Net           Net      `json:"net"`
	TimeoutMillis int      `json:"timeoutMillis,omitempty"` // for each target, redirects included; 0: 5000
}

// Target is a Source, of which the headers alone are asked, or an address to connect to.
type Target struct {
	Source
	Address string `json:"address,omitempty"` // host:port, connected to by TCP; instead of a URL
}

// Name is how events call the target: its address, or its URL without secrets.
func (t Target) Name() string {
	if t.Address != "" {
		return t.Address
	}
	return CleanURL(t.URL)
}

// Command is "fetch".
func (*Fetch) Command() string { return "fetch" }

// Command is "serve".
func (*Serve) Command() string { return "serve" }

// Command is "probe".
func (*Probe) Command() string { return "probe" }

// Check tells everything that is wrong with the request.
func (f *Fetch) Check() error {
	errs := []error{f.Net.check()}
	seen := map[string]bool{}
	for _, b := range f.Blobs {
		errs = append(errs, b.check())
		paths := []string{b.Path}
		if b.Unpack != nil {
			for _, file := range b.Unpack.Files {
				paths = append(paths, file.Path)
			}
		}
		for _, p := range paths {
			if seen[p] {
				errs = append(errs, fmt.Errorf("path %q is there twice", p))
			}
			seen[p] = true
		}
	}
	if len(f.Blobs) == 0 {
		errs = append(errs, errors.New("there is no blob to fetch"))
	}
	if f.Parallel < 0 || f.Passes < 0 || f.StallSeconds < 0 {
		errs = append(errs, errors.New("parallel, passes and stallSeconds cannot be negative"))
	}
	return errors.Join(errs...)
}

func (b Blob) check() error {
	switch err := checkFile(b.SHA256, b.Path, b.Mode); {
	case err != nil:
		return err
	case b.Size < -1:
		return fmt.Errorf("blob %s: size %d is negative; hint: one that is not known is -1", b.SHA256, b.Size)
	case len(b.Sources) == 0 && b.Unpack == nil: // what is to be unpacked may be there already
		return fmt.Errorf("blob %s has no source", b.SHA256)
	}
	var errs []error
	if b.Unpack != nil {
		if err := b.Unpack.check(); err != nil {
			errs = append(errs, fmt.Errorf("blob %s: unpack: %w", b.SHA256, err))
		}
	}
	for _, s := range b.Sources {
		if err := s.check(); err != nil {
			errs = append(errs, fmt.Errorf("blob %s: %w", b.SHA256, err))
		}
	}
	return errors.Join(errs...)
}

func checkFile(sum, path string, mode fs.FileMode) error {
	switch {
	case !IsSHA256(sum):
		return fmt.Errorf("%q is not a SHA-256 in lower-case hex", sum)
	case !cleanPath(path):
		return fmt.Errorf("blob %s: path %q is not absolute and clean", sum, path)
	case mode&^fs.ModePerm != 0:
		return fmt.Errorf("blob %s: mode %#o has more than permission bits", sum, mode)
	}
	return nil
}

func (s Source) check() error {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return fmt.Errorf("source %q is not an http or https URL", CleanURL(s.URL))
	case s.Pin != "" && u.Scheme != "https":
		return fmt.Errorf("source %q has a pin and no TLS", CleanURL(s.URL))
	case s.Pin != "" && !IsSHA256(s.Pin):
		return fmt.Errorf("source %q: pin %q is not a SHA-256 in lower-case hex", CleanURL(s.URL), s.Pin)
	}
	return nil
}

// check does not show the proxy, which may have a password.
func (n Net) check() error {
	for _, raw := range []string{n.Proxy.HTTP, n.Proxy.HTTPS} {
		if raw == "" {
			continue
		}
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			return errors.New("proxy is not a URL such as http://proxy.example:3128")
		}
		switch u.Scheme {
		case "http", "https", "socks5", "socks5h":
		default:
			return fmt.Errorf("proxy %s is none of http, https, socks5 and socks5h", CleanURL(raw))
		}
	}
	return nil
}

// Check tells everything that is wrong with the request.
func (s *Serve) Check() error {
	var errs []error
	if _, _, err := net.SplitHostPort(s.Address); err != nil {
		errs = append(errs, fmt.Errorf("address %q is not host:port", s.Address))
	}
	if s.Certificate == "" || s.Key == "" || s.Token == "" {
		errs = append(errs, errors.New("certificate, key and token must be given"))
	}
	return errors.Join(append(errs, checkPaths(s.Blobs))...)
}

func checkPaths(blobs map[string]string) error {
	var errs []error
	for sum, file := range blobs {
		if !IsSHA256(sum) {
			errs = append(errs, fmt.Errorf("%.80q is not a SHA-256 in lower-case hex", sum))
		}
		if !cleanPath(file) {
			errs = append(errs, fmt.Errorf("blob %.80s: path %q is not absolute and clean", sum, file))
		}
	}
	return errors.Join(errs...)
}

// Check tells everything that is wrong with the request.
func (p *Probe) Check() error {
	errs := []error{p.Net.check()}
	for _, t := range p.Targets {
		switch {
		case t.Address == "":
			errs = append(errs, t.check())
		case t.URL != "" || t.Pin != "":
			errs = append(errs, fmt.Errorf("target %q has a URL or a pin as well", t.Address))
		default:
			if _, _, err := net.SplitHostPort(t.Address); err != nil {
				errs = append(errs, fmt.Errorf("target %q is not host:port", t.Address))
			}
		}
	}
	if p.TimeoutMillis < 0 {
		errs = append(errs, errors.New("timeoutMillis cannot be negative"))
	}
	return errors.Join(errs...)
}

// IsSHA256 tells whether s is a SHA-256 in lower-case hex, as everything here writes them.
func IsSHA256(s string) bool {
	sum, err := hex.DecodeString(s)
	return err == nil && len(sum) == 32 && s == hex.EncodeToString(sum)
}

// CleanURL is a URL as it may be shown: without user, query and fragment, where secrets are.
func CleanURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return shown.String()
}

func cleanPath(p string) bool { return path.IsAbs(p) && path.Clean(p) == p && p != "/" }
