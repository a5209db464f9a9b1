package ssh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/internal/command"
	"github.com/myadm/myadm/host/ssh/quote"
)

const (
	pidMark = "myadm-pid " // begins the line of error output that tells the process id

	preamble = command.Surroundings + "echo " + pidMark + `$$ >&2; exec "$@"`

	// maxLine is Linux's limit for one argument (MAX_ARG_STRLEN); sshd hands the whole line to the shell as one.
	maxLine = 128<<10 - 1
)

// line is what the login shell is given to run an argv by a script, as root.
func (h *Host) line(script string, argv ...string) string {
	return "exec " + quote.Argv(slices.Concat(h.become, []string{"/bin/sh", "-c", script, "sh"}, argv)...)
}

// Query runs a command that changes nothing.
func (h *Host) Query(ctx context.Context, cmd host.Cmd) ([]byte, error) { return h.Run(ctx, cmd) }

// Run runs a command as root. At most seven run at once; more wait for their turn.
func (h *Host) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	if err := command.Check(cmd); err != nil {
		return nil, err
	}
	line := h.line(preamble, cmd.Argv...)
	if len(line) > maxLine {
		return nil, fmt.Errorf("%s: the command line has %d bytes, more than %d; hint: use standard input", cmd.Argv[0], len(line), maxLine)
	}
	p, err := h.start(ctx, line, cmd)
	if err != nil {
		return nil, err
	}
	err = p.wait(ctx)
	out := p.stdout.End()
	var exit *host.ExitError
	switch {
	case err == nil:
		return out, nil
	case errors.As(err, &exit):
		exit.Argv = cmd.Argv
		return out, exit
	default:
		return nil, fmt.Errorf("%s: %w", cmd.Argv[0], err)
	}
}

// start starts a command line. A host that is short of sessions (MaxSessions) makes it wait for another command to end.
func (h *Host) start(ctx context.Context, line string, cmd host.Cmd) (*process, error) {
	select {
	case h.commands <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-h.alive.Done():
		return nil, h.lost()
	}
	p, err := h.open(ctx, line, cmd)
	if err != nil {
		<-h.commands
		return nil, h.blame(ctx, err)
	}
	return p, nil
}

func (h *Host) open(ctx context.Context, line string, cmd host.Cmd) (*process, error) {
	s, err := h.sessionInTurn(ctx)
	if err != nil {
		return nil, err
	}
	p := &process{
		h: h, session: s, stdout: command.NewOutput(cmd), stderr: &errorOutput{pids: make(chan int, 1)},
		stdin: command.NewInput(cmd.Stdin), started: make(chan struct{}), done: make(chan error, 1),
	}
	s.Stdout, s.Stderr = p.stdout, p.stderr
	pipe, err := s.StdinPipe()
	if err != nil {
		s.Close()
		return nil, err
	}
	// Not even the start is waited for here: when ctx ends while it is under way, wait sees to it that it ends.
	go func() {
		err := s.Start(line)
		close(p.started)
		if err == nil {
			go p.feed(pipe)
			err = s.Wait()
		}
		s.Close()
		<-h.commands
		p.done <- err
	}()
	return p, nil
}

// sessionInTurn opens a session. The host may allow fewer than we count on, and counts one that has just ended for a
// moment longer than we do.
func (h *Host) sessionInTurn(ctx context.Context) (*ssh.Session, error) {
	const patience = 30 * time.Second
	deadline := time.Now().Add(patience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second/2) {
		s, err := h.session(ctx)
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) {
			return s, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s: no further session: %w; hint: raise MaxSessions in the host's sshd_config", h.name, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-h.alive.Done():
			return nil, h.lost()
		}
	}
}
