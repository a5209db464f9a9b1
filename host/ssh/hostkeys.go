package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"
)

// knownHosts checks host keys for all connections of a Dialer. Files are read once, and again after a key was added.
type knownHosts struct {
	mu    sync.Mutex
	files map[string]ssh.HostKeyCallback // by the list of files
}

func newKnownHosts() *knownHosts { return &knownHosts{files: map[string]ssh.HostKeyCallback{}} }

// hostKeys are what a client needs to check one host's key.
type hostKeys struct {
	algorithms []string // to ask for; nil: all
	check      ssh.HostKeyCallback
	known      func() *HostKeyChangedError // the error for a host that has no key of the known type; nil: nothing is known
}

// of prepares the check of a host's key.
func (k *knownHosts) of(r *route) (hostKeys, error) {
	if r.hostKey != "" {
		return pinned(r)
	}
	known, err := k.lookup(r)
	if err != nil {
		return hostKeys{}, err
	}
	keys := hostKeys{check: func(_ string, _ net.Addr, key ssh.PublicKey) error { return k.check(r, key) }}
	if len(known) > 0 {
		keys.known = func() *HostKeyChangedError {
			return &HostKeyChangedError{Host: r.name, Address: knownhosts.Normalize(r.keyAddress), Where: where(known[0])}
		}
	}
	// A host has keys of several types and shows the one that is asked for: ask for the type that is known.
	for _, entry := range known {
		for _, a := range algorithms(entry.Key.Type()) {
			if !slices.Contains(keys.algorithms, a) {
				keys.algorithms = append(keys.algorithms, a)
			}
		}
	}
	return keys, nil
}

func where(entry knownhosts.KnownKey) string { return fmt.Sprintf("%s:%d", entry.Filename, entry.Line) }

// algorithms are those that prove a key of a type, and a certificate that an authority with such a key signed: hosts with
// certificates mostly use one type for all.
func algorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}
	}
	return []string{keyType, strings.TrimSuffix(keyType, "@openssh.com") + "-cert-v01@openssh.com"}
}

// pinned checks against the key of the document alone.
func pinned(r *route) (hostKeys, error) {
	want, _, _, _, err := ssh.ParseAuthorizedKey([]byte(r.hostKey))
	if err != nil {
		return hostKeys{}, fmt.Errorf("%s: pinned host key: %w; hint: it is a line as in /etc/ssh/ssh_host_ed25519_key.pub", r.name, err)
	}
	changed := func() *HostKeyChangedError {
		return &HostKeyChangedError{Host: r.name, Address: knownhosts.Normalize(r.keyAddress), Where: "the hostKey pinned for it"}
	}
	return hostKeys{
		algorithms: algorithms(want.Type()),
		known:      changed,
		check: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if string(key.Marshal()) == string(want.Marshal()) {
				return nil
			}
			e := changed()
			e.Key = key
			return e
		},
	}, nil
}

// callback reads the known hosts files that exist. k.mu is held.
func (k *knownHosts) callback(files []string) (ssh.HostKeyCallback, error) {
	id := fmt.Sprint(files)
	if cb := k.files[id]; cb != nil {
		return cb, nil
	}
	var present []string
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			present = append(present, f)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("known hosts: %w", err)
		}
	}
	cb, err := knownhosts.New(present...)
	if err != nil {
		return nil, fmt.Errorf("known hosts: %w; hint: repair or delete the line", err)
	}
	k.files[id] = cb
	return cb, nil
}

// nobody is a key that no file knows, to make known_hosts tell what it does know.
type nobody struct{ ssh.PublicKey }

func (nobody) Type() string    { return "none" }
func (nobody) Marshal() []byte { return []byte("none") }

// lookup lists the keys that a host is known by.
func (k *knownHosts) lookup(r *route) ([]knownhosts.KnownKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	cb, err := k.callback(r.knownHosts)
	if err != nil {
		return nil, err
	}
	var unknown *knownhosts.KeyError
	if err := cb(r.keyAddress, &net.TCPAddr{}, nobody{}); !errors.As(err, &unknown) {
		return nil, err
	}
	return unknown.Want, nil
}

// check is the host key callback. It adds unknown keys when the user wants that.
func (k *knownHosts) check(r *route, key ssh.PublicKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	cb, err := k.callback(r.knownHosts)
	if err != nil {
		return err
	}
	err = cb(r.keyAddress, &net.TCPAddr{}, key)
	address := knownhosts.Normalize(r.keyAddress)
	var mismatch *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		return &HostKeyChangedError{Host: r.name, Address: address, Key: key, Where: where(revoked.Revoked) + ", where this one is revoked"}
	case !errors.As(err, &mismatch):
		return err
	case len(mismatch.Want) > 0:
		return &HostKeyChangedError{Host: r.name, Address: address, Key: key, Where: where(mismatch.Want[0])}
	case !r.acceptNew:
		return &HostKeyUnknownError{Host: r.name, Address: address, Key: key}
	}
	if err := appendLine(r.knownHosts[0], knownhosts.Line([]string{address}, key)); err != nil {
		return fmt.Errorf("%s: add host key: %w", r.name, err)
	}
	clear(k.files)
	return nil
}

// appendLine adds a line in one write. The lock keeps other myadms out; the empty line that may come first keeps a file
// whose last line was cut off from swallowing it.
func appendLine(file, line string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", file, err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if size := info.Size(); size > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = "\n" + line
		}
	}
	if _, err := f.WriteString(line + "\n"); err != nil {
		return err
	}
	return f.Close()
}
