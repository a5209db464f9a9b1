package hosttest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/myadm/myadm/host"
)

// Rule is what the fake does with a command. Without more it succeeds and prints nothing.
//
// Once rules come first, in the order in which they were registered, and each is used up by one call. Then the rule that
// was registered last wins, so that a test can override what a helper set up.
type Rule struct {
	f       *Fake
	argv    []string
	prefix  bool
	changes bool
	once    bool
	calls   int
	do      func(f *Fake, cmd host.Cmd) ([]byte, error)
}

// Call is a command that the fake was given.
type Call struct {
	Argv  []string
	Stdin []byte
	Query bool // through Query, and not Run
}

// String is the command line, for messages and comparisons.
func (c Call) String() string { return strings.Join(c.Argv, " ") }

// On registers one command line.
func (f *Fake) On(argv ...string) *Rule { return f.rule(&Rule{argv: argv}) }

// OnPrefix registers all command lines that begin with argv.
func (f *Fake) OnPrefix(argv ...string) *Rule { return f.rule(&Rule{argv: argv, prefix: true}) }

func (f *Fake) rule(r *Rule) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.f = f
	r.do = func(*Fake, host.Cmd) ([]byte, error) { return nil, nil }
	f.rules = append(f.rules, r)
	return r
}

// Return makes the command print stdout.
func (r *Rule) Return(stdout string) *Rule {
	return r.Do(func(*Fake, host.Cmd) ([]byte, error) { return []byte(stdout), nil })
}

// Fail makes the command end with a status and an error output.
func (r *Rule) Fail(code int, stderr string) *Rule {
	return r.Do(func(_ *Fake, cmd host.Cmd) ([]byte, error) {
		return nil, &host.ExitError{Argv: cmd.Argv, Code: code, Stderr: []byte(stderr)}
	})
}

// Error makes the call end with an error that is not the command's own, such as a lost connection.
func (r *Rule) Error(err error) *Rule {
	return r.Do(func(*Fake, host.Cmd) ([]byte, error) { return nil, err })
}

// Do runs a function for the command. It may use the fake's methods; cmd.Stdin is never nil and starts at the beginning.
func (r *Rule) Do(do func(f *Fake, cmd host.Cmd) ([]byte, error)) *Rule {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.do = do
	return r
}

// Changes marks a command that changes the host: through Query it fails the test.
func (r *Rule) Changes() *Rule {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.changes = true
	return r
}

// Once lets the rule serve one call, which must come before the test ends.
func (r *Rule) Once() *Rule {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.once = true
	return r
}

// Calls tells how often the rule was used.
func (r *Rule) Calls() int {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.calls
}

func (r *Rule) String() string {
	if r.prefix {
		return strings.Join(r.argv, " ") + " ..."
	}
	return strings.Join(r.argv, " ")
}

func (r *Rule) matches(argv []string) bool {
	if r.once && r.calls > 0 || len(argv) < len(r.argv) || !r.prefix && len(argv) != len(r.argv) {
		return false
	}
	return slices.Equal(r.argv, argv[:len(r.argv)])
}

// Query runs a command that must not be one that Changes.
func (f *Fake) Query(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	f.t.Helper()
	return f.exec(ctx, cmd, true)
}

// Run runs a command.
func (f *Fake) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	f.t.Helper()
	return f.exec(ctx, cmd, false)
}

func (f *Fake) exec(ctx context.Context, cmd host.Cmd, query bool) ([]byte, error) {
	f.t.Helper()
	call := Call{Argv: slices.Clone(cmd.Argv), Query: query}
	if cmd.Stdin != nil {
		stdin, err := io.ReadAll(cmd.Stdin)
		if err != nil {
			return nil, fmt.Errorf("%s: standard input: %w", call, err)
		}
		call.Stdin = stdin
	}
	do, err := f.match(ctx, call)
	if err != nil {
		return nil, err
	}
	out, err := do(f, host.Cmd{Argv: call.Argv, Stdin: bytes.NewReader(call.Stdin), Stdout: cmd.Stdout})
	if cmd.Stdout == nil {
		return out, err
	}
	cmd.Stdout.Write(out) //nolint:errcheck // as on a real host
	return nil, err
}

// match records the call and finds what to do for it.
func (f *Fake) match(ctx context.Context, call Call) (func(*Fake, host.Cmd) ([]byte, error), error) {
	f.t.Helper()
	leave, err := f.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	f.commands = append(f.commands, call)
	var found *Rule
	for _, r := range f.rules {
		if !r.matches(call.Argv) {
			continue
		}
		if found = r; r.once {
			break
		}
	}
	if found == nil {
		return nil, f.strict(fmt.Errorf("unexpected command %q", call.Argv))
	}
	if found.changes && call.Query {
		return nil, f.strict(fmt.Errorf("a command that changes the host, through Query: %q", call.Argv))
	}
	found.calls++
	return found.do, nil
}

// AssertDone fails the test for Once rules that were not used. It runs by itself when the test ends.
func (f *Fake) AssertDone() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.once && r.calls == 0 {
			f.t.Errorf("%s: expected command was not run: %s", f.name, r)
		}
	}
}
