package delivery

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path"
	"sync"

	"github.com/myadm/myadm/courier"
	"github.com/myadm/myadm/courier/wire"
	"github.com/myadm/myadm/host"
)

// site is a host as its deliveries share it.
type site struct {
	Host
	d *Delivery

	way     lazy[Way]
	program lazy[string] // the courier's path
	server  lazy[*server]

	shunned map[*site]bool // peers that it could not get a blob from; guarded by the swarm's lock

	mu     sync.Mutex
	failed bool
}

// settle remembers whether something is left for the next run to go on with.
func (s *site) settle(err error) error {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed = true
	}
	return err
}

// installScript unpacks a program that comes by standard input, in one trip and with its name in the end only.
const installScript = `set -e; umask 077; mkdir -p "${1%/*}"; gzip -dc >"$1.part"; chmod 700 "$1.part"; mv "$1.part" "$1"`

// install puts the courier on the host, unless it is there. Its name has its checksum.
func (s *site) install(ctx context.Context) (string, error) {
	packed, err := s.d.packed(s.Arch)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(packed)
	file := path.Join(s.Dir, "courier-"+hex.EncodeToString(sum[:8]))
	there, err := s.Stat(ctx, file)
	if err != nil {
		return "", err
	}
	if there[0].Exists && s.runs(ctx, file) == nil { // else it may have been written when the host lost power
		return file, nil
	}
	cmd := host.Cmd{Argv: []string{"sh", "-c", installScript, "sh", file}, Stdin: bytes.NewReader(packed)}
	if _, err := s.Run(ctx, cmd); err != nil {
		return "", fmt.Errorf("put the courier at %s: %w", file, ranAs(err, "gzip", "-dc"))
	}
	if err := s.runs(ctx, file); err != nil {
		return "", fmt.Errorf("run the courier: %w; hint: may programs run in %s (noexec), and is the host's architecture %s?",
			err, s.Dir, s.Arch)
	}
	return file, nil
}

// runs tells why a program is none that runs on the host: it is told to probe nothing.
func (s *site) runs(ctx context.Context, program string) error {
	cmd, end, err := courier.Command(program, &wire.Probe{})
	if err != nil {
		return err
	}
	defer end()
	return s.listen(ctx, cmd, func(wire.Event) {})
}

// ask has the courier carry out a request, tells its events, and waits for its end.
func (s *site) ask(ctx context.Context, request wire.Request, heard func(wire.Event)) error {
	program, err := s.program.get(ctx, s.install)
	if err != nil {
		return err
	}
	cmd, end, err := courier.Command(program, request)
	if err != nil {
		return err
	}
	defer end()
	return s.listen(ctx, cmd, heard)
}

// listen runs a courier's command and tells its events. What a fetch or a probe could not do is told by events; the error
// is that of the courier itself.
func (s *site) listen(ctx context.Context, cmd host.Cmd, heard func(wire.Event)) error {
	r, w := io.Pipe()
	cmd.Stdout = w
	ended := make(chan error, 1)
	go func() {
		_, err := s.Run(ctx, cmd)
		w.Close()
		ended <- err
	}()
	events := courier.NewDecoder(r)
	var said error
	for said == nil {
		var e wire.Event
		if e, said = events.Next(); said == nil {
			if failure, bad := e.(wire.Error); bad {
				said = failure
			}
			heard(e)
		}
	}
	io.Copy(io.Discard, r) //nolint:errcheck // nobody is to wait for being heard
	err := <-ended
	_, exited := host.ExitCode(err)
	switch {
	case err != nil && !exited:
		return err // the connection, or ctx
	case errors.Is(said, io.EOF):
		return nil
	case errors.Is(said, io.ErrUnexpectedEOF) && err != nil:
		return err // it could not be run, or was killed
	}
	return said
}

// reaches tells why the host cannot download what it needs, or nothing. One of the origins stands for the others.
func (s *site) reaches(ctx context.Context) (reason string, err error) {
	origins, err := s.d.Origins(ctx)
	if err != nil {
		return "", err
	}
	if len(origins) == 0 {
		return "nothing of it is published", nil
	}
	var target wire.Target
	for _, o := range origins {
		if target.URL == "" || o.Source.URL < target.URL {
			target.Source = o.Source
		}
	}
	const patience = 3000 // milliseconds
	err = s.ask(ctx, &wire.Probe{Targets: []wire.Target{target}, Net: s.d.Net, TimeoutMillis: patience}, func(e wire.Event) {
		if p, ok := e.(wire.Probed); ok && !p.Reached {
			reason = cmp.Or(p.Error, "no reason was told")
		}
	})
	if err != nil {
		return "", fmt.Errorf("find out whether it can download: %w", err)
	}
	return reason, nil
}

// server is a courier that gives its host's blobs to other hosts.
type server struct {
	identity courier.Identity
	address  string
	offer    func(blobs map[string]string) error
	end      func()             // tells it to end
	stop     context.CancelFunc // ends its command
	ended    chan struct{}      // closed when it has ended
	err      error              // why, from then on
}

// serve starts the host's server.
func (s *site) serve(ctx context.Context) (*server, error) {
	program, err := s.program.get(ctx, s.install)
	if err != nil {
		return nil, err
	}
	identity, err := courier.NewIdentity(s.d.Now())
	if err != nil {
		return nil, err
	}
	cmd, offer, end, err := courier.ServeCommand(program, identity.Serve(netip.AddrPortFrom(s.Address, 0).String(), nil))
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // other deliveries use it as well
	v := &server{identity: identity, offer: offer, end: end, stop: stop, ended: make(chan struct{})}
	listening := make(chan string, 1)
	go func() {
		defer close(v.ended)
		v.err = s.listen(running, cmd, func(e wire.Event) {
			if l, ok := e.(wire.Listening); ok && len(listening) == 0 { // what is the program's output is not trusted
				listening <- l.Address
			}
		})
	}()
	select {
	case v.address = <-listening:
		return v, nil
	case <-v.ended:
		end()
		stop()
		return nil, fmt.Errorf("serve other hosts: %w", cmp.Or(v.err, errors.New("the courier has ended")))
	case <-ctx.Done():
		v.close(ctx)
		return nil, context.Cause(ctx)
	}
}

// close ends a server, by force when ctx ends before.
func (v *server) close(ctx context.Context) {
	v.end()
	select {
	case <-v.ended:
	case <-ctx.Done():
	}
	v.stop()
	<-v.ended
}

// source is where other hosts get a blob that this one has at a path.
func (s *site) source(ctx context.Context, sum, file string) (wire.Source, error) {
	v, err := s.server.get(ctx, s.serve)
	if err != nil {
		return wire.Source{}, err
	}
	select {
	case <-v.ended:
		return wire.Source{}, fmt.Errorf("the courier that served other hosts has ended: %w", cmp.Or(v.err, errors.New("it was told to")))
	default:
	}
	if err := v.offer(map[string]string{sum: file}); err != nil {
		return wire.Source{}, err
	}
	return v.identity.Source(v.address, sum), nil
}

// leave ends the server and removes the program, and the blobs if all went well. A server has half of the time to end.
func (s *site) leave(ctx context.Context) error {
	if v, err := s.server.get(ctx, func(context.Context) (*server, error) { return nil, nil }); err == nil && v != nil {
		patience, cancel := context.WithTimeout(ctx, closeTimeout/2)
		v.close(patience)
		cancel()
	}
	program, err := s.program.get(ctx, func(context.Context) (string, error) { return "", nil })
	if err != nil || program == "" {
		return nil
	}
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	left := s.Dir
	if failed {
		left = program
	}
	if err := s.Remove(ctx, left); err != nil {
		return fmt.Errorf("%s: %w", s.Name(), err)
	}
	return nil
}
