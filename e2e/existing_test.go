//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/e2e/lab"
)

// theirs is a containerd that an administrator has installed on h1 by hand, with a configuration and a socket of its own.
type theirs struct {
	*site
	pause string // its image
}

const (
	theirSocket = "/run/theirs/containerd.sock"
	theirFolder = "/opt/theirs/bin"
	theirConfig = "/run/theirs.toml"
	theirUnit   = `[Unit]
Description=A container runtime that was here before
[Service]
Type=notify
Environment=PATH=` + theirFolder + `:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=` + theirFolder + `/containerd --config ` + theirConfig + `
Delegate=yes
KillMode=process
`
)

func (s *site) installTheirs(t *testing.T) *theirs {
	t.Helper()
	b, err := bundle.Open(made.bundle)
	must(t, err)
	defer b.Close()
	pause, err := b.Image("pause", runtime.GOARCH)
	must(t, err)
	for name, folder := range map[string]string{
		"containerd": theirFolder, "containerd-shim-runc-v2": theirFolder, "runc": theirFolder, "ctr": "/usr/local/bin",
	} {
		program := filepath.Join(t.TempDir(), name)
		must(t, extract(made.bundle, name, program))
		must(t, s.Copy(t.Context(), "h1", program, folder+"/"+name))
	}
	s.put(t, "/etc/systemd/system/theirs.service", theirUnit)
	s.shell(t, "h1", "mkdir -p /run/containerd; systemctl daemon-reload") // in /run/containerd any containerd's shims have their sockets
	return &theirs{site: s, pause: pause.Image}
}

// put writes a file of h1.
func (s *site) put(t *testing.T, path, content string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte(content), 0o644))
	must(t, s.Copy(t.Context(), "h1", file, path))
}

// configure starts the runtime with or without CRI, and with a cgroup driver.
func (r *theirs) configure(t *testing.T, cri bool, driver string) {
	t.Helper()
	disabled := ""
	if !cri {
		disabled = `disabled_plugins = ["io.containerd.grpc.v1.cri"]` + "\n"
	}
	r.put(t, theirConfig, "version = 3\n"+disabled+fmt.Sprintf(`imports = ["/etc/containerd/conf.d/*.toml"]
state = "/run/theirs/state"
[grpc]
  address = %q
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %q
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = %t
`, theirSocket, r.pause, driver == "systemd"))
	r.shell(t, "h1", "systemctl restart theirs.service")
}

// files are the host's, without what the runtime itself keeps.
func (r *theirs) files(t *testing.T) listing {
	t.Helper()
	files := r.everything(t, "h1")
	maps.DeleteFunc(files, func(path, _ string) bool { return strings.HasPrefix(path, "/var/lib/containerd/") })
	return files
}

func (r *theirs) wantAsFound(t *testing.T, before found) {
	t.Helper()
	if diff := before.files.difference(r.files(t)); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
	eventually(t, 10*time.Second, "no trace of Kubernetes", func(context.Context) error {
		if diff := before.traces.difference(r.traces(t, "h1")); diff != "" {
			return fmt.Errorf("(-before +after):\n%s", diff)
		}
		return nil
	})
}

// wantRefused has init be refused by preflight, with words, and with no file changed.
func (r *theirs) wantRefused(t *testing.T, before found, words ...string) {
	t.Helper()
	refused := r.myadm(t, nil, r.initArgs()...).want(t, 3)
	for _, w := range append(words, "error: h1: preflight: ", "hint: ") {
		if !strings.Contains(refused.stderr, w) {
			t.Errorf("it does not say %q: %s", w, refused)
		}
	}
	if diff := before.files.difference(r.files(t)); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
}

// TestExistingRuntime makes a node of a host that has a containerd. Whoever logs in is not root, and the socket is root's.
func TestExistingRuntime(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 1, HostUsers: map[string]string{"h1": lab.UserSudoWithPwd}})
	driver, other := "systemd", "cgroupfs"
	s.document = s.write(t, []string{"h1"}, nil, func(spec map[string]any) {
		spec["runtime"] = map[string]any{"type": "existing", "socket": theirSocket}
		if spec["kubelet"].(map[string]any)["cgroupDriver"] == other {
			driver, other = other, driver
		}
	})
	r := s.installTheirs(t)

	r.configure(t, true, other)
	before := found{r.files(t), r.traces(t, "h1")}

	t.Run("with another cgroup driver", func(t *testing.T) {
		r.wantRefused(t, before, "[CgroupDriver]", "containerd v", " has the cgroup driver "+other+", and the kubelet is to have "+driver)
	})
	t.Run("without CRI", func(t *testing.T) {
		r.configure(t, false, driver)
		r.wantRefused(t, before, "[CRI]", "runtime at "+theirSocket, "CRI v1 is not served there", "disabled_plugins")
	})
	t.Run("nobody listens", func(t *testing.T) {
		r.shell(t, "h1", "systemctl stop theirs.service")
		r.wantRefused(t, before, "[CRI]", "runtime at "+theirSocket, "dial unix "+theirSocket, "see whether the runtime runs")
	})

	r.configure(t, true, driver)
	pid := r.output(t, "h1", "systemctl", "show", "-p", "MainPID", "theirs.service")
	r.init(t)
	r.wantReady(t, "h1")
	var node struct {
		Status struct {
			NodeInfo struct{ ContainerRuntimeVersion string }
		}
	}
	must(t, yaml.Unmarshal([]byte(r.kubectl(t, "get", "node", "h1", "-o", "json")), &node))
	if got := node.Status.NodeInfo.ContainerRuntimeVersion; !strings.HasPrefix(got, "containerd://") {
		t.Errorf("the node's runtime is %q", got)
	}
	if again := r.init(t); !strings.Contains(again.stdout, "with 0 changes") {
		t.Errorf("init again has something to do: %s", again)
	}

	r.myadm(t, nil, "reset", "h1", "-f", r.document, "--yes").want(t, 0)
	r.wantAsFound(t, before)
	if got := r.output(t, "h1", "systemctl", "show", "-p", "MainPID", "theirs.service"); got != pid {
		t.Errorf("the runtime was %s and is %s", pid, got)
	}
	if left := r.output(t, "h1", "ctr", "--address", theirSocket, "--namespace", "k8s.io", "containers", "ls", "-q"); left != "" {
		t.Errorf("containers are left: %s", left)
	}
}
