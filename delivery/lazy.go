package delivery

import (
	"context"
	"sync"
)

// lazy is a value that is made when it is first asked for, once. An error is kept as well, unless it is that the one who
// asked did not wait for it.
type lazy[T any] struct {
	once  sync.Once
	turn  chan struct{}
	made  bool
	value T
	err   error
}

func (l *lazy[T]) get(ctx context.Context, make_ func(context.Context) (T, error)) (T, error) {
	l.once.Do(func() { l.turn = make(chan struct{}, 1) })
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
	defer func() { <-l.turn }()
	if l.made {
		return l.value, l.err
	}
	value, err := make_(ctx)
	if err != nil && ctx.Err() != nil {
		return value, err
	}
	l.made, l.value, l.err = true, value, err
	return value, err
}
