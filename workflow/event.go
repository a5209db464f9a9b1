package workflow

import (
	"context"
	"time"
)

// Kind tells what an Event is about.
type Kind string

// The kinds of events, in the order in which a phase gives them.
const (
	PhaseStarted Kind = "phase-started"
	Checking     Kind = "checking"  // on a host: it is looked at
	Unchanged    Kind = "unchanged" // on a host: there was nothing to do
	Applying     Kind = "applying"  // on a host: Changes are being made
	Progress     Kind = "progress"  // on a host: Done of Total
	Doing        Kind = "doing"     // on a host: Message is what it has come to
	Warning      Kind = "warning"   // on a host: Message
	Applied      Kind = "applied"   // on a host: Changes are made
	Failed       Kind = "failed"    // on a host: Err
	PhaseEnded   Kind = "phase-ended"
)

// Event is one thing that happened in a run.
type Event struct {
	Time    time.Time
	Kind    Kind
	Phase   string
	Short   string // of PhaseStarted: the phase's few words
	Hosts   int    // of PhaseStarted: how many hosts it has; zero for a phase on the cluster itself
	Host    string // empty for a phase on the cluster itself
	Changes []Change
	Message string
	Done    int64 // of Progress: bytes, of Total
	Total   int64
	Err     error
	Elapsed time.Duration // since the phase started, on this host
}

// Reporter is told of events, from several goroutines at once.
type Reporter func(Event)

type sinkKey struct{}

func withSink(ctx context.Context, sink func(Event)) context.Context {
	return context.WithValue(ctx, sinkKey{}, sink)
}

func emit(ctx context.Context, e Event) {
	if sink, ok := ctx.Value(sinkKey{}).(func(Event)); ok {
		sink(e)
	}
}

// ReportProgress tells of bytes moved, from within a Check or an Apply. message names what moves.
func ReportProgress(ctx context.Context, message string, done, total int64) {
	emit(ctx, Event{Kind: Progress, Message: message, Done: done, Total: total})
}

// Tell tells what a long Apply has come to, such as "drain", from within it.
func Tell(ctx context.Context, message string) {
	emit(ctx, Event{Kind: Doing, Message: message})
}

// Warn tells of something that the user should know and that stops nothing, from within a Check or an Apply.
func Warn(ctx context.Context, message string) {
	emit(ctx, Event{Kind: Warning, Message: message})
}
