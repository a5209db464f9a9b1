package delivery

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

func TestLazy(t *testing.T) {
	broken := errors.New("broken")
	for _, want := range []error{nil, broken} {
		var l lazy[int]
		var made atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				got, err := l.get(t.Context(), func(context.Context) (int, error) { return int(made.Add(1)), want })
				if got != 1 || !errors.Is(err, want) {
					t.Errorf("%d, %v; want 1, %v", got, err, want)
				}
			})
		}
		all.Wait()
	}
}

// The one who asks first may go before there is a value. Others are not kept from it.
func TestLazyCancelled(t *testing.T) {
	var l lazy[int]
	ctx, cancel := context.WithCancel(t.Context())
	making, first := make(chan struct{}), make(chan error)
	go func() {
		_, err := l.get(ctx, func(ctx context.Context) (int, error) {
			close(making)
			<-ctx.Done()
			return 0, context.Cause(ctx)
		})
		first <- err
	}()
	<-making
	gone, goes := context.WithCancel(t.Context())
	goes()
	if _, err := l.get(gone, func(context.Context) (int, error) { return 1, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("one that waits and goes: %v", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got, err := l.get(t.Context(), func(context.Context) (int, error) { return 2, nil }); got != 2 || err != nil {
		t.Errorf("%d, %v; want what is made now", got, err)
	}
}
