package staticpod

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/host/hosttest"
)

// Only the static pod's own processes are told of, whatever others call themselves, and only once an exchange that is under
// way has ended.
func TestArguments(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, map[string]string{
		"pods/kube-system_kube-apiserver-cp-1_0aa1/kube-apiserver/0.log":                                   "",
		"pods/kube-system_kube-apiserver-theirs_3b6c3a5e-0000-4000-8000-0123456789ab/kube-apiserver/0.log": "",
		"proc/11/cmdline": "kube-apiserver\x00--a=1\x00--b\x00",
		"proc/12/cmdline": "kube-apiserver\x00--theirs\x00",
		"proc/13/cmdline": "",
		"active":          "",
	})
	processAt(t, dir, "11", dir+"/kube-apiserver", "0aa1")
	processAt(t, dir, "12", dir+"/kube-apiserver", "3b6c3a5e-0000-4000-8000-0123456789ab")
	processAt(t, dir, "13", dir+"/kube-apiserver", "0aa1")
	out, err := runScript(t, rooted(ArgumentsScript, dir), map[string]string{
		"systemctl": "[ -e " + dir + "/active ]",
		"sleep":     "rm " + dir + "/active",
	}, "kube-apiserver")
	if err != nil {
		t.Fatal(err)
	}
	h := hosttest.New(t, "cp-1")
	h.On("sh", "-c", ArgumentsScript, "sh", "kube-apiserver").Return(string(out))
	got, err := Arguments(t.Context(), h, "kube-apiserver")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"kube-apiserver", "--a=1", "--b"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := os.ReadFile(dir + "/active"); err == nil {
		t.Error("an exchange that is under way was not waited for")
	}
}

// A host on which nothing runs is an answer too.
func TestArgumentsOfNothing(t *testing.T) {
	out, err := runScript(t, rooted(ArgumentsScript, t.TempDir()), map[string]string{"systemctl": "exit 3"}, "kube-apiserver")
	if err != nil || len(out) > 0 {
		t.Errorf("got %q, %v", out, err)
	}
}
