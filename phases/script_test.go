package phases

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

// The scripts are code as well. Here a real shell runs them, on the machine that runs the test.

// shell runs queries on this machine, with a folder in front of its PATH.
type shell struct {
	host.Reader
	path string
}

func (s shell) Query(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	c := exec.CommandContext(ctx, cmd.Argv[0], cmd.Argv[1:]...)
	c.Env = append(os.Environ(), "PATH="+s.path+":"+os.Getenv("PATH"), "LANG=de_DE.UTF-8")
	c.WaitDelay = time.Second
	out, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &host.ExitError{Argv: cmd.Argv, Code: exit.ExitCode(), Stderr: exit.Stderr}
	}
	return out, err
}

// tool puts a program of the test's own into the PATH.
func (s shell) tool(t *testing.T, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.path, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestUnitScript(t *testing.T) {
	s := shell{path: t.TempDir()}
	// It must ask in a language and a time zone that the parser knows.
	s.tool(t, "systemctl", `[ "$LC_ALL/$TZ" = C/UTC ] || exit 9
echo "args=$*"
printf 'LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\nExecMainStartTimestamp=Fri 2027-01-15 08:00:00 UTC\n'`)
	dir := t.TempDir()
	old, young := filepath.Join(dir, "old"), filepath.Join(dir, "young file")
	for path, at := range map[string]int64{old: 1_700_000_000, young: 1_800_000_001} {
		write(t, path, "")
		if err := os.Chtimes(path, time.Unix(at, 0), time.Unix(at, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		files []string
		todo  string
	}{
		{nil, ""},
		{[]string{old, filepath.Join(dir, "missing")}, ""},
		{[]string{filepath.Join(dir, "missing"), old, young}, "restart: its files are newer than it"},
	} {
		state, err := readUnit(t.Context(), s, "kubelet.service", tt.files...)
		if err != nil || state.todo() != tt.todo {
			t.Errorf("%q: to do is %q, %v, want %q", tt.files, state.todo(), err, tt.todo)
		}
	}
}

func TestSurveyScript(t *testing.T) {
	s := shell{path: t.TempDir()}
	s.tool(t, "df", `printf 'Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 100 60 40 60%% /\n'`)
	dir := t.TempDir()
	there := filepath.Join(dir, "with blank")
	write(t, there, "")
	kubelets := filepath.Join(dir, "kubelet-client-current.pem")
	write(t, kubelets, nodeCredentials(t, "w-1"))
	out, err := s.Query(t.Context(), host.Command("sh", "-c", surveyScript, "sh", kubelets, there, filepath.Join(dir, "missing")))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "PRIVATE") {
		t.Errorf("the key leaves the host:\n%s", out)
	}
	got, err := parseSurvey(out)
	if err != nil {
		t.Fatal(err)
	}
	if got.nodeName != "w-1" {
		t.Errorf("the node is %q", got.nodeName)
	}
	if diff := cmp.Diff(map[string]bool{there: true}, got.exists); diff != "" {
		t.Errorf("exists (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"/var/lib": 40, "/var/lib/containerd": 40}, got.freeKiB); diff != "" {
		t.Errorf("free (-want +got):\n%s", diff)
	}
}

// A port is found in the kernel's own list, whatever the address and the family of who listens.
func TestSurveyScriptFindsListeners(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		port := listen(t, address)
		if port == 0 {
			continue // no IPv6 here; the other address is enough for the test to mean something
		}
		s, err := takeSurvey(t.Context(), shell{path: t.TempDir()}, "/var/lib/etcd")
		if err != nil {
			t.Fatal(err)
		}
		if !s.ports[port] {
			t.Errorf("%s: port %d is not among %v", address, port, s.ports)
		}
	}
}

// listen gives a port on which this process listens, and 0 when the address is none of this machine.
func listen(t *testing.T, address string) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		return 0
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestPresentScript(t *testing.T) {
	s := shell{path: t.TempDir()}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("file"), "")
	for _, d := range []string{"folder", "mounted", "mounted-full"} {
		if err := os.Mkdir(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, at("mounted-full/x"), "")
	if err := os.Symlink(at("nowhere"), at("broken link")); err != nil {
		t.Fatal(err)
	}
	s.tool(t, "mountpoint", `case "$2" in */mounted*) exit 0;; esac; exit 1`)
	asked := []string{at("missing"), at("file"), at("folder"), at("mounted"), at("mounted-full"), at("broken link"), at("file")}
	got, err := present(t.Context(), s, asked)
	if err != nil {
		t.Fatal(err)
	}
	got = withoutNamespaces(got)
	if diff := cmp.Diff([]string{at("file"), at("folder"), at("mounted-full"), at("broken link")}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What an upgrade puts beside the kubelet is found wherever the unit runs it.
func TestPresentScriptLooksBesideTheKubelet(t *testing.T) {
	s := shell{path: t.TempDir()}
	kubelet := filepath.Join(t.TempDir(), "kubelet")
	s.tool(t, "systemctl", `[ "$*" = "show -p ExecStart kubelet.service" ] && echo "ExecStart={ path=`+kubelet+` ; argv[]=`+kubelet+` --root-path=/x ; }"`)
	want := []string{config.PreviousBinary(kubelet), config.StagedBinary(kubelet)}
	for _, p := range append([]string{kubelet}, want...) {
		write(t, p, "")
	}
	got, err := present(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, withoutNamespaces(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// withoutNamespaces takes away what the machine that runs the test may have of pods of its own.
func withoutNamespaces(paths []string) []string {
	var rest []string
	for _, p := range paths {
		if !strings.HasPrefix(p, podNetworks) {
			rest = append(rest, p)
		}
	}
	return rest
}

func TestTidyScript(t *testing.T) {
	dir := t.TempDir()
	empty, full, outer := filepath.Join(dir, "a", "empty"), filepath.Join(dir, "full"), filepath.Join(dir, "a")
	for _, d := range []string{empty, full} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(full, "x"), "")
	s := shell{path: t.TempDir()}
	asked := filepath.Join(dir, "asked")
	s.tool(t, "find", `echo "$*" >>`+asked) // this machine's cgroups are not the test's to remove
	if _, err := s.Query(t.Context(), host.Command("sh", "-c", tidyScript, "sh", empty, outer, full, filepath.Join(dir, "missing"))); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(asked); err != nil || string(data) != "/sys/fs/cgroup -depth -type d -path */kubepods* -exec rmdir {} +\n" {
		t.Errorf("cgroups are looked for with %q, %v", data, err)
	}
	for path, want := range map[string]bool{empty: false, outer: false, full: true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %t", path, err, want)
		}
	}
}

func TestForgetScript(t *testing.T) {
	for _, tt := range []struct {
		systemctl string
		ok        bool
	}{
		{"exit 0", true},
		{`[ "$1" = daemon-reload ]`, true}, // nothing has failed that could be reset
		{"exit 1", false},
	} {
		s := shell{path: t.TempDir()}
		s.tool(t, "systemctl", tt.systemctl)
		if _, err := s.Query(t.Context(), host.Command("sh", "-c", forgetScript)); (err == nil) != tt.ok {
			t.Errorf("with %q: %v", tt.systemctl, err)
		}
	}
}

func TestWaitScript(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with blank")
	write(t, path, "") // a file that is being written is not there yet
	done := make(chan error, 1)
	go func() { done <- WaitForFile(t.Context(), shell{}, path, time.Minute) }()
	write(t, path, "whole")
	if err := <-done; err != nil {
		t.Error(err)
	}
	s := shell{path: t.TempDir()}
	s.tool(t, "journalctl", "echo it waits")
	err := WaitForFile(t.Context(), s, path+"-not", 50*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "last log lines:\nit waits") {
		t.Errorf("got %v", err)
	}
}

func TestKernelScript(t *testing.T) {
	c, _ := testCluster(t, "h1")
	out, err := shell{}.Query(t.Context(), host.Command("sh", "-c", kernelScript(params(c))))
	if err != nil {
		t.Fatal(err)
	}
	forward, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	if want := "sysctl=net.ipv4.ip_forward " + strings.TrimSpace(string(forward)) + "\n"; !strings.Contains(string(out), want) {
		t.Errorf("%q is not in\n%s", want, out)
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	loaded := strings.Contains(string(filesystems), "\toverlay\n")
	if strings.Contains(string(out), "module=overlay\n") != loaded {
		t.Errorf("overlay is in the kernel: %t\n%s", loaded, out)
	}
	for _, m := range manifests.Modules(params(c)) {
		if moduleSigns[m] == "" {
			t.Errorf("there is no sign of module %s", m)
		}
	}
}
