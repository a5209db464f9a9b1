package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/join"
	"github.com/myadm/myadm/lock"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/workflow"
)

func TestExitCodes(t *testing.T) {
	refused := &phases.PreflightError{Findings: []phases.Finding{{Name: "Swap", Fatal: true, Message: "swap is on"}}}
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"done", nil, 0},
		{"failed", errors.New("no route to host"), 1},
		{"wrong flag", usageError{errors.New("unknown flag")}, 2},
		{"wrong document", config.Errors{{File: "c.yaml", Line: 1, Message: "unknown field"}}, 2},
		{"unknown phase", errors.Join(&workflow.UnknownPhaseError{Name: "x"}), 2},
		{"no token", fmt.Errorf("w-1: %w", join.ErrNoToken), 2},
		{"refused by preflight", errors.Join(&workflow.PhaseError{Phase: "preflight", Host: "w-1", Err: refused}), 3},
		{"locked by somebody", errors.Join(errors.New("no route to host"), &lock.HeldError{}), 5},
		{"its lock was taken", &lock.LostError{By: lock.Record{User: "bob"}}, 5},
		{"its lock was lost with the connection", errors.Join(errors.New("connection lost"), &lock.LostError{Err: errors.New("connection lost")}), 1},
		{"refused by preflight, and a host that is away", errors.Join(errors.New("no route to host"), &workflow.PhaseError{Phase: "preflight", Err: refused}), 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := exitCode(t.Context(), tt.err); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if got := exitCode(stopped, errors.New("stopped")); got != 130 {
		t.Errorf("interrupted: got %d", got)
	}
	if got := exitCode(stopped, nil); got != 0 {
		t.Errorf("interrupted when all was done: got %d", got)
	}
}

func TestErrorsArePrintedOneByOne(t *testing.T) {
	inner := errors.New("connection refused")
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"one", errors.New("no host"), "error: no host\n"},
		{"with a hint", errors.New("no host; hint: name one"), "error: no host\n  hint: name one\n"},
		{"joined", errors.Join(errors.New("a; hint: b"), nil, errors.Join(errors.New("c"), errors.New("d"))), "error: a\n  hint: b\nerror: c\nerror: d\n"},
		{"of a document", config.Errors{{File: "c.yaml", Line: 2, Column: 3, Path: "spec.x", Message: "unknown field", Hint: "y"}, {Message: "z"}},
			"error: c.yaml:2:3: spec.x: unknown field\n  hint: y\nerror: z\n"},
		{"one that wraps two", fmt.Errorf("stopped after %w; before that: %w", context.DeadlineExceeded, inner),
			"error: stopped after context deadline exceeded; before that: connection refused\n"},
		{"of a phase", errors.Join(&workflow.PhaseError{Phase: "certs", Host: "cp-1", Err: inner}), "error: cp-1: certs: connection refused\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			printError(&b, tt.err, func(s string) string { return s })
			if b.String() != tt.want {
				t.Errorf("got\n%swant\n%s", b.String(), tt.want)
			}
		})
	}
}
