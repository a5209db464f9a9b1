package local

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/internal/command"
)

// endWait is how long a command has between TERM and KILL, and how long its output is waited for when it has ended and
// something that it started holds on to it.
const endWait = 2 * time.Second

// Query runs a command that changes nothing.
func (h *Host) Query(ctx context.Context, cmd host.Cmd) ([]byte, error) { return h.Run(ctx, cmd) }

// Run runs a command in a process group of its own, which ends as a whole when ctx does. The shell in between, which sets
// up the surroundings, is replaced by the command.
func (h *Host) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	if err := start(ctx, command.Check(cmd)); err != nil {
		return nil, err
	}
	stdout := command.NewOutput(cmd)
	defer stdout.End()
	var stderr tail
	c := exec.Command("/bin/sh", append([]string{"-c", command.Surroundings + `exec "$@"`, "sh"}, cmd.Argv...)...)
	c.Env = []string{"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh"}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Stdout, c.Stderr, c.WaitDelay = stdout, &stderr, endWait
	pipe, err := c.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmd.Argv[0], err)
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", cmd.Argv[0], err)
	}
	input := command.NewInput(cmd.Stdin)
	go input.Feed(pipe)
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()

	select {
	case err := <-ended:
		return stdout.End(), outcome(cmd, err, &stderr)
	case <-input.Failed():
		end(c, ended)
		return nil, fmt.Errorf("%s: %w", cmd.Argv[0], input.Err())
	case <-ctx.Done():
		end(c, ended)
		return nil, fmt.Errorf("%s: %w", cmd.Argv[0], context.Cause(ctx))
	}
}

// end ends the process group, with force what does not listen, and waits until the command is gone. A group keeps its
// number from being used again for as long as it has a member.
func end(c *exec.Cmd, ended <-chan error) {
	group := -c.Process.Pid
	syscall.Kill(group, syscall.SIGTERM) //nolint:errcheck // it has just ended
	select {
	case <-ended: //nolint:errcheck // that it ended is what was wanted
		syscall.Kill(group, syscall.SIGKILL) //nolint:errcheck // nothing of it is left
	case <-time.After(endWait):
		syscall.Kill(group, syscall.SIGKILL) //nolint:errcheck // it has just ended
		<-ended                              //nolint:errcheck // that it ended is what was wanted
	}
}

func outcome(cmd host.Cmd, err error, stderr *tail) error {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it ended well, and left something running
		return nil
	case errors.As(err, &exit):
		code := exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = 128 + int(status.Signal())
		}
		return &host.ExitError{Argv: cmd.Argv, Code: code, Stderr: stderr.kept}
	default:
		return fmt.Errorf("%s: %w", cmd.Argv[0], err)
	}
}

// tail keeps the last part of a command's error output.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = command.Tail(append(t.kept, b...))
	return len(b), nil
}
