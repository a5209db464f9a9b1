package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/myadm/myadm/e2e/lab/mirror"
)

// mirrorPort is where a lab's mirror listens, unless told otherwise: always the same, so that a Cluster document holds
// after a restart.
const mirrorPort = 5000

// mirrorStart is how long a mirror may take to be filled and to serve; it needs about a second for each bundle, and minutes
// where bundles have to be copied from another disk.
const mirrorStart = 5 * time.Minute

// MirrorUser is whom a mirror asks for a password, if it does.
const MirrorUser = "lab"

// Gateway is the machine's address on the lab's network: where hosts reach what runs beside them.
func (l *Lab) Gateway() netip.Addr { return gateway(netip.PrefixFrom(l.Hosts[0].Address, 24)) }

// MirrorOptions say what a lab's mirror is; see mirror.Options.
type MirrorOptions struct {
	Bundles []string
	Listen  string // ADDRESS:PORT, default port 5000 of the gateway
	Prefix  string
	TLS     bool // HTTPS with a certificate of the lab's own CA
	Auth    bool // ask MirrorUser for a password, which is made up
	As      map[string][]string
	Labels  map[string]string
}

// StartMirror starts the lab's mirror as a process that outlives this one. command is what serves a folder when the folder
// is added to it: lab's own.
func (l *Lab) StartMirror(ctx context.Context, o MirrorOptions, command ...string) (mirror.State, error) {
	dir := mirrorDir(l.Dir)
	options, err := l.mirrorOptions(o, dir)
	if err != nil {
		return mirror.State{}, err
	}
	if err := mirror.Prepare(dir, options); err != nil {
		return mirror.State{}, err
	}
	var s mirror.State
	err = startDaemon(ctx, filepath.Join(dir, "log"), mirrorStart, func() (err error) {
		s, err = mirror.Running(dir)
		return err
	}, append(command, dir)...)
	return s, err
}

func (l *Lab) mirrorOptions(o MirrorOptions, dir string) (mirror.Options, error) {
	store, err := mirrorStore(l.id)
	if err != nil {
		return mirror.Options{}, err
	}
	options := mirror.Options{Dir: store, Listen: o.Listen, Prefix: o.Prefix, As: o.As, Labels: o.Labels}
	for _, path := range o.Bundles { // the process may have another working directory
		if path, err = filepath.Abs(path); err != nil {
			return mirror.Options{}, err
		}
		options.Bundles = append(options.Bundles, path)
	}
	if o.Listen == "" {
		options.Listen = net.JoinHostPort(l.Gateway().String(), strconv.Itoa(mirrorPort))
	}
	if o.TLS {
		options.TLSDir = dir
	}
	if o.Auth {
		options.Username, options.Password = MirrorUser, rand.Text()
	}
	return options, nil
}

// MirrorOf is the state of the mirror of the lab in a folder. If none runs, the error wraps mirror.ErrNotRunning.
func MirrorOf(dir string) (mirror.State, error) {
	dir, err := canonical(dir)
	if err != nil {
		return mirror.State{}, err
	}
	return mirror.Running(mirrorDir(dir))
}

// StopMirror ends the mirror of the lab in a folder. What was made to serve quickly, and the CA, stay until Down.
func StopMirror(ctx context.Context, dir string) error {
	dir, err := canonical(dir)
	if err != nil {
		return err
	}
	return mirror.Stop(ctx, mirrorDir(dir))
}

// removeMirror ends the mirror of a lab and removes all that was its.
func removeMirror(ctx context.Context, dir string) error {
	if err := StopMirror(ctx, dir); err != nil {
		return err
	}
	store, err := mirrorStore(labID(dir))
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(store), os.RemoveAll(mirrorDir(dir))); err != nil {
		return fmt.Errorf("remove mirror: %w", err)
	}
	return nil
}

// mirrorDir has the mirror's state, its log and its CA. dir is canonical.
func mirrorDir(dir string) string { return filepath.Join(dir, MirrorDir) }

// mirrorStore is where a mirror keeps what it serves: beside the bundles, on whose file system blobs are linked.
func mirrorStore(id string) (string, error) {
	cache, err := CacheDir()
	return filepath.Join(cache, "mirrors", id), err
}
