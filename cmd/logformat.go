package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/myadm/myadm/debuglog"
	"github.com/myadm/myadm/workflow"
)

// logFormat is --log-format: how stderr is written.
type logFormat string

const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

// String implements pflag.Value.
func (f *logFormat) String() string {
	if *f == "" {
		return string(logText)
	}
	return string(*f)
}

// Set implements pflag.Value.
func (f *logFormat) Set(s string) error {
	if s != string(logText) && s != string(logJSON) {
		return fmt.Errorf("it is text or json")
	}
	*f = logFormat(s)
	return nil
}

// Type implements pflag.Value.
func (f *logFormat) Type() string { return "format" }

// jsonHandler writes JSON, an object a line; docs/watching.md tells its fields.
func jsonHandler(w io.Writer, mask func(string) string) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: debuglog.MaskAttrs(mask)})
}

// eventLevels are those of events that are not merely for the curious.
var eventLevels = map[workflow.Kind]slog.Level{
	workflow.PhaseStarted: slog.LevelInfo, workflow.PhaseEnded: slog.LevelInfo, workflow.Unchanged: slog.LevelInfo,
	workflow.Applied: slog.LevelInfo, workflow.Doing: slog.LevelInfo, workflow.Warning: slog.LevelWarn, workflow.Failed: slog.LevelError,
}

// logEvent writes an event as a record, and each change that is about to be made as one of its own.
func logEvent(h slog.Handler, e workflow.Event) {
	level, ok := eventLevels[e.Kind]
	if !ok {
		level = slog.LevelDebug
	}
	record(h, e.Time, level, string(e.Kind), eventAttrs(e)...)
	if e.Kind != workflow.Applying {
		return
	}
	for _, c := range e.Changes {
		attrs := append(placeAttrs(e.Phase, e.Host), slog.String("action", string(c.Action)), slog.String("object", c.Object))
		if c.Detail != "" {
			attrs = append(attrs, slog.String("detail", c.Detail))
		}
		record(h, e.Time, slog.LevelDebug, "change", attrs...)
	}
}

func record(h slog.Handler, at time.Time, level slog.Level, msg string, attrs ...slog.Attr) {
	ctx := context.TODO() //nolint:forbidigo // a handler that writes to a file waits for nothing
	if !h.Enabled(ctx, level) {
		return
	}
	r := slog.NewRecord(at, level, msg, 0)
	r.AddAttrs(attrs...)
	_ = h.Handle(ctx, r) // a log that cannot be written stops nothing
}

func placeAttrs(phase, host string) []slog.Attr {
	attrs := []slog.Attr{slog.String("phase", phase)}
	if host != "" {
		attrs = append(attrs, slog.String("host", host))
	}
	return attrs
}

func eventAttrs(e workflow.Event) []slog.Attr {
	attrs := placeAttrs(e.Phase, e.Host)
	switch e.Kind {
	case workflow.PhaseStarted:
		return append(attrs, slog.Int("hosts", e.Hosts))
	case workflow.Applying, workflow.Applied, workflow.Unchanged:
		attrs = append(attrs, slog.Int("changes", len(e.Changes)))
	case workflow.Progress:
		attrs = append(attrs, slog.Int64("done", e.Done), slog.Int64("total", e.Total))
	}
	if e.Message != "" {
		attrs = append(attrs, slog.String("detail", e.Message))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	return append(attrs, slog.Float64("elapsed", e.Elapsed.Seconds()))
}

// errorAttrs are those of an error that a command ends with.
func errorAttrs(err error) []any {
	text, hint, _ := strings.Cut(err.Error(), "; hint: ")
	attrs := []any{"error", text}
	if hint != "" {
		attrs = append(attrs, "hint", hint)
	}
	if of := new(workflow.PhaseError); errors.As(err, &of) {
		for _, a := range placeAttrs(of.Phase, of.Host) {
			attrs = append(attrs, a)
		}
	}
	return attrs
}

// jsonView writes every event as JSON, and progress once in a while.
type jsonView struct {
	handler slog.Handler
	mu      sync.Mutex
	pace    pace
}

func (v *jsonView) report(e workflow.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.Kind != workflow.Progress || v.pace.due(e) {
		logEvent(v.handler, e)
	}
}

// pace says when progress is to be told: not what comes first, as it may be the last, and then every few seconds.
type pace struct{ told map[string]time.Time } // by phase and host

// progressEvery is how often a log hears of what is still under way.
const progressEvery = 5 * time.Second

func (p *pace) due(e workflow.Event) bool {
	if p.told == nil {
		p.told = map[string]time.Time{}
	}
	key := e.Phase + " " + e.Host
	last, ok := p.told[key]
	if ok && e.Time.Sub(last) < progressEvery {
		return false
	}
	p.told[key] = e.Time
	return ok
}
