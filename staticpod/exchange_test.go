package staticpod

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
)

// runScript has a real shell run a script, with tools of the test's own in front of its PATH.
func runScript(t *testing.T, script string, tools map[string]string, args ...string) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	for name, tool := range tools {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+tool+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a script that waits in vain is to fail the test
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	return cmd.Output()
}

// site is a folder in the place of a host, for exchangeScript.
type site struct {
	*testing.T
	dir   string
	tools map[string]string
}

func newSite(t *testing.T, files map[string]string) *site {
	s := &site{T: t, dir: t.TempDir()}
	s.tools = map[string]string{"systemctl": `echo "$*" >>` + s.at("log")}
	lay(t, s.dir, files)
	return s
}

func (s *site) at(name string) string { return filepath.Join(s.dir, name) }

// exchange runs the script on the folder. What is empty stays empty.
func (s *site) exchange(e Exchange) error {
	s.Helper()
	at := func(name string) string {
		if name == "" {
			return ""
		}
		return s.at(name)
	}
	runtime := "no"
	if e.Runtime {
		runtime = "yes"
	}
	args := []string{strings.Join(e.End, " "), at(e.Data), at(e.CopyTo), at(e.CopyFrom), runtime}
	for _, m := range e.Moves {
		args = append(args, at(m.From), at(m.To), at(m.Keep))
	}
	script := strings.NewReplacer("/var/log/pods", s.at("pods"), "/proc/[0-9]", s.at("proc/[0-9]"), "#/proc/}", "#"+s.dir+"/proc/}").Replace(exchangeScript)
	_, err := runScript(s.T, script, s.tools, args...)
	return err
}

// files are all files of the folder but those that the test needs itself.
func (s *site) files() map[string]string {
	s.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(s.dir, path)
		if err != nil || d.IsDir() || name == "log" {
			return err
		}
		data, err := os.ReadFile(path)
		found[name] = string(data)
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return found
}

// log is what was done, line by line.
func (s *site) log() []string {
	s.Helper()
	data, err := os.ReadFile(s.at("log"))
	if err != nil {
		s.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

var wholeExchange = []string{"stop kubelet.service", "start kubelet.service"}

func TestExchangeScriptMoves(t *testing.T) {
	s := newSite(t, map[string]string{"new/a": "a 2", "new/b": "b 2", "new/c": "c 2", "a": "a 1", "b": "b 1", "kept-b": "b 0"})
	if err := os.Chmod(s.at("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.tools["mv"] = `echo "mv ${3##*/}" >>` + s.at("log") + `; exec /bin/mv "$@"`
	err := s.exchange(Exchange{Runtime: true, Moves: []Move{{"new/b", "b", "kept-b"}, {"new/a", "a", "kept-a"}, {"new/c", "c", "kept-c"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "a 2", "b": "b 2", "c": "c 2", "kept-a": "a 1", "kept-b": "b 1"}
	if diff := cmp.Diff(want, s.files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if info, err := os.Stat(s.at("kept-a")); err != nil || info.Mode() != 0o600 {
		t.Errorf("what was replaced is kept with %v, %v", info, err)
	}
	order := []string{"stop kubelet.service", "mv b", "mv a", "mv c", "restart containerd.service", "start kubelet.service"}
	if diff := cmp.Diff(order, s.log()); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// Where links are not possible, what is replaced is kept as a copy.
func TestExchangeScriptKeepsACopy(t *testing.T) {
	s := newSite(t, map[string]string{"new/a": "a 2", "a": "a 1"})
	s.tools["ln"] = "exit 1"
	if err := s.exchange(Exchange{Moves: []Move{{"new/a", "a", "kept-a"}}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "a 2", "kept-a": "a 1"}, s.files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An exchange that fails half-way can be put back: also what was kept and not replaced yet.
func TestExchangeScriptUndoesHalf(t *testing.T) {
	s := newSite(t, map[string]string{"new/a": "a 2", "a": "a 1", "b": "b 1"})
	if err := s.exchange(Exchange{Moves: []Move{{"new/a", "a", "kept-a"}, {"new/b", "b", "kept-b"}}}); err == nil {
		t.Error("new/b was not there, and it is no error")
	}
	if err := s.exchange(Exchange{Moves: []Move{{"kept-a", "a", "new/a"}, {"kept-b", "b", "new/b"}}}); err != nil {
		t.Fatal(err)
	}
	got := s.files()
	delete(got, "new/b") // as good as any other leftover: it is compared before it is used
	if diff := cmp.Diff(map[string]string{"a": "a 1", "b": "b 1", "new/a": "a 2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What nobody wants back is not kept.
func TestExchangeScriptKeepsNothing(t *testing.T) {
	s := newSite(t, map[string]string{"new/a": "a 2", "a": "a 1"})
	if err := s.exchange(Exchange{Moves: []Move{{From: "new/a", To: "a"}}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "a 2"}, s.files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever goes wrong, the kubelet is started, what comes after is not done, and the host says that it went wrong.
func TestExchangeScriptStartsTheKubelet(t *testing.T) {
	files := map[string]string{"new/b": "b 2", "a": "a 1", "b": "b 1", "member/wal": "1"}
	for _, tt := range []struct {
		name, tool, script string
		e                  Exchange
	}{
		{"what is to take a place is not there", "", "", Exchange{Moves: []Move{{"new/a", "a", "a"}, {"new/b", "b", "kept-b"}}}},
		{"the kubelet does not stop", "systemctl", `echo "$*" >>LOG; [ "$1" != stop ]`, Exchange{Moves: []Move{{"new/b", "b", "kept-b"}}}},
		{"the disk is full", "cp", `[ "$1" != -a ] || exit 1`, Exchange{Data: "member", CopyTo: "copy", Moves: []Move{{"new/b", "b", "kept-b"}}}},
		{"the data does not reach the disk", "sync", `exit 1`, Exchange{Data: "member", CopyTo: "copy", Moves: []Move{{"new/b", "b", "kept-b"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, files)
			if tt.tool != "" {
				s.tools[tt.tool] = strings.ReplaceAll(tt.script, "LOG", s.at("log"))
			}
			tt.e.Runtime = true
			if err := s.exchange(tt.e); err == nil {
				t.Error("it is no error")
			}
			got := s.files()
			delete(got, "copy.part/wal")
			if diff := cmp.Diff(files, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wholeExchange, s.log()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Etcd's data is copied before anything takes its place, once, and what is left of a copy that was cut is none.
func TestExchangeScriptCopiesOnce(t *testing.T) {
	s := newSite(t, map[string]string{"etcd/member/snap/db": "1", "etcd/member/wal": "1", "etcd/copy.part/half": "?"})
	e := Exchange{Data: "etcd/member", CopyTo: "etcd/copy"}
	if err := s.exchange(e); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"etcd/member/snap/db": "1", "etcd/member/wal": "1", "etcd/copy/snap/db": "1", "etcd/copy/wal": "1"}
	if diff := cmp.Diff(want, s.files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	lay(t, s.dir, map[string]string{"etcd/member/wal": "written by the new one"})
	if err := s.exchange(e); err != nil {
		t.Fatal(err)
	}
	if got := s.files()["etcd/copy/wal"]; got != "1" {
		t.Errorf("the copy was made again: %q", got)
	}
}

func TestExchangeScriptComesBack(t *testing.T) {
	s := newSite(t, map[string]string{"member/wal": "2", "member.failed/old": "?", "copy/wal": "1"})
	e := Exchange{Data: "member", CopyFrom: "copy"}
	if err := s.exchange(e); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"member/wal": "1", "member.failed/wal": "2"}
	if diff := cmp.Diff(want, s.files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// There is nothing to come back to a second time.
	if err := s.exchange(e); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, s.files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// runPod has a program run as a static pod's on the site: a shell under its name, which runs a script. The script is told
// the file to log in.
func (s *site) runPod(name, uid, script string) *exec.Cmd {
	s.Helper()
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		s.Fatal(err)
	}
	lay(s.T, s.dir, map[string]string{uid + "/" + name: string(shell), "pods/kube-system_" + name + "-cp-1_" + uid + "/" + name + "/0.log": ""})
	cmd := exec.Command(s.at(uid+"/"+name), "-c", script+"; echo ready; while :; do sleep 99 & wait $!; done", name, s.at("log"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatal(err)
	}
	_, readErr := out.Read(make([]byte, 1)) // it is exec'd, and has set its traps
	ended := make(chan struct{})
	go func() { // or it stays as a zombie
		defer close(ended)
		_ = cmd.Wait()
	}()
	s.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has started lives on without it
		<-ended
	})
	if readErr != nil {
		s.Fatal(readErr)
	}
	lay(s.T, s.dir, map[string]string{"proc/" + strconv.Itoa(cmd.Process.Pid) + "/cgroup": "0::/kubepods/pod" + uid + "/x\n"})
	return cmd
}

const logsItsEnd = `trap 'sleep 0.05; echo "$0 ends" >>"$1"; exit' TERM`

// The programs end before anything is moved, etcd after those that need it. One that does not end by itself is not waited
// for without end, and others of the same name are left alone.
func TestExchangeScriptEndsPrograms(t *testing.T) {
	s := newSite(t, map[string]string{"new": "2", "old": "1"})
	s.tools["sleep"] = "exec /bin/sleep 0.002" // its patience takes no time
	s.tools["mv"] = `echo mv >>` + s.at("log") + `; exec /bin/mv "$@"`
	s.runPod("etcd", "0e", logsItsEnd)
	s.runPod("kube-scheduler", "0b", logsItsEnd)
	deaf := s.runPod("kube-apiserver", "0a", "trap '' TERM")
	theirs := s.runPod("kube-scheduler", "3b6c3a5e-0000-4000-8000-0123456789ab", logsItsEnd)
	stays := s.runPod("kube-controller-manager", "0c", logsItsEnd)
	if err := s.exchange(Exchange{End: []string{"etcd", "kube-apiserver", "kube-scheduler"}, Moves: []Move{{"new", "old", "kept"}}}); err != nil {
		t.Fatal(err)
	}
	want := []string{"stop kubelet.service", "kube-scheduler ends", "etcd ends", "mv", "start kubelet.service"}
	if diff := cmp.Diff(want, s.log()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := syscall.Kill(deaf.Process.Pid, 0); err == nil {
		t.Error("a program that does not end by itself lives")
	}
	for _, cmd := range []*exec.Cmd{theirs, stays} {
		if err := syscall.Kill(cmd.Process.Pid, 0); err != nil {
			t.Errorf("%s was ended: %v", cmd.Path, err)
		}
	}
}

// exchanges registers what the fake answers to an exchange.
func exchanges(f *hosttest.Fake) *hosttest.Rule {
	return f.OnPrefix("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--unit=myadm-exchange.service", "sh", "/x/exchange.sh").Changes()
}

func TestExchangeRun(t *testing.T) {
	f := hosttest.New(t, "cp-1")
	exchanges(f)
	e := Exchange{
		Folder: "/x", Moves: []Move{{"/n/a", "/a", "/k/a"}, {"/n/b", "/b", "/k/b"}}, End: []string{"kube-apiserver", "etcd"}, Runtime: true,
		Data: "/d/member", CopyTo: "/d/copy",
	}
	if err := e.Run(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	calls := f.Commands()
	want := []string{"kube-apiserver etcd", "/d/member", "/d/copy", "", "yes", "/n/a", "/a", "/k/a", "/n/b", "/b", "/k/b"}
	if len(calls) != 1 || !slices.Equal(calls[0].Argv[8:], want) {
		t.Errorf("ran %q", calls)
	}
	if script, _ := f.Get("/x/exchange.sh"); string(script.Data) != exchangeScript || script.Mode != 0o700 {
		t.Errorf("the script is %v:\n%s", script.Mode, script.Data)
	}
	f.ResetRecord()
	if err := (Exchange{Folder: "/x"}).Run(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if calls := f.Commands(); !slices.Equal(calls[0].Argv[8:], []string{"", "", "", "", "no"}) {
		t.Errorf("ran %q", calls)
	}
}

// An exchange that fails says what the script said, and not its command line; one that is cut says why.
func TestExchangeRunFails(t *testing.T) {
	f := hosttest.New(t, "cp-1")
	exchanges(f).Fail(1, "mv: cannot stat '/n/a'")
	err := Exchange{Folder: "/x", Moves: []Move{{"/n/a", "/a", "/k/a"}}}.Run(t.Context(), f)
	var exit *host.ExitError
	if !errors.As(err, &exit) || exit.Code != 1 {
		t.Fatalf("got %v", err)
	}
	for part, want := range map[string]bool{"mv: cannot stat '/n/a'": true, "journalctl -u myadm-exchange.service": true, "/k/a": false} {
		if strings.Contains(err.Error(), part) != want {
			t.Errorf("%q has %q: want that %t", err, part, want)
		}
	}
	stop := errors.New("the operator said stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	exchanges(f).Do(func(*hosttest.Fake, host.Cmd) ([]byte, error) {
		cancel(stop)
		return nil, ctx.Err()
	})
	if err := (Exchange{Folder: "/x"}).Run(ctx, f); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}
