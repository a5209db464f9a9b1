// Command lab makes hosts on this machine to try myadm on. See package lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	// A command that ran on a host has said itself what went wrong.
	var remote remoteError
	if errors.As(err, &remote) {
		os.Exit(remote.code)
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	if ctx.Err() != nil {
		os.Exit(130)
	}
	os.Exit(1)
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
