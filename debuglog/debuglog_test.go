package debuglog_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/debuglog"
	"github.com/myadm/myadm/redact"
)

func TestDir(t *testing.T) {
	for _, tt := range []struct{ state, home, want string }{
		{"/state", "/home/me", "/state/myadm/logs"},
		{"", "/home/me", "/home/me/.local/state/myadm/logs"},
		{"relative", "/home/me", "/home/me/.local/state/myadm/logs"},
		{"", "", ""},
		{"", "relative", ""},
	} {
		t.Setenv("XDG_STATE_HOME", tt.state)
		t.Setenv("HOME", tt.home)
		got, err := debuglog.Dir()
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("XDG_STATE_HOME=%s HOME=%s: %q, %v; want %q", tt.state, tt.home, got, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), "hint: set XDG_STATE_HOME") {
			t.Errorf("%v does not say what to do", err)
		}
	}
}

var began = time.Date(2027, 1, 15, 8, 0, 0, 0, time.FixedZone("", 3600))

func options(dir string) debuglog.Options {
	return debuglog.Options{Dir: dir, Command: "upgrade apply", Time: began, PID: 4711, Mask: new(redact.Masker).Text}
}

func TestALogIsItsOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "logs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log, err := debuglog.Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	log.Info("join", "token", "abcdef.0123456789abcdef", "error", errors.New("--token abcdef.0123456789abcdef"), "bytes", 7)
	log.Debug("with 0fedcb.0123456789abcdef")
	if _, err := debuglog.Open(options(dir)); !errors.Is(err, os.ErrExist) {
		t.Errorf("the same file again: %v", err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "20270115T070000Z-upgrade-apply-4711.log"); log.Path() != want {
		t.Errorf("it is %s, want %s", log.Path(), want)
	}
	for path, want := range map[string]os.FileMode{log.Path(): 0o600, dir: 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	data, err := os.ReadFile(log.Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"token=abcdef.***", `error="--token abcdef.***"`, "bytes=7", `msg="with 0fedcb.***"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%q is not in\n%s", want, data)
		}
	}
	if strings.Contains(string(data), "0123456789abcdef") {
		t.Errorf("a secret is in\n%s", data)
	}
}

func TestOldLogsAreRemoved(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files int
		size  int64 // of each
		want  int   // that are left, with the new one
	}{
		{"few", 3, 10, 4},
		{"too many", 60, 10, 50},
		{"too large", 5, 30 << 20, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for i := range tt.files {
				path := filepath.Join(dir, fmt.Sprintf("20261201T0000%02dZ-init-1.log", i))
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(path, tt.size); err != nil {
					t.Fatal(err)
				}
			}
			other := filepath.Join(dir, "00-notes.txt")
			if err := os.WriteFile(other, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			log, err := debuglog.Open(options(dir))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			left, err := filepath.Glob(filepath.Join(dir, "*.log"))
			if err != nil || len(left) != tt.want {
				t.Errorf("%d logs are left (%v), want %d", len(left), err, tt.want)
			}
			for _, path := range []string{other, log.Path(), filepath.Join(dir, fmt.Sprintf("20261201T0000%02dZ-init-1.log", tt.files-1))} {
				if _, err := os.Stat(path); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestAFolderThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := debuglog.Open(options(filepath.Join(file, "logs"))); err == nil {
		t.Error("it was made")
	}
}
