// Command lab makes hosts on this machine to try myadm on. See package lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	os.Exit(report(os.Stderr, err, ctx.Err() != nil))
}

// report says what went wrong and returns the exit code: 0 done, 1 failed, 130 interrupted, or that of a command that
// ran on a host, which has said itself what went wrong.
func report(out io.Writer, err error, interrupted bool) int {
	if err == nil {
		return 0
	}
	var remote remoteError
	if errors.As(err, &remote) {
		return remote.code
	}
	fmt.Fprintln(out, "lab:", err)
	if interrupted {
		return 130
	}
	return 1
}

// remoteError is the end of a command on a host, whose exit code becomes lab's own.
type remoteError struct{ code int }

func (e remoteError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// asRemote tells a command that failed on a host from a host that could not run it.
func asRemote(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return remoteError{code: exit.ExitCode()}
	}
	return err
}
