package upgrade

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

// encoded is a line of surveyScript with a file's content.
func encoded(path, content string) string {
	return "file=" + path + " " + base64.StdEncoding.EncodeToString([]byte(content)) + "\n"
}

// surveyed is what surveyScript prints on a control plane at v1.36.3 that myadm made.
var surveyed = `Welcome to cp-1!
runs=kube-apiserver /usr/local/bin/kube-apiserver Kubernetes v1.36.3
runs=kube-controller-manager /usr/local/bin/kube-controller-manager Kubernetes v1.36.3
runs=kube-scheduler /usr/local/bin/kube-scheduler Kubernetes v1.36.3
runs=etcd /usr/local/bin/etcd etcd Version: 3.6.8
runs=kubelet /usr/local/bin/kubelet Kubernetes v1.36.3
runs=kube-proxy /usr/local/bin/kube-proxy Kubernetes v1.36.3
runs=containerd /usr/local/bin/containerd containerd github.com/containerd/containerd/v2 v2.4.2 2fb2d0c5
free=/ 1048576 /
free=/usr/local/bin 1048576 /
free=/var/lib/containerd 2097152 /var/lib/containerd disk
etcd-db=20971520
images=known
image=REF TYPE
image=registry.k8s.io/kube-proxy:v1.36.3 sha256:aa
unit=ExecStart={ path=/usr/local/bin/kubelet ; argv[]=/usr/local/bin/kubelet $KUBELET_KUBEADM_ARGS ; }
size=/usr/local/bin/kubelet 7
` + encoded(config.KubeletConfigFile, "featureGates: {A: true}\n") + encoded(config.ManifestsDir+"/kube-apiserver.yaml", "pod") +
	encoded(manifests.ContainerdUnitPath, "[X-Myadm]\n")

func TestParseHost(t *testing.T) {
	a, err := parseHost([]byte(surveyed))
	if err != nil {
		t.Fatal(err)
	}
	h := a.state(nil)
	versions := map[string]string{}
	for _, name := range append([]string{"kube-router"}, surveyedPrograms...) {
		versions[name] = h.Version(name)
	}
	if diff := cmp.Diff(map[string]string{
		"kube-apiserver": "v1.36.3", "kube-controller-manager": "v1.36.3", "kube-scheduler": "v1.36.3", "kubelet": "v1.36.3",
		"kube-proxy": "v1.36.3", "etcd": "v3.6.8", "containerd": "v2.4.2", "kube-router": "",
	}, versions); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]space{
		"/": {"/", 1 << 30}, "/usr/local/bin": {"/", 1 << 30}, "/var/lib/containerd": {"/var/lib/containerd disk", 2 << 30},
	}, h.Disks, cmp.AllowUnexported(space{})); diff != "" {
		t.Errorf("disks (-want +got):\n%s", diff)
	}
	if !h.ControlPlane || string(h.Manifests["kube-apiserver"]) != "pod" || len(h.Manifests) != 1 || string(h.Kubelet) != "featureGates: {A: true}\n" {
		t.Errorf("files: %+v", h)
	}
	if h.EtcdDB != 20<<20 || h.KubeletPath != "/usr/local/bin/kubelet" || len(h.images) != 1 || h.KubeletFlags != nil {
		t.Errorf("%+v", h)
	}
}

func TestParseHostTakesTheOldestOfSeveral(t *testing.T) {
	a, err := parseHost([]byte("runs=kubelet /k Kubernetes v1.37.2\nruns=kubelet /k Kubernetes v1.36.3\nruns=kubelet /k Kubernetes v1.37.0\nruns=kubelet /k \nruns=kubelet\n"))
	if err != nil {
		t.Fatal(err)
	}
	h := a.state(nil)
	if v := h.Version(kubelet); v != "v1.36.3" {
		t.Errorf("got %s", v)
	}
	if h.images != nil {
		t.Error("nobody has said which images there are")
	}
}

func TestParseHostRefusesWhatIsNone(t *testing.T) {
	for _, line := range []string{"free=/ - /", "free=/ -1 /", "free=/ 9223372036854775807 /", "etcd-db=", "size=/x big", "file=/x ~"} {
		if a, err := parseHost([]byte(line)); err == nil {
			t.Errorf("%q: %+v", line, a)
		}
	}
}

// The host is brought what differs, and of what it never had only the kubelet.
func TestHostHasArtifacts(t *testing.T) {
	binary := func(name, target string, size int64, roles ...bundle.Role) bundle.Artifact {
		return bundle.Artifact{Name: name, Kind: bundle.KindBinary, Target: target, Blobs: []bundle.Blob{{Size: size}}, Roles: append(roles, bundle.RoleNode)}
	}
	image := func(name, digest string) bundle.Artifact {
		return bundle.Artifact{Name: name, Kind: bundle.KindImage, Image: name, Digest: digest}
	}
	const packaged = "unit=ExecStart={ path=/usr/bin/kubelet ; }\nsize=/usr/bin/kubelet 7\n"
	ours := encoded(manifests.ContainerdUnitPath, ownUnit(t))
	for _, tt := range []struct {
		name     string
		answer   string
		artifact bundle.Artifact
		missing  bool
	}{
		{"the same", "size=/b/kubectl 7", binary("kubectl", "/b/kubectl", 7), false},
		{"another", "size=/b/kubectl 8", binary("kubectl", "/b/kubectl", 7), true},
		{"a tool that the host does without", "", binary("kubectl", "/b/kubectl", 7), false},
		{"no kubelet", "", binary("kubelet", "/b/kubelet", 7), true},
		{"a kubelet elsewhere", packaged, binary("kubelet", "/b/kubelet", 8), true},
		{"the same kubelet elsewhere", packaged, binary("kubelet", "/b/kubelet", 7), false},
		{"a runtime of ours", ours + "size=/b/containerd 8", binary("containerd", "/b/containerd", 7, bundle.RoleRuntime), true},
		{"a runtime of theirs", "size=/b/containerd 8", binary("containerd", "/b/containerd", 7, bundle.RoleRuntime), false},
		{"an image", "images=known\nimage=a sha256:aa", image("a", "sha256:aa"), false},
		{"an image of another digest", "images=known\nimage=a sha256:ab", image("a", "sha256:aa"), true},
		{"no such image", "images=known", image("a", "sha256:aa"), true},
		{"a runtime that does not tell", "", image("a", "sha256:aa"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := parseHost([]byte(tt.answer))
			if err != nil {
				t.Fatal(err)
			}
			if h := a.state([]bundle.Artifact{tt.artifact}); (len(h.Missing) == 1) != tt.missing {
				t.Errorf("missing are %v", h.Missing)
			}
		})
	}
}

// ownUnit is the unit of a containerd that myadm brought.
func ownUnit(t *testing.T) string {
	t.Helper()
	unit := manifests.ContainerdUnit([]string{"/b/containerd"})
	return string(unit.Data)
}

func FuzzParseHost(f *testing.F) {
	f.Add([]byte(surveyed))
	f.Add([]byte("runs=kubelet /k Kubernetes v1.37.2+lab\nfree=\nfree=/ 1\nsize=/x 9223372036854775807\n"))
	f.Add([]byte("image=a sha256:aa\nimages=\nimage=a\nfile=/x =\nunit=path=/x/../y ;\n===\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		a, err := parseHost(out)
		if err != nil {
			if a != nil {
				t.Error("an answer comes with an error")
			}
			return
		}
		h := a.state([]bundle.Artifact{{Name: kubelet, Kind: bundle.KindBinary, Target: "/x", Blobs: []bundle.Blob{{Size: 1}}}, {Kind: bundle.KindImage, Image: "a"}})
		for _, d := range h.Disks {
			if d.free < 0 {
				t.Errorf("%d bytes are free", d.free)
			}
		}
		if h.KubeletPath != "" && host.CheckPath(h.KubeletPath) != nil {
			t.Errorf("the kubelet is at %q", h.KubeletPath)
		}
		for _, name := range surveyedPrograms {
			if v := h.Version(name); v != "" && !strings.HasPrefix(v, "v") {
				t.Errorf("%s runs %q", name, v)
			}
		}
	})
}

// surveyShell runs the script on the machine of the test, with programs of the test's own in front of its PATH.
func surveyShell(t *testing.T, tools map[string]string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range tools {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", surveyScript, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "LC_ALL=de_DE.UTF-8")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// A program is asked for its version also when its file was replaced since, as it is while an upgrade is under way.
func TestSurveyScriptAsksWhatRuns(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(bash)
	if err != nil {
		t.Fatal(err)
	}
	for _, deleted := range []bool{false, true} {
		t.Run(fmt.Sprintf("deleted %t", deleted), func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "kube-test")
			if err := os.WriteFile(program, data, 0o755); err != nil {
				t.Fatal(err)
			}
			start(t, program)
			if deleted {
				if err := os.Remove(program); err != nil {
					t.Fatal(err)
				}
			}
			out := surveyShell(t, nil, t.TempDir(), "/none", "/", "no-such|kube-test", "--")
			if want := "runs=kube-test " + program + " GNU bash, version "; !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		})
	}
}

// start runs a shell that waits, until the test ends.
func start(t *testing.T, program string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-c", "echo ready; read line")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cancel()
		if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Error(err)
		}
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is exec'd by now
		t.Fatal(err)
	}
}

func TestSurveyScriptReadsFilesAndDisks(t *testing.T) {
	dir := t.TempDir()
	there, db := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "etcd/member/snap/db")
	if err := os.MkdirAll(filepath.Dir(db), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{there: strings.Repeat("a: b\n", 100), db: "12345"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := surveyShell(t, map[string]string{
		"df":        `printf 'Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 100 60 40 60%% /mnt of %s\n' "$2"`,
		"systemctl": `[ "$*" = "show -p ExecStart kubelet.service" ] && echo "ExecStart={ path=/usr/bin/kubelet ; }"`,
		"ctr":       "exit 1",
	}, filepath.Join(dir, "etcd"), filepath.Join(dir, "none.sock"), "/ "+dir+"/not/there", "none", there, dir+"/missing", "--", there, dir+"/missing")
	a, err := parseHost([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]byte{there: []byte(strings.Repeat("a: b\n", 100))}, a.files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{there: 500}, a.sizes); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	want := map[string]space{
		"/": {"/mnt of /", 40 << 10}, dir + "/not/there": {"/mnt of " + dir, 40 << 10}, dir + "/etcd": {"/mnt of " + dir + "/etcd", 40 << 10},
	}
	if diff := cmp.Diff(want, a.disks, cmp.AllowUnexported(space{})); diff != "" {
		t.Errorf("disks (-want +got):\n%s", diff)
	}
	if a.etcdDB != 5 || a.images != nil || a.unit != "ExecStart={ path=/usr/bin/kubelet ; }" {
		t.Errorf("%+v", a)
	}
}
