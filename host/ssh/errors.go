package ssh

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ErrConnectionLost is in the chain of every error of a call that ended because the connection did.
var ErrConnectionLost = errors.New("connection lost")

// UnreachableError is a host that did not answer as an SSH server.
type UnreachableError struct {
	Host    string // its name, or the bastion's
	Address string // host:port
	Err     error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s: no SSH server answers at %s: %v; hint: is it the right address and port, and is the host up?",
		e.Host, e.Address, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// AuthError is a host that lets the user in with none of the keys.
type AuthError struct {
	Host  string
	User  string
	Tried []string // what was offered, and what could not be: "agent key SHA256:...", "~/.ssh/id_rsa: no such file"
	Err   error
}

func (e *AuthError) Error() string {
	tried := "there was no key to offer"
	if len(e.Tried) > 0 {
		tried = "tried " + strings.Join(e.Tried, ", ")
	}
	return fmt.Sprintf("%s: user %s is not let in: %v (%s); hint: name a key whose public half is in %s's authorized_keys, or load it into the agent",
		e.Host, e.User, e.Err, tried, e.User)
}

func (e *AuthError) Unwrap() error { return e.Err }

// HostKeyUnknownError is a host whose key nobody has vouched for.
type HostKeyUnknownError struct {
	Host    string
	Address string // as known_hosts names it
	Key     ssh.PublicKey
}

func (e *HostKeyUnknownError) Error() string {
	return fmt.Sprintf("%s: host key of %s is not known: %s %s; hint: compare the fingerprint, then add it (ssh-keyscan %s >> ~/.ssh/known_hosts), pin it in the document, or use --accept-new-host-keys",
		e.Host, e.Address, e.Key.Type(), ssh.FingerprintSHA256(e.Key), scanArguments(e.Address))
}

// scanArguments are those of ssh-keyscan for an address of known_hosts.
func scanArguments(address string) string {
	if rest, ok := strings.CutPrefix(address, "["); ok {
		if name, port, ok := strings.Cut(rest, "]:"); ok {
			return "-p " + port + " " + name
		}
	}
	return address
}

// HostKeyChangedError is a host that shows another key than the one it is known by. It is never accepted.
type HostKeyChangedError struct {
	Host    string
	Address string
	Key     ssh.PublicKey // nil: the host has no key of the known type any more
	Where   string        // where the known key is: FILE:LINE, or the document
}

func (e *HostKeyChangedError) Error() string {
	shows := "it has no key of the known type any more"
	if e.Key != nil {
		shows = fmt.Sprintf("it shows %s %s", e.Key.Type(), ssh.FingerprintSHA256(e.Key))
	}
	return fmt.Sprintf("%s: host key of %s changed: %s, but another one is known from %s; hint: somebody may be in between; if the host was made anew, replace the key there",
		e.Host, e.Address, shows, e.Where)
}

// SudoReason tells why a user cannot become root.
type SudoReason string

// The reasons of a SudoError.
const (
	SudoWrongPassword SudoReason = "the password is wrong"
	SudoNeedsPassword SudoReason = "sudo asks for a password and there is none"
	SudoNeedsTerminal SudoReason = "sudo wants a terminal"
	SudoNotAllowed    SudoReason = "the user may not use sudo for this"
	SudoMissing       SudoReason = "there is no sudo"
	SudoFailed        SudoReason = "sudo failed"
)

var sudoHints = map[SudoReason]string{
	SudoWrongPassword: "check MYADM_SUDO_PASSWORD, or the host's sudoPasswordFile",
	SudoNeedsPassword: "set MYADM_SUDO_PASSWORD or the host's sudoPasswordFile, or run on a terminal to be asked",
	SudoNeedsTerminal: "take requiretty out of the host's sudoers",
	SudoNotAllowed:    "allow it in the host's sudoers: USER ALL=(ALL) ALL",
	SudoMissing:       "install sudo, or log in as root",
	SudoFailed:        "try sudo on the host by hand",
}

// SudoError is a user who is not root and cannot become root.
type SudoError struct {
	Host   string
	User   string
	Reason SudoReason
	Said   string // what sudo said
}

func (e *SudoError) Error() string {
	said := ""
	if e.Said != "" {
		said = fmt.Sprintf(" (%s)", e.Said)
	}
	return fmt.Sprintf("%s: user %s cannot become root: %s%s; hint: %s", e.Host, e.User, e.Reason, said, sudoHints[e.Reason])
}
