package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// line is what a command wrote, and when.
type line struct {
	at   time.Duration // since the command's start
	text string
}

// stampedLines keeps the lines written to it, each with the time at which it was complete.
type stampedLines struct {
	start time.Time
	lines []line
	rest  []byte
}

func (s *stampedLines) Write(p []byte) (int, error) {
	at := time.Since(s.start)
	s.rest = append(s.rest, p...)
	for {
		text, rest, found := bytes.Cut(s.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		s.lines = append(s.lines, line{at, string(text)})
		s.rest = rest
	}
}

// lastLines is how much of what a command wrote is in its error.
const lastLines = 15

// execute runs a command and returns what it wrote, to either output, and how long it took. A Ctrl-C ends it politely.
func execute(ctx context.Context, argv ...string) ([]line, time.Duration, error) {
	return feed(ctx, nil, argv...)
}

// feed is execute of a command that reads something; nil is nothing.
func feed(ctx context.Context, in io.Reader, argv ...string) ([]line, time.Duration, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = in
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out := &stampedLines{start: time.Now()}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	took := time.Since(out.start)
	if err != nil {
		var said strings.Builder
		for _, l := range out.lines[max(0, len(out.lines)-lastLines):] {
			fmt.Fprintf(&said, "\n  %5.1f  %s", l.at.Seconds(), l.text)
		}
		return out.lines, took, fmt.Errorf("%s: %w, after %.1f s:%s", strings.Join(argv, " "), err, took.Seconds(), said.String())
	}
	return out.lines, took, nil
}
