package phases

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/myadm/myadm/host"
)

// The scripts that look for processes find them among those of the machine that runs the test. What they are to find are
// shells under other names.

// process is a shell that runs under another name, with the processes that it starts.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// pretend runs a script under the command line argv, in which the script's file follows the program. It ends with the test
// at the latest.
func pretend(t *testing.T, script string, argv ...string) *process {
	t.Helper()
	return shellAt(t, "/bin/sh", script, argv...)
}

// shellAt is pretend with a shell that lies elsewhere.
func shellAt(t *testing.T, path, script string, argv ...string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	write(t, file, script)
	cmd := exec.Command(path)
	cmd.Args = append([]string{argv[0], file}, argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	p := &process{t, cmd, bufio.NewScanner(r)}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		_ = cmd.Wait()
		r.Close()
	})
	return p
}

// line is the next line that it prints.
func (p *process) line() string {
	p.t.Helper()
	if !p.lines.Scan() {
		p.t.Fatalf("%q has ended: %v", p.cmd.Args[0], p.lines.Err())
	}
	return p.lines.Text()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, s); err != nil {
		p.t.Fatal(err)
	}
}

// idle does nothing once it says that it is there.
const idle = "echo ready; sleep 99 & wait"

// A shell's subshell has its command line, as HAProxy's worker has its master's. Each tells of SIGUSR2, and ends with
// SIGUSR1 only after that.
const pretendHAProxy = `
serve() { while [ -z "$end" ]; do sleep 9 & wait $!; done; echo "$1 ends"; }
trap 'end=1' USR1
(
	trap 'echo worker reloads' USR2
	trap 'end=1' USR1
	echo ready
	serve worker
) &
worker=$!
trap 'echo master reloads' USR2
echo ready
serve master
`

func TestReloadScriptTellsTheMasterAlone(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := filepath.Join(dir, "haproxy.cfg"), filepath.Join(dir, "own.cfg")
	for _, tt := range []struct {
		name string
		argv []string
		want bool
	}{
		{"ours", []string{"haproxy", "-W", "-db", "-f", ours}, true},
		{"ours, which has been reloaded before", []string{"/usr/local/sbin/haproxy", "-sf", "7", "-x", "sockpair@4", "-W", "-db", "-f", ours}, true},
		{"the user's", []string{"haproxy", "-W", "-f", theirs}, false},
		{"an editor", []string{"vi", "-haproxy", ours}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pretend(t, pretendHAProxy, tt.argv...)
			for range 2 {
				if got := p.line(); got != "ready" {
					t.Fatal(got)
				}
			}
			if _, err := (shell{}).Query(t.Context(), host.Command("sh", "-c", reloadScript, "sh", ours)); err != nil {
				t.Fatal(err)
			}
			p.signal(syscall.SIGUSR1)
			heard := map[string]bool{}
			for p.lines.Scan() {
				heard[p.lines.Text()] = true
				if heard["master ends"] && heard["worker ends"] {
					break
				}
			}
			if heard["master reloads"] != tt.want || heard["worker reloads"] || !heard["worker ends"] {
				t.Errorf("heard %v, want the master to reload: %t", heard, tt.want)
			}
		})
	}
}

// waits runs a script and tells whether it waited for a process, which ends when the script waits.
func waits(t *testing.T, p *process, argv ...string) bool {
	t.Helper()
	s := shell{path: t.TempDir()}
	waited := filepath.Join(s.path, "waited")
	s.tool(t, "sleep", fmt.Sprintf("echo >%s; kill -KILL -%d\n", waited, p.cmd.Process.Pid))
	if _, err := s.Query(t.Context(), host.Command(append([]string{"sh", "-c"}, argv...)...)); err != nil {
		t.Fatal(err)
	}
	_, err := os.Stat(waited)
	return err == nil
}

func TestEndEtcdScriptWaitsForTheDatasOwner(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		argv []string
		want bool
	}{
		{"ours", []string{"etcd", "--name=cp-1", "--data-dir=" + dir, "--x"}, true},
		{"ours, with the folder last", []string{"etcd", "--data-dir=" + dir}, true},
		{"that of another folder", []string{"etcd", "--data-dir=" + dir + "-2", "--x"}, false},
		{"a tool", []string{"etcdutl", "snapshot", "restore", "--data-dir=" + dir}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pretend(t, idle, tt.argv...)
			p.line()
			if got := waits(t, p, endEtcdScript, "sh", dir); got != tt.want {
				t.Errorf("the script waits: %t, want %t", got, tt.want)
			}
		})
	}
}
