package trace_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/host/local"
	"github.com/myadm/myadm/host/trace"
)

func open(t *testing.T, log *slog.Logger) host.Host {
	h, err := local.New()
	if err != nil {
		t.Fatal(err)
	}
	return trace.New(h, log)
}

func TestConformance(t *testing.T) {
	hosttest.Conformance(t, func(t *testing.T) host.Host { return open(t, slog.New(slog.DiscardHandler)) },
		func(t *testing.T) string { return t.TempDir() })
}

// Everything that is asked is told, with what came of it, and nothing of its content.
func TestWhatIsLogged(t *testing.T) {
	var b bytes.Buffer
	h := open(t, slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, dir := t.Context(), t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "missing")
	const content = "a secret content"
	_ = h.WriteFiles(ctx, host.File{Path: file, Mode: 0o600, Data: []byte(content)})
	_, _ = h.ReadFile(ctx, file)
	_, _ = h.ReadFile(ctx, link)
	_, _ = h.Stat(ctx, file, link)
	_, _ = h.Sums(ctx, file)
	_, _ = h.Query(ctx, host.Cmd{Argv: []string{"cat", "-"}, Stdin: strings.NewReader(content)})
	_, _ = h.Run(ctx, host.Command("sh", "-c", "echo no >&2; exit 3"))
	_, _ = h.Run(ctx, host.Command("true", strings.Repeat("x", 1000)))
	_ = h.Upload(ctx, host.Blob{Path: file + "2", Mode: 0o644, Size: 0, SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		Open: func() (io.ReadSeekCloser, error) { return os.Open(os.DevNull) }}, nil)
	_ = h.Remove(ctx, file)
	_, _ = h.Dial(ctx, "unix", link)

	want := []map[string]any{
		{"msg": "write", "path": "DIR/file", "mode": "-rw-------", "bytes": 16.0},
		{"msg": "read", "path": "DIR/file", "bytes": 16.0},
		{"msg": "read", "path": "DIR/missing", "bytes": 0.0, "error": true},
		{"msg": "stat", "paths": "DIR/file DIR/missing"},
		{"msg": "sums", "paths": "DIR/file"},
		{"msg": "query", "command": "cat -", "bytes": 16.0, "code": 0.0},
		{"msg": "run", "command": "sh -c 'echo no >&2; exit 3'", "bytes": 0.0, "code": 3.0, "error": true},
		{"msg": "run", "command": "true " + strings.Repeat("x", 300) + "...", "bytes": 0.0, "code": 0.0},
		{"msg": "upload", "path": "DIR/file2", "mode": "-rw-r--r--", "bytes": 0.0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"msg": "remove", "paths": "DIR/file"},
		{"msg": "dial", "network": "unix", "address": "DIR/missing", "error": true},
	}
	var got []map[string]any
	for line := range strings.Lines(strings.ReplaceAll(b.String(), dir, "DIR")) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		if fields["host"] != h.Name() || fields["level"] != "DEBUG" || fields["elapsed"] == nil {
			t.Errorf("host, level or elapsed: %s", line)
		}
		for _, name := range []string{"time", "level", "host", "elapsed"} {
			delete(fields, name)
		}
		if fields["error"] != nil {
			fields["error"] = true
		}
		got = append(got, fields)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if strings.Contains(b.String(), content) {
		t.Error("the log holds a file's content, or what a command was given")
	}
}
