package phases

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
)

// ctrScript is containerd's client over the files of a folder: what runs, by ID, and what was sent to it. A container named
// stubborn ends by SIGKILL alone.
const ctrScript = `
cd "$(dirname "$0")"
case "$*" in
"--namespace k8s.io tasks ls")
	echo "TASK    PID     STATUS"
	for id in $(ls running); do echo "$id    17    RUNNING"; done
	echo "id9    18    STOPPED" ;;
"--namespace k8s.io containers ls -q labels."*)
	[ $# = 6 ] || exit 9
	name=$(echo "$6" | sed 's/^labels."io.kubernetes.container.name"==\(.*\),labels."io.kubernetes.pod.namespace"==kube-system$/\1/')
	cat "container-$name" 2>/dev/null ;;
"--namespace k8s.io tasks kill --signal "*)
	echo "$6 $7" >>sent
	[ "$6 $7" = "SIGTERM stubborn" ] || rm "running/$7" ;;
*) echo "unknown: $*" >&2; exit 9 ;;
esac
true
`

func newCtr(t *testing.T, running ...string) shell {
	s := shell{path: t.TempDir()}
	s.tool(t, "ctr", ctrScript)
	if err := os.Mkdir(filepath.Join(s.path, "running"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, id := range running {
		write(t, filepath.Join(s.path, "running", id), "")
	}
	return s
}

func testDocument() *cluster.Cluster {
	c := &cluster.Cluster{Config: &config.Cluster{}}
	config.SetDefaults(c.Config)
	return c
}

func TestRunningScript(t *testing.T) {
	s := newCtr(t, "id1", "id3", "id4")
	// The second is of an earlier life of the pod, and has ended; coredns is none of the control plane's.
	for name, ids := range map[string]string{"etcd": "id1\nid2\n", "kube-apiserver": "id3\n", "kube-scheduler": "id9\n", "coredns": "id4\n"} {
		write(t, filepath.Join(s.path, "container-"+name), ids)
	}
	running, err := runningPods(t.Context(), testDocument(), s)
	want := []runningPod{{"kube-apiserver", "id3"}, {"etcd", "id1"}}
	if err != nil || !slices.Equal(running, want) {
		t.Errorf("%v, %v, want %v", running, err, want)
	}
	s.tool(t, "ctr", "echo no containerd >&2; exit 1")
	if running, err := runningPods(t.Context(), testDocument(), s); err != nil || len(running) > 0 {
		t.Errorf("without containerd: %v, %v", running, err)
	}
}

func TestEndTaskScript(t *testing.T) {
	for _, tt := range []struct{ id, patience, sent string }{
		{"id1", "200", "SIGTERM id1\n"},
		{"stubborn", "2", "SIGTERM stubborn\nSIGKILL stubborn\n"},
		{"gone", "200", ""},
	} {
		s := newCtr(t, "id1", "stubborn")
		argv := append([]string{"sh", "-c", endTaskScript, "sh", tt.id, tt.patience}, ctr(testDocument()).Argv...)
		if out, err := s.Query(t.Context(), host.Command(argv...)); err != nil {
			t.Errorf("%s: %s%v", tt.id, out, err)
		}
		sent, err := os.ReadFile(filepath.Join(s.path, "sent"))
		if err != nil && !errors.Is(err, os.ErrNotExist) || string(sent) != tt.sent {
			t.Errorf("%s: %q was sent, want %q (%v)", tt.id, sent, tt.sent, err)
		}
	}
}

func TestMoveScript(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	s := shell{path: t.TempDir()}
	move := func(from, to string) error {
		_, err := s.Query(t.Context(), host.Command("sh", "-c", moveScript, "sh", at(from), at(to)))
		return err
	}
	for _, d := range []string{"member", "new folder"} {
		if err := os.Mkdir(at(d), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, at(d+"/db"), d)
	}
	if err := move("new folder", "member"); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("over another: %v", err)
	}
	if err := move("member", "old folder"); err != nil {
		t.Error(err)
	}
	if err := move("new folder", "member"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"member/db": "new folder", "old folder/db": "member"} {
		if got, err := os.ReadFile(at(name)); string(got) != want {
			t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
		}
	}
	if err := move("nothing", "member2"); err == nil {
		t.Error("what is not there was moved")
	}
}

func TestReceiveScript(t *testing.T) {
	file := filepath.Join(t.TempDir(), "with blank")
	receive := func(file, content string) error {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", receiveScript, "sh", file)
		cmd.Stdin = strings.NewReader(content)
		return cmd.Run()
	}
	write(t, file, "left by an earlier run, for all to read, and longer")
	if err := receive(file, "a secret"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if got, err := os.ReadFile(file); string(got) != "a secret" {
		t.Errorf("%q, %v", got, err)
	}
	if err := receive(file+"/x", "x"); err == nil {
		t.Error("a place that is none was taken")
	}
}
