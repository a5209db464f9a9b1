package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/myadm/myadm/courier"
	"github.com/myadm/myadm/courier/wire"
)

// programVariable makes the test's binary the program itself: what the tests drive is a process of its own.
const programVariable = "MYADM_TEST_COURIER"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// noProxy is what the host's own variables name; nobody listens there.
const noProxy = "http://127.0.0.1:1"

// program is a running program.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events *courier.Decoder
	stderr bytes.Buffer
}

// start starts the program with a request and leaves its standard input open. before is what a shell does first.
func start(t *testing.T, request wire.Request, before string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: exec.CommandContext(t.Context(), "/bin/sh", "-c", before+`exec "$@"`, "sh", self, request.Command())}
	p.cmd.Env = append(os.Environ(), programVariable+"=1", "http_proxy="+noProxy, "HTTP_PROXY="+noProxy, "HTTPS_PROXY="+noProxy)
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	p.events = courier.NewDecoder(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(p.stdin).Encode(request); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stdin.Close()
		p.cmd.Process.Kill() //nolint:errcheck // it has ended
	})
	return p
}

// next returns the next event.
func (p *program) next() wire.Event {
	p.t.Helper()
	e, err := p.events.Next()
	if err != nil {
		p.t.Fatalf("%v; standard error: %s", err, &p.stderr)
	}
	return e
}

// await returns the next event of a type.
func await[E wire.Event](p *program) E {
	p.t.Helper()
	for {
		e := p.next()
		if wanted, ok := e.(E); ok {
			return wanted
		}
		if wire.Last(e) {
			p.t.Fatalf("ended with %#v", e)
		}
	}
}

// rest returns all events but progress, and checks the exit status. That there is a last event tells that the program
// ended by itself: one that had to be aborted has no time for it.
func (p *program) rest(status int) []wire.Event {
	p.t.Helper()
	var events []wire.Event
	for {
		e, err := p.events.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.t.Fatalf("%v; standard error: %s", err, &p.stderr)
		}
		if _, ok := e.(wire.Progress); !ok {
			events = append(events, e)
		}
	}
	p.ended(status)
	return events
}

// ended waits for the end and checks the exit status.
func (p *program) ended(status int) {
	p.t.Helper()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != status || p.stderr.Len() > 0 {
		p.t.Fatalf("exit status %d, want %d; standard error: %s", got, status, &p.stderr)
	}
}
