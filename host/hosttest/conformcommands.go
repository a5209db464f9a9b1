package hosttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/host"
)

// ConformCommands is the part of Conformance about commands. The host has a POSIX userland.
func ConformCommands(t *testing.T, open func(t *testing.T) host.Host, root func(t *testing.T) string) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, h host.Host, dir string)
	}{
		{"argv", argvArrives},
		{"exit status", exitStatus},
		{"error output", errorTail},
		{"environment", environment},
		{"standard input", standardInput},
		{"large streams", largeStreams},
		{"output as it comes", outputAsItComes},
		{"output nobody reads", outputUnread},
		{"input nobody reads", inputUnread},
		{"input that fails", inputFails},
		{"context ends the command", contextEnds},
		{"context ends a stubborn command", contextEndsStubborn},
		{"context ends while input is awaited", contextEndsInput},
		{"many at once", manyAtOnce},
		{"wrong commands", wrongCommands},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t), root(t)) })
	}
}

func sh(script string, args ...string) host.Cmd {
	return host.Command(append([]string{"/bin/sh", "-c", script, "sh"}, args...)...)
}

func argvArrives(t *testing.T, h host.Host, _ string) {
	args := []string{"", " ", "a b", "it's", `"$HOME"`, "$(id)", "`id`", "*", "~", "\\", "a\nb", "\t", "-n", "é\xff", "#", "A=b", "--", "!"}
	out, err := h.Query(t.Context(), sh(`for a; do printf '%s\0' "$a"; done`, args...))
	must(t, err)
	if diff := cmp.Diff(strings.Join(args, "\x00")+"\x00", string(out)); diff != "" {
		t.Error(diff)
	}
}

func exitStatus(t *testing.T, h host.Host, _ string) {
	for _, code := range []int{1, 2, 90, 127, 255} {
		cmd := sh(fmt.Sprintf("echo out; echo err >&2; exit %d", code))
		out, err := h.Run(t.Context(), cmd)
		var exit *host.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("status %d: %v", code, err)
		}
		if diff := cmp.Diff(&host.ExitError{Argv: cmd.Argv, Code: code, Stderr: []byte("err\n")}, exit); diff != "" {
			t.Errorf("status %d:\n%s", code, diff)
		}
		if string(out) != "out\n" {
			t.Errorf("status %d: output %q", code, out)
		}
	}
	_, err := h.Run(t.Context(), sh("kill -9 $$"))
	if code, ok := host.ExitCode(err); !ok || code != 128+9 {
		t.Errorf("killed: %v", err)
	}
	_, err = h.Run(t.Context(), host.Command("myadm-no-such-command", "x"))
	if code, ok := host.ExitCode(err); !ok || code != 127 {
		t.Errorf("missing command: %v", err)
	}
}

func errorTail(t *testing.T, h host.Host, _ string) {
	_, err := h.Run(t.Context(), sh(`i=0; while [ $i -lt 2000 ]; do echo "line $i" >&2; i=$((i+1)); done; exit 1`))
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if len(exit.Stderr) > 4<<10 || len(exit.Stderr) < 4000 || !bytes.HasSuffix(exit.Stderr, []byte("line 1998\nline 1999\n")) {
		t.Errorf("%d bytes of error output, ending %q", len(exit.Stderr), exit.Stderr[max(0, len(exit.Stderr)-30):])
	}
}

// environment: a command finds root's programs, speaks English, stands in / and makes files that all may read.
func environment(t *testing.T, h host.Host, _ string) {
	out, err := h.Run(t.Context(), sh(`echo "$LC_ALL $(pwd) $(umask)"; echo "$PATH"`))
	must(t, err)
	first, path, _ := strings.Cut(string(out), "\n")
	if first != "C / 0022" {
		t.Errorf("locale, folder, umask: %s", first)
	}
	for _, folder := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if !strings.Contains(":"+strings.TrimSpace(path)+":", ":"+folder+":") {
			t.Errorf("%s is not in PATH %s", folder, path)
		}
	}
}

func standardInput(t *testing.T, h host.Host, _ string) {
	out, err := h.Run(t.Context(), host.Cmd{Argv: []string{"cat"}})
	if err != nil || len(out) != 0 {
		t.Errorf("no input: %q, %v", out, err)
	}
	for _, in := range [][]byte{{}, []byte("x"), noise(3<<20, 6)} {
		out, err := h.Run(t.Context(), host.Cmd{Argv: []string{"cat"}, Stdin: bytes.NewReader(in)})
		must(t, err)
		if !bytes.Equal(out, in) {
			t.Errorf("%d bytes in, %d bytes out", len(in), len(out))
		}
	}
}

func largeStreams(t *testing.T, h host.Host, _ string) {
	const block, blocks = 1 << 20, 32
	data := noise(block, 7)
	sum := sha256.New()
	r, w := io.Pipe()
	go func() {
		for range blocks {
			sum.Write(data)
			w.Write(data) //nolint:errcheck // the sum tells
		}
		w.Close()
	}()
	out, err := h.Run(t.Context(), host.Cmd{Argv: []string{"sha256sum"}, Stdin: r})
	must(t, err)
	if want := hex.EncodeToString(sum.Sum(nil)) + "  -\n"; string(out) != want {
		t.Errorf("sum %q, want %q", out, want)
	}
}

// outputAsItComes: a command that is still running has been heard.
func outputAsItComes(t *testing.T, h host.Host, _ string) {
	input, answer := io.Pipe()
	heard, output := io.Pipe()
	defer heard.Close()
	go func() {
		line := make([]byte, len("ready\n"))
		io.ReadFull(heard, line) //nolint:errcheck // the answer tells
		answer.Write(line)       //nolint:errcheck // the output tells
		answer.Close()
		io.Copy(io.Discard, heard) //nolint:errcheck // until Run closes it
	}()
	var rest bytes.Buffer
	out, err := h.Run(t.Context(), host.Cmd{
		Argv:  []string{"/bin/sh", "-c", "echo ready; cat; exit 3"},
		Stdin: input, Stdout: io.MultiWriter(&rest, output),
	})
	if code, _ := host.ExitCode(err); code != 3 || len(out) != 0 || rest.String() != "ready\nready\n" {
		t.Errorf("%q as it came and %q in the end, %v", rest.String(), out, err)
	}
}

// outputUnread: a command does not end because nobody listens.
func outputUnread(t *testing.T, h host.Host, _ string) {
	heard, output := io.Pipe()
	heard.Close()
	_, err := h.Run(t.Context(), host.Cmd{Argv: []string{"/bin/sh", "-c", "head -c 3000000 /dev/zero && exit 4"}, Stdout: output})
	if code, _ := host.ExitCode(err); code != 4 {
		t.Error(err)
	}
}

// inputUnread: a command need not read its input.
func inputUnread(t *testing.T, h host.Host, _ string) {
	_, err := h.Run(t.Context(), host.Cmd{Argv: []string{"/bin/sh", "-c", "exit 3"}, Stdin: bytes.NewReader(noise(8<<20, 8))})
	if code, _ := host.ExitCode(err); code != 3 {
		t.Error(err)
	}
}

// inputFails: a command must not take half of its input for all of it. This one is hard to end before it could.
func inputFails(t *testing.T, h host.Host, dir string) {
	broken := errors.New("broken disk")
	_, err := h.Run(t.Context(), host.Cmd{
		Argv:  []string{"/bin/sh", "-c", `trap "" TERM; cat >/dev/null; touch "$1"`, "sh", dir + "/f"},
		Stdin: io.MultiReader(strings.NewReader("half"), failingReader{broken}),
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if one(t, h, dir+"/f").Exists {
		t.Error("the command took half of its input for all of it")
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// gone waits until no process has a mark on its command line, which a script gets as its name.
func gone(t *testing.T, h host.Host, mark string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		// The brackets keep the search from finding itself.
		_, err := h.Query(ctx, sh(`grep -q -s -a -e "$1" /proc/[0-9]*/cmdline`, "["+mark[:1]+"]"+mark[1:]))
		if code, ok := host.ExitCode(err); ok && code > 0 {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", mark, err)
		}
	}
}

// endsWith runs a script until it prints that it is ready, ends ctx, and proves that it is soon gone.
func endsWith(t *testing.T, h host.Host, dir, script string, stdin io.Reader, within time.Duration) {
	t.Helper()
	mark := "mark" + strings.ReplaceAll(dir, "/", "-")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		cmd := sh(script+"\n: "+mark, dir+"/ready")
		cmd.Stdin = stdin
		_, err := h.Run(ctx, cmd)
		done <- err
	}()
	for !one(t, h, dir+"/ready").Exists {
		select {
		case err := <-done:
			t.Fatalf("the command ended early: %v", err)
		default:
		}
	}
	cancel()
	start := time.Now()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run does not return")
	}
	gone(t, h, mark)
	if took := time.Since(start); took > within {
		t.Errorf("it took %s", took)
	}
}

func contextEnds(t *testing.T, h host.Host, dir string) {
	endsWith(t, h, dir, `touch "$1"; sleep 300; true`, nil, time.Second+200*time.Millisecond)
}

func contextEndsStubborn(t *testing.T, h host.Host, dir string) {
	endsWith(t, h, dir, `trap "" TERM; touch "$1"; while :; do sleep 300; done`, nil, 5*time.Second)
}

func contextEndsInput(t *testing.T, h host.Host, dir string) {
	r, w := io.Pipe()
	defer w.Close()
	endsWith(t, h, dir, `touch "$1"; cat; true`, r, time.Second+200*time.Millisecond)
}

// manyAtOnce runs more commands than sshd allows sessions, with file work in between.
func manyAtOnce(t *testing.T, h host.Host, dir string) {
	var all errgroup.Group
	for i := range 30 {
		all.Go(func() error {
			want := fmt.Sprint("number ", i)
			out, err := h.Run(t.Context(), host.Cmd{Argv: []string{"cat"}, Stdin: strings.NewReader(want)})
			if err == nil && string(out) != want {
				err = fmt.Errorf("%q, want %q", out, want)
			}
			return err
		})
		all.Go(func() error {
			p := fmt.Sprintf("%s/%d", dir, i)
			if err := h.WriteFiles(t.Context(), host.File{Path: p, Mode: 0o644, Data: []byte(p)}); err != nil {
				return err
			}
			data, err := h.ReadFile(t.Context(), p)
			if err == nil && string(data) != p {
				err = fmt.Errorf("%s: %q", p, data)
			}
			return err
		})
	}
	must(t, all.Wait())
}

func wrongCommands(t *testing.T, h host.Host, _ string) {
	for _, argv := range [][]string{nil, {""}, {"echo", "a\x00b"}} {
		_, err := h.Run(t.Context(), host.Cmd{Argv: argv})
		if _, ran := host.ExitCode(err); err == nil || ran {
			t.Errorf("argv %q: %v", argv, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Run(ctx, host.Command("true")); !errors.Is(err, context.Canceled) {
		t.Errorf("ctx had ended: %v", err)
	}
}
