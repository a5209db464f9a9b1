// Package command is what all ways to run a host.Cmd have in common: which argv are refused, the surroundings that a
// command finds, how its input ends, and how much of its error output is kept.
package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/myadm/myadm/host"
)

const (
	// Path is root's PATH. A shell over SSH does not have it, and sudo's secure_path often lacks /usr/local.
	Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

	// Surroundings are the same for every command, whatever login, sudo and the user's own shell left of them.
	Surroundings = "umask 022; cd /; LC_ALL=C; PATH=" + Path + "; export LC_ALL PATH; "

	// MaxTail is how many bytes of error output an ExitError has at most.
	MaxTail = 4 << 10
)

// Check refuses commands that cannot be run anywhere.
func Check(cmd host.Cmd) error {
	if len(cmd.Argv) == 0 || cmd.Argv[0] == "" {
		return errors.New("command without a name")
	}
	if slices.ContainsFunc(cmd.Argv, func(arg string) bool { return strings.ContainsRune(arg, 0) }) {
		return fmt.Errorf("%s: an argument holds a NUL byte", cmd.Argv[0])
	}
	return nil
}

// Tail keeps the last MaxTail bytes of b.
func Tail(b []byte) []byte {
	if n := len(b) - MaxTail; n > 0 {
		return append(b[:0], b[n:]...)
	}
	return b
}

// Output is a command's standard output: it goes to the command's Stdout or, without one, is kept.
type Output struct {
	mu   sync.Mutex
	to   io.Writer // nil: kept
	kept bytes.Buffer
	done bool
}

// NewOutput returns an Output for a command.
func NewOutput(cmd host.Cmd) *Output { return &Output{to: cmd.Stdout} }

// Write never fails, so that a command is not held up by a listener that has gone.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.done:
	case o.to == nil:
		o.kept.Write(b)
	default:
		if _, err := o.to.Write(b); err != nil {
			o.done = true
		}
	}
	return len(b), nil
}

// End ends the output, and returns what was kept. Whatever still comes is dropped.
func (o *Output) End() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = true
	return o.kept.Bytes()
}

// Input is a command's standard input.
type Input struct {
	r      io.Reader     // nil: empty
	err    error         // set before failed is closed
	failed chan struct{} // closed when reading failed
}

// NewInput returns an Input that reads r; nil is empty.
func NewInput(r io.Reader) *Input { return &Input{r: r, failed: make(chan struct{})} }

// Feed writes all of the input to a command and closes the pipe. An input that fails is no end of input: the command would
// take what came so far for all of it. So then the pipe stays open, Failed tells, and the command is to be ended.
func (in *Input) Feed(pipe io.WriteCloser) {
	if in.r != nil {
		if _, err := io.Copy(pipe, reader{in}); err != nil {
			return // in.err, or the command has ended without reading all
		}
	}
	pipe.Close()
}

// Failed is closed when the input could not be read; Err is why.
func (in *Input) Failed() <-chan struct{} { return in.failed }

// Err is why the input could not be read, once Failed is closed.
func (in *Input) Err() error { return fmt.Errorf("standard input: %w", in.err) }

// reader tells a failure of the input from a failure of the pipe, which io.Copy does not.
type reader struct{ in *Input }

func (r reader) Read(b []byte) (int, error) {
	n, err := r.in.r.Read(b)
	if err != nil && err != io.EOF {
		r.in.err = err
		close(r.in.failed) // io.Copy does not read again
	}
	return n, err
}
