package staticpod

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// said is what was read of programs, for a comparison.
func said(p Programs) map[string]string {
	all := map[string]string{}
	for name, v := range p.Versions {
		all[name] = v.String()
	}
	for name, r := range p.Restarts {
		all[name+" again"] = fmt.Sprintf("%s %d", r.Of, r.N)
	}
	return all
}

func TestParsePrograms(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		want         map[string]string
	}{
		{"nothing", "", map[string]string{}},
		{"a control plane", "kube-apiserver Kubernetes v1.37.2\nrestarts:kube-apiserver 0af3 2\netcd etcd Version: 3.7.2\nrestarts:etcd 1b 0\nkubelet Kubernetes v1.36.3\nrestarts:kubelet unit 1\n", map[string]string{
			"kube-apiserver": "1.37.2", "kube-apiserver again": "0af3 2", "etcd": "3.7.2", "etcd again": "1b 0",
			"kubelet": "1.36.3", "kubelet again": "unit 1",
		}},
		{"of two that run, the older", "etcd etcd Version: 3.7.2\netcd etcd Version: 3.6.8\netcd etcd Version: 3.7.1\n", map[string]string{"etcd": "3.6.8"}},
		{"one that was just ending", "kube-scheduler \nkubelet\n", map[string]string{}},
		{"one that says something else", "kube-scheduler exec format error\nkubelet Kubernetes v1.37\n", map[string]string{}},
		{"a build of somebody's own", "kubelet Kubernetes v1.37.2+lab.1\n", map[string]string{"kubelet": "1.37.2+lab.1"}},
		{"no pod, and no count", "restarts:etcd \nrestarts:kubelet unit \nrestarts:kube-scheduler 0a [not set]\nrestarts:kube-apiserver 0a -1\n", map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, said(parsePrograms([]byte(tt.answer)))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParsePrograms(f *testing.F) {
	f.Add([]byte("kube-apiserver Kubernetes v1.37.2\nrestarts:kube-apiserver 0af3 2\nkubelet Kubernetes v1.36.3\n"))
	f.Add([]byte("etcd etcd Version: 3.7.2\nrestarts:etcd  \n\n restarts: 3\n"))
	f.Add([]byte("kubelet v99999999999999999999.0.0\nrestarts:kubelet unit 99999999999999999999\nrestarts:x y -7\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		p := parsePrograms(out)
		for name, v := range p.Versions {
			if v == nil || strings.ContainsAny(name, " \t") {
				t.Errorf("%q runs in %v", name, v)
			}
			if v != nil && !p.Runs(name, v.String()) {
				t.Errorf("%q is not in its own version %s", name, v)
			}
		}
		for name, r := range p.Restarts {
			if r.N < 0 {
				t.Errorf("%q was started %d times again", name, r.N)
			}
		}
	})
}

func TestRuns(t *testing.T) {
	p := parsePrograms([]byte("kubelet Kubernetes v1.37.2\netcd etcd Version: 3.7.2\nkube-apiserver Kubernetes v1.37.2+lab\n"))
	for _, tt := range []struct {
		name, want string
		runs       bool
	}{
		{"kubelet", "v1.37.2", true},
		{"kubelet", "1.37.2", true},
		{"kubelet", "v1.37.3", false},
		{"kubelet", "v1.36.2", false},
		{"kubelet", "latest", false},
		{"kubelet", "", false},
		{"kube-apiserver", "v1.37.2+lab", true},
		{"kube-scheduler", "v1.37.2", false},
		{"etcd", "3.7.2-0", true},
		{"etcd", "3.7.0-3", true}, // the tag counts builds too
		{"etcd", "3.6.8-0", false},
		{"etcd", "4.7.2-0", false},
	} {
		if got := p.Runs(tt.name, tt.want); got != tt.runs {
			t.Errorf("%s runs in %q: %t, want %t", tt.name, tt.want, got, tt.runs)
		}
	}
}

// rooted has a script look for pods and processes in a folder instead of the machine that runs the test.
func rooted(script, dir string) string {
	return strings.NewReplacer("/var/log/pods", dir+"/pods", "/proc/", dir+"/proc/").Replace(script)
}

// lay writes files of a folder, with the folders above them.
func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// processAt is what /proc has of a process: the program that it runs, and the pod that it belongs to.
func processAt(t *testing.T, dir, pid, program, pod string) {
	t.Helper()
	lay(t, dir, map[string]string{"proc/" + pid + "/cgroup": "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + pod + ".slice/cri.scope\n"})
	if err := os.Symlink(program, filepath.Join(dir, "proc", pid, "exe")); err != nil {
		t.Fatal(err)
	}
}

// The programs of static pods are told from others of the same name by their pod, and asked themselves, whatever has
// been put in their place since.
func TestProgramsScript(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, map[string]string{
		"new/kube-apiserver": "#!/bin/sh\necho Kubernetes v1.37.2\n", "old/kube-apiserver": "#!/bin/sh\necho Kubernetes v1.36.3\necho more\n",
		"etcd": "#!/bin/sh\necho etcd Version: 3.7.2\necho Git SHA: 1\n", "pause": "#!/bin/sh\necho Kubernetes v1.0.0\n",
		"kubelet": "#!/bin/sh\n[ $1 = --version ] && echo Kubernetes v1.37.2\n",
		"pods/kube-system_kube-apiserver-cp-1_0aa1/kube-apiserver/0.log":                                   "",
		"pods/kube-system_kube-apiserver-cp-1_0bb2/kube-apiserver/9.log":                                   "",
		"pods/kube-system_kube-apiserver-cp-1_0bb2/kube-apiserver/10.log":                                  "",
		"pods/kube-system_kube-apiserver-cp-1_0bb2/kube-apiserver/10.log.20270115-080000":                  "",
		"pods/kube-system_etcd-cp-1_0cc3/etcd/0.log":                                                       "",
		"pods/kube-system_kube-scheduler-theirs_3b6c3a5e-0000-4000-8000-0123456789ab/kube-scheduler/7.log": "",
	})
	processAt(t, dir, "11", dir+"/old/kube-apiserver", "0aa1")
	processAt(t, dir, "12", dir+"/new/kube-apiserver", "0bb2")
	processAt(t, dir, "13", dir+"/pause", "0bb2")
	processAt(t, dir, "14", dir+"/etcd", "0cc3")
	processAt(t, dir, "15", dir+"/old/kube-apiserver", "-of-users")
	processAt(t, dir, "16", dir+"/new/kube-apiserver", "3b6c3a5e-0000-4000-8000-0123456789ab")
	if err := os.Symlink(dir+"/kubelet", filepath.Join(dir, "proc", "exe")); err != nil {
		t.Fatal(err)
	}
	processAt(t, dir, "17", dir+"/kubelet", "none")
	long := time.Unix(1_700_000_000, 0)
	older := filepath.Join(dir, "pods/kube-system_kube-apiserver-cp-1_0aa1/kube-apiserver")
	if err := os.Chtimes(older, long, long); err != nil {
		t.Fatal(err)
	}
	out, err := runScript(t, rooted(ProgramsScript, dir), map[string]string{
		"systemctl": `case "$*" in
*MainPID*kubelet.service) echo 17 ;;
*NRestarts*kubelet.service) echo 4 ;;
esac`,
	}, Names...)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"kube-apiserver": "1.36.3", "kube-apiserver again": "0bb2 10", "etcd": "3.7.2", "etcd again": "0cc3 0", "kubelet": "1.37.2", "kubelet again": "unit 4"}
	if diff := cmp.Diff(want, said(parsePrograms(out))); diff != "" {
		t.Errorf("(-want +got):\n%s\nof %s", diff, out)
	}
}

// A host on which nothing runs is an answer too.
func TestProgramsScriptOnAnEmptyHost(t *testing.T) {
	out, err := runScript(t, rooted(ProgramsScript, t.TempDir()), map[string]string{"systemctl": "echo 0"}, Names...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"kubelet again": "unit 0"}, said(parsePrograms(out))); diff != "" {
		t.Errorf("(-want +got):\n%s\nof %s", diff, out)
	}
}
