// Package debuglog keeps a log of every run in the user's state folder, for the day on which one has failed.
//
// Each run has a file of its own, TIME-COMMAND-PID.log, which only its owner can read; old ones are removed. Its lines are
// those of log/slog's text form, key=value, so that they can be read and searched. Secrets are masked as they are written.
package debuglog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Limits of what is kept, besides the log of the run itself.
const (
	maxFiles = 50
	maxBytes = 100 << 20
)

const suffix = ".log"

// Dir is the folder of the logs: $XDG_STATE_HOME/myadm/logs, by default ~/.local/state/myadm/logs (XDG Base Directory
// Specification 0.8: a path that is not absolute is to be ignored).
func Dir() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find a folder for the debug log: %w; hint: set XDG_STATE_HOME or HOME", err)
		}
		if !filepath.IsAbs(home) {
			return "", fmt.Errorf("find a folder for the debug log: HOME is %q, which is not absolute; hint: set XDG_STATE_HOME", home)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "myadm", "logs"), nil
}

// Log is the log of a run.
type Log struct {
	*slog.Logger
	file *os.File
}

// Options say of which run a log is.
type Options struct {
	Dir     string // of Dir
	Command string // such as "upgrade apply"
	Time    time.Time
	PID     int
	Mask    func(string) string // takes secrets out of text
}

// Open begins a log and removes old ones.
func Open(o Options) (*Log, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("debug log: %w", err)
	}
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("debug log: %w", err)
	}
	name := fmt.Sprintf("%s-%s-%d%s", o.Time.UTC().Format("20060102T150405Z"), strings.ReplaceAll(o.Command, " ", "-"), o.PID, suffix)
	f, err := os.OpenFile(filepath.Join(o.Dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("debug log: %w", err)
	}
	prune(o.Dir, name)
	// A record is one write: what was logged before a crash is there.
	handler := slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: MaskAttrs(o.Mask)})
	return &Log{Logger: slog.New(handler), file: f}, nil
}

// Path is the log's file.
func (l *Log) Path() string { return l.file.Name() }

// Close ends the log.
func (l *Log) Close() error { return l.file.Close() }

// MaskAttrs is slog.HandlerOptions' ReplaceAttr, and masks every text and every error.
func MaskAttrs(mask func(string) string) func(groups []string, a slog.Attr) slog.Attr {
	return func(_ []string, a slog.Attr) slog.Attr {
		switch v := a.Value.Any().(type) {
		case string:
			a.Value = slog.StringValue(mask(v))
		case error:
			a.Value = slog.StringValue(mask(v.Error()))
		}
		return a
	}
}

// prune removes the oldest logs that are more, or more in bytes, than is kept. Names begin with the time, and so their order
// is that of the runs. What cannot be removed stays: it is no reason not to run.
func prune(dir, own string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	slices.Reverse(entries)
	kept, bytes := 0, int64(0)
	for _, e := range entries {
		if e.Name() == own || !strings.HasSuffix(e.Name(), suffix) || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // another run prunes, too
			continue
		}
		if err != nil {
			return
		}
		kept, bytes = kept+1, bytes+info.Size()
		if kept >= maxFiles || bytes > maxBytes {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
