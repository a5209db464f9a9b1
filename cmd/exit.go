package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/join"
	"github.com/myadm/myadm/lock"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

// The exit codes, as the root's help tells them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPreflight   = 3
	exitChanges     = 4
	exitLocked      = 5
	exitInterrupted = 130
)

// usageError is a command line or a configuration that is wrong: nothing was tried.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// toldError is an error that the command has told itself, as a part of its result.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

// errChanges is that --exit-code was given and there is something to do. It is an answer and not told as an error.
var errChanges = errors.New("there is something to do")

func exitCode(ctx context.Context, err error) int {
	var (
		usage   usageError
		invalid config.Errors
		unknown *workflow.UnknownPhaseError
		refused *phases.PreflightError
		held    *lock.HeldError
		lost    *lock.LostError
	)
	switch {
	case err == nil:
		return exitDone
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &invalid), errors.As(err, &unknown), errors.Is(err, join.ErrNoToken):
		return exitUsage
	case errors.As(err, &refused):
		return exitPreflight
	case errors.As(err, &held), errors.As(err, &lost) && lost.Taken():
		return exitLocked
	case err == errChanges: //nolint:errorlint // joined with a failure, it is a failure
		return exitChanges
	}
	return exitFailed
}

// printError prints every error that was joined as one of its own, each on a line, hints on lines below.
func printError(w io.Writer, err error, mask func(string) string) {
	var told toldError
	if err == errChanges || errors.As(err, &told) { //nolint:errorlint // as above
		return
	}
	for _, e := range flatten(err) {
		fmt.Fprintf(w, "error: %s\n", hintBelow(mask(e.Error())))
	}
}

// printWarning prints what does not stop a command as printError does what stops one.
func printWarning(w io.Writer, err error) { fmt.Fprintf(w, "warning: %s\n", hintBelow(err.Error())) }

func hintBelow(text string) string { return strings.ReplaceAll(text, "; hint: ", "\n  hint: ") }

// flatten takes apart what was joined. An error whose text says more than its parts do is kept whole.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	var lines []string
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
		lines = append(lines, e.Error())
	}
	if err.Error() != strings.Join(lines, "\n") {
		return []error{err}
	}
	return all
}
