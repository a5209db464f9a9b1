package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/internal/command"
)

// process is a command on the host.
type process struct {
	h       *Host
	session *ssh.Session
	stdout  *command.Output
	stderr  *errorOutput
	stdin   *command.Input
	started chan struct{} // closed when the host has answered that it starts, or does not
	done    chan error    // how it ended
}

// endWait is how long a command has between TERM and KILL, and to be gone after that.
const endWait = 2 * time.Second

// feed writes sudo's password and then the command's input.
func (p *process) feed(pipe io.WriteCloser) {
	if _, err := pipe.Write(p.h.password); err == nil { // or the command has ended
		p.stdin.Feed(pipe)
	}
}

// wait waits for the command to end, and ends it when ctx does or when its input fails.
func (p *process) wait(ctx context.Context) error {
	var pid int
	pids := p.stderr.pids
	for {
		select {
		case pid = <-pids:
			p.h.warden.tell("+", pid)
			pids = nil
		case err := <-p.done:
			if pid != 0 {
				p.h.warden.tell("-", pid)
			}
			return p.outcome(ctx, err)
		case <-p.stdin.Failed():
			p.giveUp(pid)
			return p.stdin.Err()
		case <-ctx.Done():
			p.giveUp(pid)
			return context.Cause(ctx)
		case <-p.h.alive.Done():
			return p.h.lost()
		}
	}
}

// answerWait is how long a host has to answer that a command starts before nobody waits for its end.
const answerWait = time.Second

// giveUp ends the command. A host that has not even answered that it starts may be silent, and is not waited for; should it
// answer later, the command is ended then.
func (p *process) giveUp(pid int) {
	ended := make(chan struct{})
	go func() {
		p.end(pid)
		close(ended)
	}()
	select {
	case <-p.started:
		<-ended
	case <-ended:
	case <-time.After(answerWait):
	}
}

// end has the warden end the command, and waits until it is gone.
func (p *process) end(pid int) {
	defer p.session.Close()
	for _, order := range []string{"TERM", "KILL"} {
		timeout := time.After(endWait)
		if pid != 0 {
			p.h.warden.tell(order, pid)
		}
		for waiting := true; waiting; {
			select {
			case pid = <-p.stderr.pids: // it had only just started
				p.h.warden.tell("+", pid)
				p.h.warden.tell(order, pid)
			case <-p.done: //nolint:errcheck // that it ended is what was wanted
				if pid != 0 {
					p.h.warden.tell("-", pid)
				}
				return
			case <-p.h.alive.Done():
				return
			case <-timeout:
				waiting = false
			}
		}
	}
}

// outcome turns the end of a session into the error of Run.
func (p *process) outcome(ctx context.Context, err error) error {
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && !p.stderr.started():
		if len(p.h.become) > 0 {
			return &SudoError{Host: p.h.name, User: p.h.user, Reason: SudoFailed, Said: string(bytes.TrimSpace(p.stderr.tail()))}
		}
		return fmt.Errorf("%s: the login shell ran nothing: %s", p.h.name, bytes.TrimSpace(p.stderr.tail()))
	case errors.As(err, &exit):
		code := exit.ExitStatus()
		if n, ok := signals[exit.Signal()]; ok {
			code = 128 + n
		}
		return &host.ExitError{Code: code, Stderr: p.stderr.tail()}
	case errors.As(err, &missing):
		err = errors.New("the session ended without an exit status")
	}
	return p.h.blame(ctx, err)
}

// signals are the numbers of those that SSH names (RFC 4254, section 6.10), on Linux.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13,
	"ALRM": 14, "TERM": 15,
}

// errorOutput keeps the last part of a command's error output. What comes before the line with the process id is noise
// of the login shell or of sudo, unless that line never comes: then it is the reason.
type errorOutput struct {
	pids chan int // gets the process id

	mu   sync.Mutex
	ran  bool
	kept []byte
}

func (e *errorOutput) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kept = append(e.kept, b...)
	if !e.ran {
		e.look()
	}
	e.kept = command.Tail(e.kept)
	return len(b), nil
}

// look finds the line with the process id.
func (e *errorOutput) look() {
	rest := e.kept
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			return
		}
		if number, ok := bytes.CutPrefix(line, []byte(pidMark)); ok {
			if pid, err := strconv.Atoi(string(number)); err == nil {
				e.ran, e.kept = true, after
				e.pids <- pid
				return
			}
		}
		rest = after
	}
}

func (e *errorOutput) started() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ran
}

func (e *errorOutput) tail() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return bytes.Clone(e.kept)
}
