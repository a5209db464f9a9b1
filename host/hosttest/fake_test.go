package hosttest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
)

// recorder is a testing.TB whose failures are the subject of the test.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Cleanup(func()) {}

func TestFakeIsStrict(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, f *hosttest.Fake)
		want string // in the one failure
	}{
		{"unknown command", func(t *testing.T, f *hosttest.Fake) {
			if _, err := f.Run(t.Context(), host.Command("rm", "-rf", "/x")); err == nil {
				t.Error("an unknown command succeeded")
			}
		}, `["rm" "-rf" "/x"]`},
		{"longer than registered", func(t *testing.T, f *hosttest.Fake) {
			f.On("true")
			f.Query(t.Context(), host.Command("true", "x")) //nolint:errcheck // the failure is looked at
		}, `["true" "x"]`},
		{"change through Query", func(t *testing.T, f *hosttest.Fake) {
			f.OnPrefix("ctr").Changes()
			f.Query(t.Context(), host.Command("ctr", "images", "import")) //nolint:errcheck // the failure is looked at
		}, "through Query"},
		{"start through Query", func(t *testing.T, f *hosttest.Fake) {
			hosttest.Systemd(f)
			f.Query(t.Context(), host.Command("systemctl", "start", "kubelet")) //nolint:errcheck // the failure is looked at
		}, "through Query"},
		{"Once used up", func(t *testing.T, f *hosttest.Fake) {
			f.On("reboot").Once()
			f.Run(t.Context(), host.Command("reboot")) //nolint:errcheck // the failure is looked at
			f.Run(t.Context(), host.Command("reboot")) //nolint:errcheck // the failure is looked at
		}, `unexpected command ["reboot"]`},
		{"Once never used", func(t *testing.T, f *hosttest.Fake) {
			f.On("reboot", "now").Once()
			f.AssertDone()
		}, "reboot now"},
		{"relative path", func(t *testing.T, f *hosttest.Fake) {
			f.Stat(t.Context(), "etc/x") //nolint:errcheck // the failure is looked at
		}, `"etc/x"`},
		{"no mode", func(t *testing.T, f *hosttest.Fake) {
			f.WriteFiles(t.Context(), host.File{Path: "/x"}) //nolint:errcheck // the failure is looked at
		}, "/x: mode"},
		{"unexpected dial", func(t *testing.T, f *hosttest.Fake) {
			f.Dial(t.Context(), "tcp", "127.0.0.1:6443") //nolint:errcheck // the failure is looked at
		}, "tcp 127.0.0.1:6443"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{TB: t}
			tt.do(t, hosttest.New(r, "h1"))
			if len(r.failures) != 1 || !strings.Contains(r.failures[0], tt.want) || !strings.HasPrefix(r.failures[0], "h1: ") {
				t.Errorf("failures %q, want one with %q", r.failures, tt.want)
			}
		})
	}
}

func TestFakeRecords(t *testing.T) {
	f := hosttest.New(t, "h1")
	f.Put(host.File{Path: "/etc/put", Mode: 0o644})
	f.OnPrefix("ctr").Changes().Return("old")
	f.OnPrefix("ctr", "images").Changes().Return("new")
	f.On("ctr", "images", "ls").Once().Fail(1, "no such socket")

	out, err := f.Run(t.Context(), host.Command("ctr", "images", "ls"))
	if code, ok := host.ExitCode(err); !ok || code != 1 || !strings.Contains(err.Error(), "no such socket") {
		t.Errorf("first: %q, %v", out, err)
	}
	if out, err := f.Run(t.Context(), host.Command("ctr", "images", "ls")); string(out) != "new" || err != nil {
		t.Errorf("second: %q, %v, want the rule that was registered last", out, err)
	}
	stdin := host.Cmd{Argv: []string{"ctr", "tasks"}, Stdin: strings.NewReader("in")}
	if out, err := f.Run(t.Context(), stdin); string(out) != "old" || err != nil {
		t.Errorf("third: %q, %v", out, err)
	}
	for range 2 {
		if err := f.WriteFiles(t.Context(), host.File{Path: "/a/b", Mode: 0o600, Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Remove(t.Context(), "/a", "/nothing"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"/a/b", "/a/b"}, f.Writes()); diff != "" {
		t.Errorf("writes:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/a"}, f.Removed()); diff != "" {
		t.Errorf("removed:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ctr images ls", "ctr images ls", "ctr tasks"}, f.Runs()); diff != "" {
		t.Errorf("runs:\n%s", diff)
	}
	if in := f.Commands()[2].Stdin; string(in) != "in" {
		t.Errorf("standard input on record: %q", in)
	}
	if diff := cmp.Diff([]string{"/etc", "/etc/put"}, f.Paths("/")); diff != "" {
		t.Errorf("paths:\n%s", diff)
	}
}

func TestFakeFaults(t *testing.T) {
	f := hosttest.New(t, "h1")
	full := errors.New("no space left on device")
	file := host.File{Path: "/a", Mode: 0o600}
	f.FailWrites("/a", full)
	if err := f.WriteFiles(t.Context(), file); !errors.Is(err, full) {
		t.Errorf("write: %v", err)
	}
	f.FailWrites("/a", nil)
	f.Lose(full)
	if _, err := f.ReadFile(t.Context(), "/a"); !errors.Is(err, full) || !strings.Contains(err.Error(), "h1: connection lost") {
		t.Errorf("read: %v", err)
	}
	f.Lose(nil)
	if err := f.WriteFiles(t.Context(), file); err != nil {
		t.Errorf("healed: %v", err)
	}
}

func TestFakeRefusesMounts(t *testing.T) {
	f := hosttest.New(t, "h1")
	f.Put(host.File{Path: "/var/lib/kubelet/config.yaml", Mode: 0o644})
	f.Mount("/var/lib/kubelet/pods/a/volume")
	var mounted *host.MountedError
	if err := f.Remove(t.Context(), "/var/lib/kubelet"); !errors.As(err, &mounted) || mounted.Mount != "/var/lib/kubelet/pods/a/volume" {
		t.Fatalf("remove: %v", err)
	}
	if _, ok := f.Get("/var/lib/kubelet/config.yaml"); !ok {
		t.Error("something was removed all the same")
	}
	f.Unmount("/var/lib/kubelet/pods/a/volume")
	f.Mount("/var/lib/kubelet")
	if err := f.Remove(t.Context(), "/var/lib/kubelet"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/var", "/var/lib", "/var/lib/kubelet"}, f.Paths("/")); diff != "" {
		t.Errorf("paths (a mount point is emptied and stays):\n%s", diff)
	}
}

func TestSystemd(t *testing.T) {
	const unit = "[Service]\nExecStart=/usr/bin/kubelet\n[Install]\nWantedBy=multi-user.target\n"
	f := hosttest.New(t, "h1")
	units := hosttest.Systemd(f)
	show := func(want string) {
		t.Helper()
		out, err := f.Query(t.Context(), host.Command("systemctl", "show", "-p",
			"Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload", "kubelet", "containerd.service"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want+"\nId=containerd.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n"+
			"UnitFileState=\nNeedDaemonReload=no\n", string(out)); diff != "" {
			t.Errorf("show:\n%s", diff)
		}
	}
	block := func(load, active, sub, file, reload string) string {
		return fmt.Sprintf("Id=kubelet.service\nLoadState=%s\nActiveState=%s\nSubState=%s\nUnitFileState=%s\nNeedDaemonReload=%s\n",
			load, active, sub, file, reload)
	}
	run := func(args ...string) error {
		_, err := f.Run(t.Context(), host.Command(append([]string{"systemctl"}, args...)...))
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	show(block("not-found", "inactive", "dead", "", "no"))
	if code, _ := host.ExitCode(run("start", "kubelet")); code != 5 {
		t.Errorf("start of a unit that is not there: status %d", code)
	}
	f.Put(host.File{Path: "/usr/lib/systemd/system/kubelet.service", Mode: 0o644, Data: []byte(unit)})
	show(block("loaded", "inactive", "dead", "disabled", "no"))
	must(run("enable", "--now", "kubelet.service"))
	show(block("loaded", "active", "running", "enabled", "no"))
	if !slices.Contains(f.Paths("/etc"), "/etc/systemd/system/multi-user.target.wants/kubelet.service") {
		t.Error("enable made no link")
	}
	f.Put(host.File{Path: "/etc/systemd/system/kubelet.service.d/10.conf", Mode: 0o644, Data: []byte("[Service]\n")})
	show(block("loaded", "active", "running", "enabled", "yes"))
	must(run("restart", "kubelet"))
	if units.RunsCurrent("kubelet") {
		t.Error("restart without daemon-reload took up the drop-in")
	}
	must(run("daemon-reload"))
	must(run("restart", "kubelet"))
	if !units.RunsCurrent("kubelet") || units.Starts("kubelet") != 3 {
		t.Errorf("after daemon-reload and restart: current %v, %d starts", units.RunsCurrent("kubelet"), units.Starts("kubelet"))
	}
	must(run("disable", "--now", "kubelet"))
	show(block("loaded", "inactive", "dead", "disabled", "no"))
	must(run("mask", "kubelet"))
	show(block("masked", "inactive", "dead", "masked", "yes"))
	if code, _ := host.ExitCode(run("start", "kubelet")); code != 1 {
		t.Errorf("start of a masked unit: status %d", code)
	}
	must(run("unmask", "kubelet"))
	units.Refuse("kubelet")
	if code, _ := host.ExitCode(run("start", "kubelet")); code != 1 {
		t.Errorf("start of a unit that fails: status %d", code)
	}
	show(block("loaded", "failed", "failed", "disabled", "no"))
}
