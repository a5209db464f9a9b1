// Package delivery brings the artifacts of a bundle to hosts, by the way that costs least:
//
//	download   the host gets them itself, from the web servers and registries that have them
//	peer       each is sent to one host, and the hosts pass it on among themselves
//	upload     each host is sent all of them, which needs nothing on the host but SSH
//
// Downloading and passing on are done by package courier's program, which stands on a host only while it is needed. It
// verifies every blob before that has its place, and goes on where it was cut off. Where a host can neither download nor
// reach its peers, it is sent what it lacks.
//
// What travels by courier is kept below the host's Dir until Close: the blobs of images, of which an image layout is made for the
// container runtime to import, and the program. Binaries go to their places at once, and are passed on from there.
package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/courier"
	"github.com/myadm/myadm/courier/wire"
	"github.com/myadm/myadm/host"
)

// Dir is where couriers and blobs of images are on hosts, while they are.
const Dir = "/var/lib/myadm"

// Way is how artifacts reach a host.
type Way string

// The ways. Auto is to download what the host can download, and to pass on the rest when there are several hosts.
const (
	Auto     Way = "auto"
	Download Way = "download"
	Upload   Way = "upload"
	Peer     Way = "peer"
)

// Ways are all of them, in the words of the document.
var Ways = []Way{Auto, Download, Upload, Peer}

// fewHosts are sent everything in less time than it takes them to pass it on.
const fewHosts = 2

// Host is a host that gets artifacts.
type Host struct {
	host.Host
	Arch    string     // as Go names it
	Address netip.Addr // where other hosts reach it
	Dir     string     // where couriers and blobs of images are; empty: the constant Dir
}

// Options are what Deliveries differ in.
type Options struct {
	Way    Way
	Bundle *bundle.Bundle // has all artifacts, or those that Ensure was called for
	Hosts  int            // how many hosts are likely to get artifacts

	// Origins tells where hosts can download blobs, by SHA-256. It is called for every download, since permissions expire.
	// nil: hosts can download nothing.
	Origins func(ctx context.Context) (map[string]Origin, error)
	Net     wire.Net // how hosts get there

	// Ensure gets blobs into the bundle before they are sent; nil: it has them.
	Ensure func(ctx context.Context, blobs ...bundle.Blob) error

	// Warn tells the user of something that makes a delivery slow; nil: nobody listens. ctx is that of the delivery.
	Warn func(ctx context.Context, message string)

	Now func() time.Time // nil: time.Now
}

// Origin is where hosts can download a blob.
type Origin struct {
	Source wire.Source
	Blob   bundle.Blob // what is there: the blob itself, or an archive
	Member string      // the blob's name in the archive, a gzipped tar; empty: it is none
}

// Delivery brings artifacts to hosts for as long as a run lasts. Its methods may be called for many hosts, and many times
// for one host, at once.
type Delivery struct {
	Options
	packed func(arch string) ([]byte, error) // the courier, gzipped
	swarm  swarm

	mu    sync.Mutex
	sites map[string]*site // by the host's name
}

// New returns a Delivery, which costs nothing until it is used. Close it after that.
func New(o Options) *Delivery {
	if o.Warn == nil {
		o.Warn = func(context.Context, string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Delivery{Options: o, packed: courier.Packed, swarm: newSwarm(), sites: map[string]*site{}}
}

// site is what is known of a host.
func (d *Delivery) site(h Host) *site {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sites[h.Name()]
	if s == nil {
		h.Dir = cmp.Or(h.Dir, Dir)
		s = &site{Host: h, d: d, shunned: map[*site]bool{}}
		d.sites[h.Name()] = s
	}
	return s
}

// Told is told how much of an artifact, by name, is on the host so far, in bytes.
type Told func(name string, bytes int64)

// parallel is how many files and images of a host are under way at once: enough to fill a connection.
const parallel = 3

// Files puts binaries in place, which are not there.
func (d *Delivery) Files(ctx context.Context, h Host, binaries []bundle.Artifact, told Told) error {
	s := d.site(h)
	var wants []want
	for _, a := range binaries {
		wants = append(wants, want{
			name: a.Name, artifact: a, blob: a.Blobs[0], path: a.Target, mode: uint32(a.Mode),
			told: rising(func(n int64) { told(a.Name, n) }),
		})
	}
	d.swarm.lacks(s, wants)
	return s.settle(d.bring(ctx, s, wants))
}

// Images has the command on the host that reads an image layout as a tar from its standard input, such as `ctr images
// import -`, import images.
func (d *Delivery) Images(ctx context.Context, h Host, images []bundle.Artifact, command []string, told Told) error {
	if len(images) == 0 {
		return nil
	}
	s := d.site(h)
	way, err := s.way.get(ctx, s.choose)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel) // while one is unpacked the next one travels
	for _, a := range images {
		g.Go(func() error {
			if way == Upload {
				return d.stream(ctx, s, a, command, told)
			}
			return s.settle(d.carry(ctx, s, a, command, told))
		})
	}
	return g.Wait()
}

// rising leaves out what is not more than was told before: a blob that comes another way begins anew.
func rising(told func(bytes int64)) func(bytes int64) {
	var mu sync.Mutex
	var most int64
	return func(bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		if bytes > most {
			most = bytes
			told(bytes)
		}
	}
}

// want is a blob that is to be on a host.
type want struct {
	name     string          // of the artifact, for messages
	artifact bundle.Artifact // of a binary
	blob     bundle.Blob
	path     string
	mode     uint32 // permission bits
	told     func(bytes int64)
	open     func(ctx context.Context) (io.ReadSeekCloser, error) // nil: the blob's content in the bundle
}

// bring puts blobs in place by the host's way.
func (d *Delivery) bring(ctx context.Context, s *site, wants []want) error {
	if len(wants) == 0 {
		return nil
	}
	way, err := s.way.get(ctx, s.choose)
	if err != nil {
		return err
	}
	switch way {
	case Download:
		left, err := d.download(ctx, s, wants)
		if err != nil || len(left) == 0 {
			return err
		}
		if d.Hosts > fewHosts {
			return d.passOn(ctx, s, left)
		}
		return d.sendAll(ctx, s, left)
	case Peer:
		return d.passOn(ctx, s, wants)
	default:
		return d.sendAll(ctx, s, wants)
	}
}

// choose is the way of a host.
func (s *site) choose(ctx context.Context) (Way, error) {
	d := s.d
	switch {
	case d.Way == Upload, d.Way == Auto && d.Origins == nil && d.Hosts <= fewHosts:
		return Upload, nil
	case d.Way == Download && d.Origins == nil:
		return "", errors.New("there is nothing that hosts could download: all of it is in the bundle; " +
			"hint: --delivery peer, upload or auto, or a mirror instead of the bundle")
	}
	_, err := s.program.get(ctx, s.install)
	switch {
	case err != nil && (d.Way != Auto || ctx.Err() != nil):
		return "", err
	case err != nil:
		d.Warn(ctx, fmt.Sprintf("all is sent from here: %v", err))
		return Upload, nil
	case d.Way != Auto:
		return d.Way, nil
	case d.Origins == nil:
		return Peer, nil
	}
	reason, err := s.reaches(ctx)
	switch {
	case err != nil:
		return "", err
	case reason == "":
		return Download, nil
	}
	d.Warn(ctx, fmt.Sprintf("it cannot download by itself: %s", reason))
	if d.Hosts > fewHosts {
		return Peer, nil
	}
	return Upload, nil
}

// closeTimeout is how long hosts are tidied up at the end.
const closeTimeout = 10 * time.Second

// Close ends what runs on hosts and removes what is not needed there any more. What a host had got when its delivery
// failed stays, for the next run to go on with. ctx may have ended.
func (d *Delivery) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	var all sync.WaitGroup
	errs := make(chan error, len(d.sites))
	for _, s := range d.sites {
		all.Go(func() { errs <- s.leave(ctx) })
	}
	all.Wait()
	close(errs)
	var joined error
	for err := range errs {
		joined = errors.Join(joined, err)
	}
	d.sites = map[string]*site{}
	return joined
}
