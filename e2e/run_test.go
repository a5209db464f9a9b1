//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// commandLimit ends a command that hangs. An upgrade of a lab's hosts needs two minutes, and twice that on a busy machine.
const commandLimit = 10 * time.Minute

// result is what the user of a command saw.
type result struct {
	command        string
	code           int
	stdout, stderr string
	took           time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("%s: exit code %d after %.1f s\n--- stdout\n%s--- stderr\n%s", r.command, r.code, r.took.Seconds(), r.stdout, r.stderr)
}

// want ends the test unless the command ended with this exit code.
func (r result) want(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("want exit code %d, got: %s", code, r)
	}
	t.Logf("%.60s...: %.1f s%s", r.command, r.took.Seconds(), r.slowest())
	return r
}

// phaseEnd is how the log tells of a phase that took seconds.
var phaseEnd = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d +(\S+ +\S+ +done, .*\(([1-9]|\d\d+)\.\ds\))$`)

// slowest are the phases that took the time of a command that told of them.
func (r result) slowest() string {
	var out strings.Builder
	for _, m := range phaseEnd.FindAllStringSubmatch(r.stderr, -1) {
		out.WriteString("\n\t" + m[1])
	}
	return out.String()
}

// decode reads the result that -o json put on stdout.
func decode[T any](t *testing.T, r result) T {
	t.Helper()
	var value T
	decoder := json.NewDecoder(strings.NewReader(r.stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil || decoder.More() {
		t.Fatalf("stdout is not one JSON value of the expected form: %v: %s", err, r)
	}
	return value
}

// myadm runs the binary on this machine, where nothing of the user who runs the tests reaches it: no ssh_config, no
// agent, no MYADM_ variables. env are further variables.
func (s *site) myadm(t *testing.T, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	r, err := s.start(ctx, t, nil, env, args...).wait()
	if err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	return r
}

// running is a command under way.
type running struct {
	cmd            *exec.Cmd
	began          time.Time
	stdout, stderr bytes.Buffer
}

// start starts the binary. onLine, unless nil, is told each line that it writes to stderr, while it waits.
func (s *site) start(ctx context.Context, t *testing.T, onLine func(string), env []string, args ...string) *running {
	t.Helper()
	r := &running{cmd: exec.CommandContext(ctx, made.myadm, args...), began: time.Now()}
	r.cmd.Env = append([]string{"HOME=" + s.home, "PATH=" + os.Getenv("PATH")}, env...)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if onLine != nil {
		r.cmd.Stderr = &lineWriter{kept: &r.stderr, onLine: onLine}
	}
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(syscall.SIGQUIT) } // one that hangs tells where
	r.cmd.WaitDelay = 5 * time.Second
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// lineWriter keeps what is written and passes it on by lines.
type lineWriter struct {
	kept   *bytes.Buffer
	rest   []byte
	onLine func(string)
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.kept.Write(p)
	w.rest = append(w.rest, p...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		w.rest = rest
		w.onLine(string(line))
	}
}

// wait waits for the end. A command that was killed by a signal has the shell's code for it, 128 and the signal.
func (r *running) wait() (result, error) {
	err := r.cmd.Wait()
	res := result{
		command: "myadm " + strings.Join(r.cmd.Args[1:], " "), stdout: r.stdout.String(), stderr: r.stderr.String(), took: time.Since(r.began),
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return res, err
	}
	res.code = exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		res.code = 128 + int(status.Signal())
	}
	return res, nil
}

// eventually asks until check is content; after limit its last word fails the test.
func eventually(t *testing.T, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not after %s: %v", what, limit, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
