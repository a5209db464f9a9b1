package cmd

import (
	"context"
	"errors"
	"testing"

	"github.com/myadm/myadm/lock"
)

// A run whose lock was taken tells of that alone; of one that was cut off, what failed is told as well, and nothing twice.
func TestLostLock(t *testing.T) {
	stopped, cut := errors.New("h1: context canceled"), errors.New("connection lost")
	taken, lost := &lock.LostError{By: lock.Record{User: "bob"}}, &lock.LostError{Err: cut}
	for _, tt := range []struct {
		name       string
		cause, err error
		code       int
		says       string
	}{
		{"nothing", nil, stopped, 1, "h1: context canceled"},
		{"taken", taken, stopped, 5, taken.Error()},
		{"taken when all was done", taken, nil, 5, taken.Error()},
		{"cut off", lost, stopped, 1, "h1: context canceled\n" + lost.Error()},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		if tt.cause != nil {
			cancel(tt.cause)
		}
		err := lostLock(ctx, lostLock(ctx, tt.err))
		if err == nil || err.Error() != tt.says || exitCode(t.Context(), err) != tt.code {
			t.Errorf("%s: code %d, %v", tt.name, exitCode(t.Context(), err), err)
		}
		cancel(nil)
	}
}
