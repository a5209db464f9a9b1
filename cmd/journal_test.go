package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/workflow"
)

const aToken = "abcdef.0123456789abcdef"

// trial is a command that runs phases on three hosts: w-2 fails in the second of them, with a secret in its error, and w-4
// was not reached.
func trial(t *testing.T, streams Streams, fails bool) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{Use: "trial", RunE: func(cmd *cobra.Command, _ []string) error {
		phase := func(name string, hosts ...host.Host) workflow.Phase {
			made := map[string]bool{}
			return workflow.Phase{Name: name, Short: "make " + name, Hosts: hosts, Parallel: 1,
				Check: func(_ context.Context, r host.Reader) ([]workflow.Change, error) {
					if r != nil && made[r.Name()] || r == nil {
						return nil, nil
					}
					return []workflow.Change{{Action: workflow.Create, Object: "/etc/" + name, Detail: "mode 0600"}}, nil
				},
				Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
					workflow.Tell(ctx, "write it")
					if fails && name == "second" && h.Name() == "w-2" {
						return errors.New("join --token " + aToken + ": no space left; hint: make room")
					}
					made[h.Name()] = true
					return nil
				}}
		}
		all := []host.Host{hosttest.New(t, "w-1"), hosttest.New(t, "w-2"), hosttest.New(t, "w-3")}
		if fails {
			streams.journal.ended(workflow.Outcome{Host: "w-4", State: workflow.Unreached, Error: "no route"})
		}
		_, err := runSteps(cmd.Context(), streams, selection{}, true, []workflow.Step{
			phase("first", all...), phase("second", all[:2]...), phase("third", all[1:]...), phase("addons"),
		})
		return err
	}}
	keep(cmd)
	output.register(cmd)
	return cmd
}

// try runs a trial as Main does a command.
func try(t *testing.T, fails bool, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	streams := Streams{In: strings.NewReader(""), Out: &out, Err: &errs}
	streams.journal = newJournal(streams.Err)
	root := NewCommand(streams)
	root.AddCommand(trial(t, streams, fails))
	root.SetArgs(append([]string{"trial"}, args...))
	code = streams.journal.end(t.Context(), streams.Out, root.ExecuteContext(t.Context()))
	return code, out.String(), errs.String()
}

func logsIn(t *testing.T, state string) []string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(state, "myadm", "logs", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	return logs
}

func TestAFailureIsToldByHost(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	code, stdout, stderr := try(t, true)
	logs := logsIn(t, state)
	if code != 1 || stdout != "" || len(logs) != 1 {
		t.Fatalf("exit code %d, stdout %q, logs %q\n%s", code, stdout, logs, stderr)
	}
	want := `error: w-2: second: join --token abcdef.***: no space left
  hint: make room
By host:
  done: w-1, w-3, cluster
  w-4: not reached
  w-2: stopped at second, 2 of 3 phases to do: join --token abcdef.***: no space left
debug log: ` + logs[0] + "\n"
	if _, told, _ := strings.Cut(stderr, "error: "); "error: "+told != want {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, "error: "+told))
	}
	data, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`msg=begin command="myadm trial"`, "msg=phase-started phase=first hosts=3", "msg=change phase=first host=w-1 action=create object=/etc/first detail=\"mode 0600\"",
		"level=ERROR msg=failed phase=second host=w-2", "msg=outcome state=failed phases=3 left=\"second third\" host=w-2", "msg=end code=1",
	} {
		if !strings.Contains(string(data), part) {
			t.Errorf("%q is not in\n%s", part, data)
		}
	}
	if info, err := os.Stat(logs[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode is %v, %v", info.Mode(), err)
	}
	if all := string(data) + stderr; strings.Contains(all, "0123456789abcdef") {
		t.Error("a secret is told")
	}
}

func TestASuccessTellsOfNoLog(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	code, _, stderr := try(t, false)
	if code != 0 || strings.Contains(stderr, "debug log") || strings.Contains(stderr, "By host") || len(logsIn(t, state)) != 1 {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// Without a place for the log the command runs all the same.
func TestALogThatCannotBeWrittenIsAWarning(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(*testing.T){
		"no home":                func(t *testing.T) { t.Setenv("HOME", ""); t.Setenv("XDG_STATE_HOME", "") },
		"a state that is a file": func(t *testing.T) { t.Setenv("XDG_STATE_HOME", file) },
	} {
		t.Run(name, func(t *testing.T) {
			set(t)
			code, _, stderr := try(t, false)
			if code != 0 || strings.Count(stderr, "warning: there is no debug log of this run: ") != 1 {
				t.Errorf("exit code %d\n%s", code, stderr)
			}
		})
	}
}

// With -o json a failure, too, is an answer.
func TestAFailureAsJSON(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	_, stdout, _ := try(t, true, "-o", "json")
	var got failure
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in\n%s", err, stdout)
	}
	want := []workflow.Outcome{
		{Host: "w-4", State: workflow.Unreached, Error: "no route", Left: []string{}},
		{Host: "w-1", State: workflow.Finished, Phases: 2, Left: []string{}},
		{Host: "w-2", State: workflow.Broken, Phase: "second", Error: "join --token abcdef.***: no space left; hint: make room", Phases: 3, Left: []string{"second", "third"}},
		{Host: "w-3", State: workflow.Finished, Phases: 2, Left: []string{}},
		{State: workflow.Finished, Phases: 1, Left: []string{}},
	}
	if diff := cmp.Diff(want, got.Hosts); diff != "" || !got.Failed || len(got.Errors) != 1 || got.DebugLog == "" {
		t.Errorf("%+v (-want +got):\n%s", got, diff)
	}
}

// With --log-format json every line of stderr is an object, up to the errors.
func TestStderrAsJSON(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("MYADM_LOG_FORMAT", "json")
	_, _, stderr := try(t, true)
	seen := map[string]map[string]any{}
	for line := range strings.Lines(stderr) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if fields["time"] == nil || fields["level"] == nil {
			t.Errorf("no time or level: %s", line)
		}
		delete(fields, "time")
		delete(fields, "elapsed")
		seen[fmt.Sprint(fields["msg"], " ", fields["phase"], " ", fields["host"])] = fields
	}
	for _, want := range []map[string]any{
		{"level": "INFO", "msg": "phase-started", "phase": "second", "hosts": 2.0},
		{"level": "DEBUG", "msg": "checking", "phase": "second", "host": "w-1"},
		{"level": "DEBUG", "msg": "applying", "phase": "second", "host": "w-1", "changes": 1.0},
		{"level": "DEBUG", "msg": "change", "phase": "second", "host": "w-1", "action": "create", "object": "/etc/second", "detail": "mode 0600"},
		{"level": "INFO", "msg": "doing", "phase": "second", "host": "w-1", "detail": "write it"},
		{"level": "INFO", "msg": "applied", "phase": "second", "host": "w-1", "changes": 1.0},
		{"level": "INFO", "msg": "unchanged", "phase": "addons", "changes": 0.0},
		{"level": "ERROR", "msg": "failed", "phase": "second", "host": "w-2", "error": "join --token abcdef.***: no space left; hint: make room"},
		{"level": "ERROR", "msg": "error", "phase": "second", "host": "w-2", "error": "w-2: second: join --token abcdef.***: no space left", "hint": "make room"},
		{"level": "INFO", "msg": "outcome", "host": "w-1", "state": "done", "phases": 2.0, "left": ""},
	} {
		if diff := cmp.Diff(want, seen[fmt.Sprint(want["msg"], " ", want["phase"], " ", want["host"])]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if last := strings.TrimSpace(stderr[strings.LastIndex(strings.TrimSpace(stderr), "\n")+1:]); !strings.Contains(last, `"msg":"debug-log"`) {
		t.Errorf("the last line is %s", last)
	}
}

func TestUsageErrorsAreJSONToo(t *testing.T) {
	for _, args := range [][]string{{"--log-format", "json", "apply", "--no-such-flag"}, {"apply", "--log-format=json"}} {
		var out, errs bytes.Buffer
		code := Main(t.Context(), args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		var fields map[string]any
		if err := json.Unmarshal(errs.Bytes(), &fields); code != 2 || err != nil || fields["hint"] == nil {
			t.Errorf("%q: exit code %d, %v\n%s", args, code, err, &errs)
		}
	}
}

// The timeline is written in any case, and as a whole: it replaces the one of an earlier run.
func TestTimelineOfACommand(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := t.TempDir()
	path := filepath.Join(dir, "timeline.html")
	for _, fails := range []bool{false, true} {
		try(t, fails, "--timeline", path)
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		result := regexp.MustCompile(`<title>myadm trial: (\w+) in`).FindSubmatch(page)
		want := map[bool]string{true: "failed", false: "done"}[fails]
		if result == nil || string(result[1]) != want || !bytes.Contains(page, []byte(`title="w-2"`)) || bytes.Contains(page, []byte("0123456789abcdef")) {
			t.Errorf("result %q, want %s; or a host is missing, or a secret is there", result, want)
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("%d files are left", len(left))
		}
	}
	for _, wrong := range []string{filepath.Join(dir, "missing", "t.html"), dir, filepath.Join(path, "t.html")} {
		if code, _, stderr := try(t, false, "--timeline", wrong); code != 2 || strings.Contains(stderr, "first") {
			t.Errorf("%s: exit code %d\n%s", wrong, code, stderr)
		}
	}
}

// Every command that runs phases keeps a log, and so do those that make and delete tokens.
func TestWhichCommandsKeepALog(t *testing.T) {
	var kept []string
	for _, c := range commands(t) {
		path := strings.TrimPrefix(c.CommandPath(), "myadm ")
		if c.Annotations[keptKey] != "" && !strings.HasPrefix(path, "init phase ") {
			kept = append(kept, path)
		}
	}
	want := []string{"apply", "etcd backup", "etcd restore", "images pull", "init", "join", "reset", "token create", "token delete", "upgrade apply", "upgrade node"}
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(kept))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What makes and deletes tokens leaves a log, in which the command line is without them, even one that is misspelt.
func TestTokensAreNotInTheLog(t *testing.T) {
	for _, args := range [][]string{
		{"token", "create", "--token", aToken},
		{"token", "delete", aToken, "ABCDEF.0123456789ABCDEF"},
	} {
		state := t.TempDir()
		t.Setenv("XDG_STATE_HOME", state)
		before := os.Args
		os.Args = slices.Concat([]string{"myadm"}, args, []string{"--host", "root@127.0.0.1:1"}) // where nobody listens
		t.Cleanup(func() { os.Args = before })
		var out, errs bytes.Buffer
		code := Main(t.Context(), os.Args[1:], Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		logs := logsIn(t, state)
		if code != exitFailed || len(logs) != 1 || !strings.Contains(errs.String(), "debug log: "+logs[0]) {
			t.Fatalf("%q: exit code %d, logs %q\n%s", args, code, logs, &errs)
		}
		data, err := os.ReadFile(logs[0])
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.ToLower(string(data) + errs.String()); strings.Contains(all, "0123456789abcdef") || !strings.Contains(all, "myadm "+args[0]+" "+args[1]+" ") {
			t.Errorf("%q: %s", args, data)
		}
	}
}
