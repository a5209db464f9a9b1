// Package trace is a host that writes what it is asked into a log: every command with its exit code and every file with
// its size, each with its time, and nothing of their content. What goes to a command's standard input is not logged, nor
// what comes out of it, but for the error output of a command that fails, which is part of its error.
package trace

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/ssh/quote"
)

// Host is a host with a log.
type Host struct {
	inner host.Host
	log   *slog.Logger
}

var _ host.Host = (*Host)(nil)

// New has all that is asked of h be logged, at level debug. The records have the attributes host, elapsed (seconds), error
// when there is one, and what the call is about: command and code, path, paths, bytes.
func New(h host.Host, log *slog.Logger) *Host {
	return &Host{inner: h, log: log.With("host", h.Name())}
}

// maxWord is how many bytes of a command's argument are logged: some are whole scripts.
const maxWord = 300

// note logs a call that has ended.
func (t *Host) note(ctx context.Context, began time.Time, what string, err error, attrs ...slog.Attr) {
	attrs = append(attrs, slog.Float64("elapsed", time.Since(began).Seconds()))
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	t.log.LogAttrs(ctx, slog.LevelDebug, what, attrs...)
}

// Name implements host.Reader.
func (t *Host) Name() string { return t.inner.Name() }

// ReadFile implements host.Reader.
func (t *Host) ReadFile(ctx context.Context, path string) ([]byte, error) {
	began := time.Now()
	data, err := t.inner.ReadFile(ctx, path)
	t.note(ctx, began, "read", err, slog.String("path", path), slog.Int("bytes", len(data)))
	return data, err
}

// Stat implements host.Reader.
func (t *Host) Stat(ctx context.Context, paths ...string) ([]host.Info, error) {
	began := time.Now()
	infos, err := t.inner.Stat(ctx, paths...)
	t.note(ctx, began, "stat", err, slog.String("paths", list(paths)))
	return infos, err
}

// Sums implements host.Reader.
func (t *Host) Sums(ctx context.Context, paths ...string) ([]host.Info, error) {
	began := time.Now()
	infos, err := t.inner.Sums(ctx, paths...)
	t.note(ctx, began, "sums", err, slog.String("paths", list(paths)))
	return infos, err
}

// Query implements host.Reader.
func (t *Host) Query(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	began := time.Now()
	out, err := t.inner.Query(ctx, cmd)
	t.command(ctx, began, "query", cmd, out, err)
	return out, err
}

// Run implements host.Host.
func (t *Host) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	began := time.Now()
	out, err := t.inner.Run(ctx, cmd)
	t.command(ctx, began, "run", cmd, out, err)
	return out, err
}

func (t *Host) command(ctx context.Context, began time.Time, what string, cmd host.Cmd, out []byte, err error) {
	attrs := []slog.Attr{slog.String("command", line(cmd.Argv)), slog.Int("bytes", len(out))}
	if code, ran := host.ExitCode(err); ran {
		attrs = append(attrs, slog.Int("code", code))
	} else if err == nil {
		attrs = append(attrs, slog.Int("code", 0))
	}
	t.note(ctx, began, what, err, attrs...)
}

// WriteFiles implements host.Host.
func (t *Host) WriteFiles(ctx context.Context, files ...host.File) error {
	began := time.Now()
	err := t.inner.WriteFiles(ctx, files...)
	for _, f := range files {
		t.note(ctx, began, "write", err, slog.String("path", f.Path), slog.String("mode", mode(f.Mode)), slog.Int("bytes", len(f.Data)))
	}
	return err
}

// Upload implements host.Host.
func (t *Host) Upload(ctx context.Context, blob host.Blob, progress func(onHost int64)) error {
	began := time.Now()
	err := t.inner.Upload(ctx, blob, progress)
	t.note(ctx, began, "upload", err, slog.String("path", blob.Path), slog.String("mode", mode(blob.Mode)), slog.Int64("bytes", blob.Size), slog.String("sha256", blob.SHA256))
	return err
}

// Remove implements host.Host.
func (t *Host) Remove(ctx context.Context, paths ...string) error {
	began := time.Now()
	err := t.inner.Remove(ctx, paths...)
	t.note(ctx, began, "remove", err, slog.String("paths", list(paths)))
	return err
}

// Dial implements host.Host.
func (t *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	began := time.Now()
	conn, err := t.inner.Dial(ctx, network, address)
	t.note(ctx, began, "dial", err, slog.String("network", network), slog.String("address", address))
	return conn, err
}

// Alive implements host.Host.
func (t *Host) Alive() context.Context { return t.inner.Alive() }

// Close implements host.Host.
func (t *Host) Close() error { return t.inner.Close() }

// line is a command as one could type it, with long words cut short.
func line(argv []string) string {
	words := make([]string, len(argv))
	for i, w := range argv {
		words[i] = cut(w)
	}
	return quote.Argv(words...)
}

// list is paths in a line; there may be hundreds.
func list(paths []string) string {
	const most = 20
	if len(paths) > most {
		return strings.Join(paths[:most], " ") + " ..."
	}
	return strings.Join(paths, " ")
}

func cut(s string) string {
	if len(s) <= maxWord {
		return s
	}
	end := maxWord
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}

func mode(m fs.FileMode) string { return m.Perm().String() }
