// Package host is the seam between myadm and a machine. Everything that myadm learns of a machine or does to it goes
// through Reader and Host, so that the same phase runs over SSH, on this machine, or on the strict fake of hosttest.
//
// Reader only looks. Phases are given a Reader for their Check, and so the compiler keeps a plan from changing anything.
// All paths are absolute and clean. All methods act as root, whatever user the connection was made as, stop promptly
// when ctx ends, and may be called from several goroutines at once.
package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
)

// Cmd is a command line for a host: an argv, never a shell string. Transports quote it; callers never do.
// Secrets belong in Stdin: an argv can be read by every user of the host.
type Cmd struct {
	Argv  []string
	Stdin io.Reader // nil: empty. A Read that waits may still end after Run has returned

	// Stdout is given the standard output as it comes, instead of Run returning it. It is not written to after Run has
	// returned. What it refuses is lost: a command does not end because nobody listens. A Write that waits holds up Run.
	Stdout io.Writer
}

// Command is a Cmd without standard input.
func Command(argv ...string) Cmd { return Cmd{Argv: argv} }

// File is a small file with its whole content. Large ones are a Blob.
type File struct {
	Path string
	Mode fs.FileMode // permission bits; the owner is root
	Data []byte
}

// Blob is a large file that is streamed to a host.
type Blob struct {
	Path   string
	Mode   fs.FileMode // permission bits; the owner is root
	Size   int64       // bytes
	SHA256 string      // lower-case hex of the whole content

	// Open gives the content from its start. It may be called again to resume.
	Open func() (io.ReadSeekCloser, error)
}

// Info tells what stands at a path.
type Info struct {
	Path   string
	Exists bool        // false: all that follows is zero
	Mode   fs.FileMode // type and permission bits, of the path itself (links are not followed)
	Size   int64       // bytes
	SHA256 string      // lower-case hex; only of regular files, and only from Sums
	Target string      // what a symbolic link points to
}

// Reader looks at a host and changes nothing.
type Reader interface {
	// Name is the host's name in messages: the document's name, or the address it was reached at.
	Name() string

	// ReadFile returns a file's content. A file that is not there gives an error that wraps fs.ErrNotExist.
	ReadFile(ctx context.Context, path string) ([]byte, error)

	// Stat describes the paths, in their order and in one round trip. A missing path is no error.
	Stat(ctx context.Context, paths ...string) ([]Info, error)

	// Sums is Stat with the SHA-256 of every regular file, computed on the host.
	Sums(ctx context.Context, paths ...string) ([]Info, error)

	// Query runs a command that changes nothing and returns its standard output. Errors are those of Host.Run.
	Query(ctx context.Context, cmd Cmd) ([]byte, error)
}

// Host is a machine that can be changed.
type Host interface {
	Reader

	// Run runs a command as root and returns its standard output. A command that ends with a status other than zero
	// gives an *ExitError, and the output all the same. When ctx ends, the command is ended on the host as well.
	Run(ctx context.Context, cmd Cmd) ([]byte, error)

	// WriteFiles puts files in place, each atomically: a temporary file beside it, fsync, rename. Missing folders are
	// made with mode 0755. The files are written at the same time; those before and after a failed one may be in place.
	WriteFiles(ctx context.Context, files ...File) error

	// Upload streams a blob into place, atomically. It sends nothing when the file there already has the sum, goes on
	// where an earlier, cut upload of the same content ended, and checks the sum on the host before the rename.
	// progress, when not nil, is told the bytes that are on the host so far.
	Upload(ctx context.Context, blob Blob, progress func(onHost int64)) error

	// Remove removes files and whole folders; what is not there is fine. It never crosses into what is mounted below a
	// path: then nothing of that path is removed and the error is a *MountedError. A path that is a mount point itself is
	// emptied and stays. Links are removed, not followed.
	Remove(ctx context.Context, paths ...string) error

	// Dial connects to an address as seen from the host. network is "tcp" or "unix".
	Dial(ctx context.Context, network, address string) (net.Conn, error)

	// Alive ends when the connection has ended for good. Its cause is the error that every call gives from then on. What waits
	// for something on a host has to end with it. This machine is always alive.
	Alive() context.Context

	// Close ends the connection and what still runs over it.
	Close() error
}

// ExitError is a command that ran and ended with a status other than zero.
type ExitError struct {
	Argv   []string
	Code   int
	Stderr []byte // the last part of it, at most 4 KiB
}

func (e *ExitError) Error() string {
	msg := fmt.Sprintf("%s: exit status %d", strings.Join(e.Argv, " "), e.Code)
	if s := strings.TrimSpace(string(e.Stderr)); s != "" {
		msg += ": " + s
	}
	if bytes.Contains(e.Stderr, []byte("o space left on device")) { // some begin with a capital
		msg += "; hint: make room on that disk and run the same command again"
	}
	return msg
}

// MountedError is a folder that cannot be removed because something is mounted below it.
type MountedError struct {
	Path  string // as given to Remove
	Mount string // the mount point below it
}

func (e *MountedError) Error() string {
	return fmt.Sprintf("remove %s: %s is a mount point; hint: unmount it first", e.Path, e.Mount)
}

// ExitCode returns the status of the *ExitError in err, and false when there is none.
func ExitCode(err error) (int, bool) {
	var exit *ExitError
	if errors.As(err, &exit) {
		return exit.Code, true
	}
	return 0, false
}
