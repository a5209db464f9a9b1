// Package delay is a line that takes time: what is written at one end comes out at the other one a while later, as fast as
// it went in. It stands for distance, where the kernel has no netem.
package delay

import (
	"bytes"
	"context"
	"io"
	"time"
)

const (
	// part is how much is read at once.
	part = 32 << 10

	// window is how many parts are on a line at most: 32 MiB if they are full, which at 50 ms is 640 MB/s. A sender that is
	// faster is held up, as by TCP's window.
	window = 1024
)

// packet is what was read at once.
type packet struct {
	data []byte
	due  time.Time
}

// Carry moves what from says to to, each byte no sooner than delay after it was read, until from ends. It returns nil when
// from has ended and all that it said was written, else the first error. When it returns early, a Read of from may still be
// under way: closing from ends it.
func Carry(ctx context.Context, to io.Writer, from io.Reader, delay time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	room := window
	if delay <= 0 {
		room = 0 // a line without a length holds nothing
	}
	packets, ended := make(chan packet, room), make(chan error, 1)
	go func() {
		defer close(packets)
		ended <- read(ctx, packets, from, delay)
	}()
	for p := range packets {
		if err := Wait(ctx, time.Until(p.due)); err != nil {
			return err
		}
		if len(p.data) == 0 { // the end
			continue
		}
		if _, err := to.Write(p.data); err != nil {
			return err
		}
	}
	return <-ended
}

// read puts what from says on the line, and its end, which takes as long.
func read(ctx context.Context, packets chan<- packet, from io.Reader, delay time.Duration) error {
	buffer := make([]byte, part)
	for {
		n, err := from.Read(buffer)
		if n > 0 || err == io.EOF {
			select {
			case packets <- packet{bytes.Clone(buffer[:n]), time.Now().Add(delay)}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Wait waits for a time to pass, or returns why ctx has ended.
func Wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
