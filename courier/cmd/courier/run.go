package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/myadm/myadm/courier/wire"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1 // a blob or a target failed, or the program was ended
	exitUsage  = 2 // the request is wrong
)

// endWait is how long the program may take to end. A disk or a reader of the output that hangs does not keep it.
const endWait = 5 * time.Second

// errClosed ends the work: nobody is there to wait for it.
var errClosed = errors.New("standard input was closed")

// run carries out a command and returns the exit status. abort ends the program as it is.
func run(ctx context.Context, args []string, in io.Reader, w io.Writer, abort func()) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &output{w: w, broken: cancel}
	if len(args) != 1 {
		out.emit(wire.Error{Text: "usage: courier fetch|serve|probe, with the request on standard input"})
		return exitUsage
	}

	type read struct {
		request wire.Request
		err     error
	}
	requests := make(chan read, 1)
	offers := make(chan offered)
	go func() {
		input := wire.NewInput(in)
		request, err := input.Request(args[0])
		requests <- read{request, err}
		if err != nil {
			return
		}
		if _, ok := request.(*wire.Serve); !ok || handOn(ctx, input, offers) {
			input.Wait()
			cancel(errClosed)
		}
	}()
	context.AfterFunc(ctx, func() { time.AfterFunc(endWait, abort) })

	var got read
	select {
	case got = <-requests:
	case <-ctx.Done():
		got.err = context.Cause(ctx)
	}
	if got.err != nil {
		out.emit(wire.Error{Text: got.err.Error()})
		return exitUsage
	}
	failed, err := carryOut(ctx, got.request, offers, out)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("ended before it was done: %w", context.Cause(ctx))
	}
	if err != nil {
		last := wire.Error{Text: err.Error()}
		var fault *fault
		if errors.As(err, &fault) {
			last.Cause = fault.cause
		}
		out.emit(last)
		return exitFailed
	}
	if failed > 0 {
		return exitFailed
	}
	return exitDone
}

// carryOut returns how many blobs or targets failed.
func carryOut(ctx context.Context, request wire.Request, offers <-chan offered, out *output) (int, error) {
	switch r := request.(type) {
	case *wire.Fetch:
		return fetch(ctx, r, out)
	case *wire.Serve:
		return 0, serve(ctx, r, offers, out)
	case *wire.Probe:
		return probe(ctx, r, out)
	default:
		return 0, fmt.Errorf("command %s is not known", request.Command())
	}
}

// output writes events, of many goroutines. When that fails, nobody reads them and the work ends.
type output struct {
	mu     sync.Mutex
	w      io.Writer
	ended  bool
	broken func(error)
}

// emit writes an event. After the last one, nothing is written any more.
func (o *output) emit(e wire.Event) {
	line, err := wire.Line(e)
	if err == nil {
		err = o.write(line, wire.Last(e))
	}
	if err != nil {
		o.broken(fmt.Errorf("standard output: %w", err))
	}
}

func (o *output) write(line []byte, last bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return nil
	}
	o.ended = last
	_, err := o.w.Write(line)
	return err
}
