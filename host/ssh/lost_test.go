package ssh_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/ssh/sshdtest"
)

func knownLineOf(s *sshdtest.Server) string {
	return "[127.0.0.1]:" + fmt.Sprint(s.Port()) + " " + s.HostKey()
}

// running starts a command that runs until it is ended, and gives its process id.
func running(t *testing.T, h *ssh.Host) (pid int, done <-chan error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pid")
	ended := make(chan error, 1)
	go func() {
		_, err := h.Run(t.Context(), host.Command("/bin/sh", "-c", `echo $$ >"$1.new"; mv "$1.new" "$1"; sleep 300; true`, "sh", file))
		ended <- err
	}()
	eventually(t, "the command runs", func() bool {
		data, err := os.ReadFile(file)
		if err == nil {
			_, err = fmt.Sscan(string(data), &pid)
		}
		return err == nil
	})
	for range 2 { // the host has said so, and now it has been heard and the warden been told
		if _, err := h.Run(t.Context(), host.Command("true")); err != nil {
			t.Fatal(err)
		}
	}
	return pid, ended
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestConnectionLost(t *testing.T) {
	tests := []struct {
		name string
		lose func(s *sshdtest.Server, h *ssh.Host)
		want error
		says string
	}{
		{"dropped", func(s *sshdtest.Server, _ *ssh.Host) { s.Drop() }, ssh.ErrConnectionLost, "h1: connection lost"},
		{"silent", func(s *sshdtest.Server, _ *ssh.Host) { s.Freeze() }, ssh.ErrConnectionLost, "no sign of life"},
		{"closed", func(_ *sshdtest.Server, h *ssh.Host) { h.Close() }, net.ErrClosed, "h1: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := sshdtest.New(t, sshdtest.Config{Sudo: sudoFree})
			h := dial(t, server, ssh.Options{KeepAlive: 100 * time.Millisecond})
			if _, err := h.Stat(t.Context(), "/"); err != nil || h.Alive().Err() != nil {
				t.Fatal(err, context.Cause(h.Alive()))
			}
			var listen net.ListenConfig
			l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			conn, err := h.Dial(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			pid, done := running(t, h)
			tt.lose(server, h)

			check := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: %v", what, err)
				}
			}
			select {
			case err := <-done:
				check("the command that ran", err)
				if _, ran := host.ExitCode(err); ran {
					t.Errorf("it seems to have ended by itself: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the command that ran does not return")
			}
			select {
			case <-h.Alive().Done():
				check("the cause of its end", context.Cause(h.Alive()))
			default:
				t.Error("it is still alive")
			}
			_, err = conn.Read(make([]byte, 1))
			check("a connection through the host", err)
			_, err = h.Run(t.Context(), host.Command("true"))
			check("Run", err)
			_, err = h.ReadFile(t.Context(), "/etc/passwd")
			check("ReadFile", err)
			_, err = h.Dial(t.Context(), "tcp", l.Addr().String())
			check("Dial", err)
			check("WriteFiles", h.WriteFiles(t.Context(), host.File{Path: t.TempDir() + "/f", Mode: 0o600}))
			server.Drop()
			eventually(t, "what ran on the host is ended", func() bool { return !alive(pid) })
		})
	}
}

// TestKeepAliveLetsSlowWorkBe: silence of a command is no silence of the host.
func TestKeepAliveLetsSlowWorkBe(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{})
	h := dial(t, server, ssh.Options{KeepAlive: 20 * time.Millisecond})
	if _, err := h.Run(t.Context(), host.Command("sleep", "0.5")); err != nil {
		t.Error(err)
	}
}

// TestFewSessions: an sshd with MaxSessions 3 lets one command run beside the warden and SFTP.
func TestFewSessions(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{MaxSessions: 3})
	h := dial(t, server, ssh.Options{})
	var all errgroup.Group
	for range 12 {
		all.Go(func() error {
			_, err := h.Sums(t.Context(), "/etc/passwd")
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

// TestSessionsAtOnce: however much runs at once, one of the ten sessions that sshd allows stays free.
func TestSessionsAtOnce(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{})
	h := dial(t, server, ssh.Options{})
	if err := h.WriteFiles(t.Context(), host.File{Path: t.TempDir() + "/f", Mode: 0o600}); err != nil { // which SFTP is for
		t.Fatal(err)
	}
	stdin, release := io.Pipe()
	var all errgroup.Group
	for range 20 {
		all.Go(func() error {
			_, err := h.Run(t.Context(), host.Cmd{Argv: []string{"cat"}, Stdin: stdin}) // until there is an end to read
			return err
		})
	}
	eventually(t, "as much runs as may", func() bool { return server.MostSessions() >= 9 })
	if _, err := h.ReadFile(t.Context(), "/etc/passwd"); err != nil {
		t.Error(err)
	}
	if n := server.MostSessions(); n > 9 {
		t.Errorf("%d sessions were open at once: there is none to spare", n)
	}
	release.Close()
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

// TestManyPaths: a list of names longer than a command line may be.
func TestManyPaths(t *testing.T) {
	h := dial(t, sshdtest.New(t, sshdtest.Config{}), ssh.Options{})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	paths := make([]string, 2000)
	for i := range paths {
		paths[i] = fmt.Sprintf("%s/%04d%s", dir, i, strings.Repeat("'", 100))
	}
	paths[7], paths[1999] = file, file
	infos, err := h.Sums(t.Context(), paths...)
	if err != nil {
		t.Fatal(err)
	}
	for i, info := range infos {
		if exists := i == 7 || i == 1999; info.Path != paths[i] || info.Exists != exists || (info.SHA256 != "") != exists {
			t.Fatalf("%d: %+v", i, info)
		}
	}
	if err := h.Remove(t.Context(), paths...); err != nil {
		t.Error(err)
	}
	if _, err := h.Run(t.Context(), host.Command("echo", strings.Repeat("x", 1<<17))); err == nil || !strings.Contains(err.Error(), "standard input") {
		t.Errorf("a command line that is too long: %v", err)
	}
}

func blobOf(path string, data []byte) host.Blob {
	sum := sha256.Sum256(data)
	return host.Blob{
		Path: path, Mode: 0o644, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]),
		Open: func() (io.ReadSeekCloser, error) {
			return struct {
				io.ReadSeeker
				io.Closer
			}{bytes.NewReader(data), io.NopCloser(nil)}, nil
		},
	}
}

// TestUploadDamaged: a cut upload leaves holes at its end, and something else may have written to the file.
func TestUploadDamaged(t *testing.T) {
	const size = 8 << 20
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	hole := bytes.Clone(data[:6<<20])
	clear(hole[5<<20 : 6<<20-100])
	garbage := bytes.Repeat([]byte("garbage!"), size/8)
	tests := []struct {
		name      string
		part      []byte
		startedAt int64
	}{
		{"nothing", nil, 0},
		{"a hole in the last part", hole, 4 << 20},
		{"other content", garbage[:6<<20], 4 << 20},
		{"too much", append(bytes.Clone(data), 'x'), 0},
		{"all of it", data, size},
	}
	h := dial(t, sshdtest.New(t, sshdtest.Config{}), ssh.Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			blob := blobOf(filepath.Join(t.TempDir(), "blob"), data)
			if tt.part != nil {
				if err := os.WriteFile(host.PartPath(blob), tt.part, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			started := int64(-1)
			err := h.Upload(t.Context(), blob, func(n int64) {
				if started < 0 {
					started = n
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(blob.Path); err != nil || !bytes.Equal(got, data) {
				t.Errorf("content is wrong: %v", err)
			}
			if started != tt.startedAt {
				t.Errorf("started at %d, want %d", started, tt.startedAt)
			}
		})
	}
}

// TestUploadCut loses the connection in the middle, and goes on over a new one.
func TestUploadCut(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{})
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	blob := blobOf(filepath.Join(t.TempDir(), "blob"), data)
	err := dial(t, server, ssh.Options{}).Upload(t.Context(), blob, func(n int64) {
		if n > 8<<20 {
			server.Drop()
		}
	})
	if !errors.Is(err, ssh.ErrConnectionLost) {
		t.Fatalf("cut upload: %v", err)
	}
	started := int64(-1)
	err = dial(t, server, ssh.Options{}).Upload(t.Context(), blob, func(n int64) {
		if started < 0 {
			started = n
		}
	})
	if got, _ := os.ReadFile(blob.Path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("resumed upload: %v", err)
	}
	if started < 6<<20 {
		t.Errorf("it started again at %d", started)
	}
}

// TestContextWhileSilent: a host that answers nothing does not keep a call from ending with its ctx.
func TestContextWhileSilent(t *testing.T) {
	server := sshdtest.New(t, sshdtest.Config{})
	h := dial(t, server, ssh.Options{KeepAlive: -1})
	if _, err := h.Stat(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	calls := map[string]func(ctx context.Context) error{
		"Run": func(ctx context.Context) error {
			_, err := h.Run(ctx, host.Command("true"))
			return err
		},
		"ReadFile": func(ctx context.Context) error {
			_, err := h.ReadFile(ctx, "/etc/passwd")
			return err
		},
		"WriteFiles": func(ctx context.Context) error {
			return h.WriteFiles(ctx, host.File{Path: t.TempDir() + "/f", Mode: 0o600})
		},
		"Dial": func(ctx context.Context) error {
			_, err := h.Dial(ctx, "tcp", "127.0.0.1:1")
			return err
		},
	}
	for name, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
			t.Errorf("%s after %s: %v", name, time.Since(start), err)
		}
		cancel()
	}
}
