//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/e2e/lab"
)

// again is how long a command may take that finds everything done. It needs two seconds.
const again = 30 * time.Second

// TestClusterOverSSH follows one cluster from bare hosts on: a host that is reached as root, one as root and one as a
// user whose sudo asks for a password.
func TestClusterOverSSH(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 3, HostUsers: map[string]string{"h3": lab.UserSudoWithPwd}})
	first := s.init(t, "-v")
	s.wantReady(t, "h1")
	joined := s.join(t, "-v")
	s.wantReady(t, "h1", "h2", "h3") // when the command returns, and not some time later
	s.waitAvailable(t)

	t.Run("the output tells no secret", func(t *testing.T) { s.wantNoSecret(t, first, joined) })
	t.Run("init ends with the next steps", func(t *testing.T) {
		for _, want := range []string{"kubectl --kubeconfig " + s.kubeconfig, "myadm join -f " + s.document} {
			if !strings.Contains(first.stdout, want) {
				t.Errorf("no %q on stdout: %s", want, first.stdout)
			}
		}
		wantMode(t, s.kubeconfig, 0o600)
	})
	t.Run("the control plane is marked", func(t *testing.T) {
		node, err := s.api(t).CoreV1().Nodes().Get(t.Context(), "h1", metav1.GetOptions{})
		must(t, err)
		for _, label := range []string{"node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers"} {
			if value, ok := node.Labels[label]; !ok || value != "" {
				t.Errorf("label %s is %q, %v", label, value, ok)
			}
		}
		want := []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
		if diff := cmp.Diff(want, node.Spec.Taints); diff != "" {
			t.Errorf("taints (-want +got):\n%s", diff)
		}
	})
	t.Run("certificates keep the contract", s.testCertificates)
	t.Run("pods of two nodes find each other", func(t *testing.T) { s.wantWorkload(t, "h2", "h3") })
	t.Run("running again changes nothing", s.testAgain)
	t.Run("tokens", s.testTokens)
	t.Run("kubeconfig", s.testKubeconfig)
	t.Run("kubeadm takes it for its own", s.testKubeadm)
	t.Run("init mends exactly what was broken", s.testDrift)
	t.Run("kubeadm joins a worker", s.testKubeadmJoin)
}

// tokenForm matches any token; names of objects and files do not look like this.
var tokenForm = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)

// wantNoSecret looks for what must stay among hosts: keys, and tokens outside of the join command that is init's result.
func (s *site) wantNoSecret(t *testing.T, results ...result) {
	t.Helper()
	password, err := s.Password()
	must(t, err)
	tokens, err := s.api(t).CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{FieldSelector: "type=bootstrap.kubernetes.io/token"})
	must(t, err)
	if len(tokens.Items) != 1 {
		t.Errorf("there are %d tokens: want init's own, and join's removed", len(tokens.Items))
	}
	secrets := []string{password, "PRIVATE KEY", "client-key-data"}
	for _, token := range tokens.Items {
		secrets = append(secrets, string(token.Data["token-secret"]))
	}
	for _, r := range results {
		for _, secret := range secrets {
			if strings.Contains(r.stderr, secret) {
				t.Errorf("stderr tells the secret %q: %s", secret, r)
			}
		}
		// Also one that join has removed.
		if found := tokenForm.FindString(r.stderr); found != "" {
			t.Errorf("stderr tells a token, %s: %s", found, r)
		}
		if strings.Contains(r.stdout, "PRIVATE KEY") || strings.Contains(r.stdout, password) {
			t.Errorf("stdout tells a secret: %s", r)
		}
	}
	if !tokenForm.MatchString(results[0].stdout) {
		t.Errorf("init prints no join command with a token: %s", results[0])
	}
}

// testAgain runs both commands again and compares all that a run could have touched.
func (s *site) testAgain(t *testing.T) {
	objects := s.restingObjects(t)
	lives := s.lives(t)
	files := map[string]listing{}
	for _, h := range s.Hosts {
		files[h.Name] = s.touched(t, h.Name)
	}
	init := s.init(t, "-v", "-o", "json")
	join := s.join(t, "-v", "-o", "json")

	for _, r := range []result{init, join} {
		var told struct{ Changes *int }
		must(t, json.Unmarshal([]byte(r.stdout), &told))
		if told.Changes == nil || *told.Changes != 0 {
			t.Errorf("want 0 changes: %s", r)
		}
		if r.took > again {
			t.Errorf("it took %s, want at most %s", r.took, again)
		}
	}
	for _, h := range s.Hosts {
		if diff := files[h.Name].difference(s.touched(t, h.Name)); diff != "" {
			t.Errorf("files of %s (-before +after):\n%s", h.Name, diff)
		}
	}
	if diff := objects.difference(s.objects(t)); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
	if diff := lives.difference(s.lives(t)); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
	if text := s.init(t).stdout; !strings.Contains(text, "with 0 changes") {
		t.Errorf("the text says nothing of 0 changes: %s", text)
	}
}

func (s *site) testKubeconfig(t *testing.T) {
	printed := s.myadm(t, nil, "kubeconfig", "-f", s.document).want(t, 0).stdout
	out := filepath.Join(t.TempDir(), "admin.conf")
	if got := s.myadm(t, nil, "kubeconfig", "-f", s.document, "--out", out).want(t, 0).stdout; got != "" {
		t.Errorf("with --out it also prints: %s", got)
	}
	wantMode(t, out, 0o600)
	written, err := os.ReadFile(out)
	must(t, err)
	host := s.output(t, "h1", "cat", "/etc/kubernetes/admin.conf")
	if printed != host || string(written) != host {
		t.Errorf("what is printed and written is not the host's admin.conf")
	}
	fetched := *s
	fetched.kubeconfig = out
	if got := fetched.kubectl(t, "auth", "can-i", "*", "*"); got != "yes\n" {
		t.Errorf("the administrator may not do everything: %s", got)
	}
}

// testDrift breaks the control plane in small ways. Each has one remedy, and the next init applies it and no other.
func (s *site) testDrift(t *testing.T) {
	const manifest = "/etc/kubernetes/manifests/kube-scheduler.yaml"
	tests := []struct {
		name, damage string
		mended       string // prints "yes" when it is
		tells        string // the line of -v
	}{
		{"a manifest is gone", "rm " + manifest, "test -s " + manifest, "create " + manifest},
		{"a key is readable by all", "chmod 644 /etc/kubernetes/pki/apiserver.key", `test "$(stat -c %a /etc/kubernetes/pki/apiserver.key)" = 600`,
			"update /etc/kubernetes/pki/apiserver.key (mode 0644 to 0600)"},
		{"the kubelet is stopped", "systemctl stop kubelet", "systemctl is-active --quiet kubelet", "run unit kubelet.service (start)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.shell(t, "h1", tt.damage)
			r := s.init(t, "-v", "-o", "json")
			if !strings.Contains(r.stderr, tt.tells) {
				t.Errorf("it does not tell %q: %s", tt.tells, r)
			}
			for line := range strings.Lines(r.stderr) {
				// The control plane that is whole again may have to be waited for: that is a change to nothing.
				if strings.Contains(line, " create ") || strings.Contains(line, " update ") || strings.Contains(line, " delete ") || strings.Contains(line, " run unit ") {
					if !strings.Contains(line, tt.tells) {
						t.Errorf("it also changed: %s", line)
					}
				}
			}
			s.shell(t, "h1", tt.mended)
			eventually(t, time.Minute, "the scheduler is healthy", func(ctx context.Context) error {
				_, err := s.Output(ctx, "h1", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/10259")
				return err
			})
		})
	}
	s.wantReady(t, "h1", "h2", "h3")
}

func wantMode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != mode {
		t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), mode)
	}
}
