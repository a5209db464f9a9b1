package phases

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/unified"
	"github.com/myadm/myadm/workflow"
)

// lookups counts what is read of a host.
type lookups struct {
	*hosttest.Fake
	files, stats int
}

func (r *lookups) ReadFile(ctx context.Context, path string) ([]byte, error) {
	r.files++
	return r.Fake.ReadFile(ctx, path)
}

func (r *lookups) Stat(ctx context.Context, paths ...string) ([]host.Info, error) {
	r.stats++
	return r.Fake.Stat(ctx, paths...)
}

func TestDiffFilesShowsThem(t *testing.T) {
	const etc, pod = "/etc/file", config.ManifestsDir + "/pod.yaml"
	for _, tt := range []struct {
		name string
		have *host.File
		want host.File
		diff string
	}{
		{"a new file", nil, host.File{Path: etc, Mode: 0o644, Data: []byte("a\n")}, "--- /dev/null\n+++ /etc/file\n@@ -0,0 +1,1 @@\n+a\n"},
		{"a new and empty file", nil, host.File{Path: etc, Mode: 0o644}, ""},
		{"content", &host.File{Mode: 0o644, Data: []byte("a\n")}, host.File{Path: etc, Mode: 0o644, Data: []byte("b\n")}, "--- /etc/file\n+++ /etc/file\n@@ -1,1 +1,1 @@\n-a\n+b\n"},
		{"a mode", &host.File{Mode: 0o640, Data: []byte("a\n")}, host.File{Path: etc, Mode: 0o644, Data: []byte("a\n")}, ""},
		{"what only root may read", &host.File{Mode: 0o600, Data: []byte("a\n")}, host.File{Path: etc, Mode: 0o600, Data: []byte("b\n")}, unified.Secret},
		{"a new one of these", nil, host.File{Path: etc, Mode: 0o600, Data: []byte("b\n")}, unified.Secret},
		{"what only root could read", &host.File{Mode: 0o640, Data: []byte("a\n")}, host.File{Path: etc, Mode: 0o644, Data: []byte("b\n")}, unified.Secret},
		{"a static pod", &host.File{Mode: 0o600, Data: []byte("a\n")}, host.File{Path: pod, Mode: 0o600, Data: []byte("b\n")}, "--- " + pod + "\n+++ " + pod + "\n@@ -1,1 +1,1 @@\n-a\n+b\n"},
		{"something else beside them", nil, host.File{Path: config.ManifestsDir + "/.token", Mode: 0o600, Data: []byte("b\n")}, unified.Secret},
		{"what is in their folders' folders", nil, host.File{Path: config.ManifestsDir + "/old/pod.yaml", Mode: 0o600, Data: []byte("b\n")}, unified.Secret},
		{"a key in public", nil, host.File{Path: etc, Mode: 0o644, Data: []byte("-----BEGIN PRIVATE KEY-----\n")}, unified.Secret},
		{"binary", nil, host.File{Path: etc, Mode: 0o644, Data: []byte("\x7fELF\x00")}, unified.Binary},
		{"a large one that was there", &host.File{Mode: 0o644, Data: make([]byte, unified.MaxSize+1)}, host.File{Path: etc, Mode: 0o644, Data: []byte("b\n")}, unified.Large},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &lookups{Fake: hosttest.New(t, "h1")}
			if tt.have != nil {
				tt.have.Path = tt.want.Path
				f.Put(*tt.have)
			}
			plain, err := diffFiles(t.Context(), f, []host.File{tt.want})
			if err != nil || len(plain) != 1 || plain[0].Diff != "" || f.files+f.stats != 0 {
				t.Errorf("without being asked for it: %v, %v, %d files read, %d looked at", plain, err, f.files, f.stats)
			}
			changes, err := diffFiles(workflow.WithDiffs(t.Context()), f, []host.File{tt.want})
			if err != nil || len(changes) != 1 {
				t.Fatalf("%v, %v", changes, err)
			}
			if diff := cmp.Diff(tt.diff, changes[0].Diff); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if tt.diff == unified.Large && f.files > 0 {
				t.Error("what is not shown was read")
			}
			changes[0].Diff = ""
			if diff := cmp.Diff(plain, changes); diff != "" {
				t.Errorf("the diff is not all that it tells more (-without +with):\n%s", diff)
			}
		})
	}
}

func TestShowFilesThatGo(t *testing.T) {
	f := hosttest.New(t, "h1")
	f.Put(host.File{Path: "/etc/a", Mode: 0o644, Data: []byte("a\n")}, host.File{Path: "/etc/secret", Mode: 0o600, Data: []byte("a\n")})
	f.Mkdir("/etc/folder", 0o755)
	f.Symlink("/etc/a", "/etc/link")
	var changes []workflow.Change
	for _, object := range []string{"/etc/a", "/etc/secret", "/etc/folder", "/etc/link", "/etc/gone", "unit x.service"} {
		changes = append(changes, workflow.Change{Action: workflow.Delete, Object: object})
	}
	if err := ShowFiles(workflow.WithDiffs(t.Context()), f, changes); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"--- /etc/a\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-a\n", unified.Secret, "", "", "", ""} {
		if changes[i].Diff != want {
			t.Errorf("%s: %q, want %q", changes[i].Object, changes[i].Diff, want)
		}
	}
	gone := errors.New("gone")
	f.Lose(gone)
	if err := ShowFiles(workflow.WithDiffs(t.Context()), f, changes); !errors.Is(err, gone) {
		t.Errorf("of a host that is lost: %v", err)
	}
}

// Every phase shows what it changes: after each damage that the phases' tests know, a change of content has a diff, with
// what is there before and after, and no change of a secret has.
func TestHostPhasesShowWhatTheyMend(t *testing.T) {
	shown := 0
	for _, tt := range hostPhases {
		for _, d := range tt.damages {
			t.Run(tt.name+"/"+d.name, func(t *testing.T) {
				p, n, m := tt.start(t)
				run(t, p)
				d.do(m)
				before := m.state(t, nil)
				changes, err := p.Check(workflow.WithDiffs(t.Context()), n)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range changes {
					secret := strings.HasSuffix(c.Object, ".key") || strings.HasSuffix(c.Object, ".conf") && strings.HasPrefix(c.Object, config.KubernetesDir)
					if c.Diff != "" {
						shown++
					}
					if c.Detail == "content" && c.Diff == "" || secret && c.Diff != "" && c.Diff != unified.Secret {
						t.Errorf("%s %s (%s) is shown as %q", c.Action, c.Object, c.Detail, c.Diff)
					}
				}
				if diff := cmp.Diff(before, m.state(t, nil)); diff != "" {
					t.Errorf("showing it changed the host (-before +after):\n%s", diff)
				}
			})
		}
	}
	if shown < 15 {
		t.Errorf("only %d changes were shown", shown)
	}
}

func TestRegistriesAndProxyShowWhatGoes(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	described(t, c, c.Nodes[0])
	run(t, Registries(c, c.Nodes), Proxy(c, c.Nodes))
	document(t, c, t.TempDir(), " {}")
	diffs := map[string]string{}
	for _, p := range []workflow.Phase{Registries(c, c.Nodes), Proxy(c, c.Nodes)} {
		changes, err := p.Check(workflow.WithDiffs(t.Context()), c.Nodes[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range changes {
			diffs[change.Object] = change.Diff
		}
	}
	for path, want := range map[string]string{
		hubHosts: unified.Secret, config.ProxyEnv: unified.Secret, mirrorHosts: "\n-server = ", mirrorCA: "\n-YXV0aG9yaXR5\n",
		manifests.KubeletProxyPath: "\n-EnvironmentFile=-" + config.ProxyEnv + "\n", manifests.ContainerdProxyPath: "\n-[Service]\n",
	} {
		if got := diffs[path]; !strings.Contains(got, want) {
			t.Errorf("%s, with mode %v, is shown as %q", path, mode(machines[0], path), got)
		}
	}
}

func mode(m *machine, path string) string {
	f, _ := m.Get(path)
	return fmt.Sprint(f.Mode)
}

func TestObjectPhasesShowObjects(t *testing.T) {
	c, s := withAPI(t)
	p := Addons(c)
	run(t, p)
	coredns := kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: "kube-proxy"}
	o := s.Object(coredns)
	set(t, o, "mode: theirs\n", "data", "config.conf")
	s.Put(t, o)
	s.Remove(kube.Ref{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "kube-system", Name: "coredns"})
	version := s.Version()
	plain, err := p.Check(t.Context(), nil)
	if err != nil || len(plain) != 2 || plain[0].Diff+plain[1].Diff != "" {
		t.Errorf("without being asked for it: %v, %v", plain, err)
	}
	changes, err := p.Check(workflow.WithDiffs(t.Context()), nil)
	if err != nil || len(changes) != 2 {
		t.Fatalf("%v, %v", changes, err)
	}
	for i, want := range [][]string{
		{"--- /dev/null\n+++ Deployment kube-system/coredns\n", "\n+apiVersion: apps/v1\n", "\n+  replicas: "},
		{"--- ConfigMap kube-system/kube-proxy\n+++ ConfigMap kube-system/kube-proxy\n", "\n-    mode: theirs\n", "\n+    kind: KubeProxyConfiguration\n"},
	} {
		for _, part := range want {
			if !strings.Contains(changes[i].Diff, part) {
				t.Errorf("%q is not in\n%s", part, changes[i].Diff)
			}
		}
	}
	if s.Version() != version {
		t.Error("showing it changed the cluster")
	}
}

// marked is a document with a secret of its own in every place that can have one, each with MARKER in it.
func marked(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{
		"config.json": `{"auths": {"hub.example.org": {"auth": "` + "b3BzOk1BUktFUg==" + `"}}}`, // ops:MARKER
		"mine.yaml": `
apiVersion: v1
kind: Secret
metadata: {name: mine, namespace: default, annotations: {copy: MARKER-annotation}}
stringData: {password: MARKER-string}
data: {key: TUFSS0VS}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: mine, namespace: default}
data:
  conf.yaml: "password: MARKER-config \ntoken: MARKER-config\n"
  url: https://me:MARKER-url@db.example.org
  tls.key: |
    -----BEGIN PRIVATE KEY-----
    MARKER-key
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	name := c.Config.Metadata.Name
	defer func() { c.Config.Metadata.Name = name }()
	document(t, c, dir, `
  registries: [{name: docker.io, mirrors: [https://hub.example.org], credentialsFile: config.json}]
  proxy: {httpProxy: "http://ops:MARKER-proxy@proxy.example.org:3128"}
`)
	secret := []corev1.EnvVar{{Name: "KMS_TOKEN", Value: "MARKER-env"}}
	s := &c.Config.Spec
	s.APIServer.ExtraEnvs, s.ControllerManager.ExtraEnvs, s.Scheduler.ExtraEnvs, s.Etcd.ExtraEnvs = secret, secret, secret, secret
	s.Networking.Manifests = []string{filepath.Join(dir, "mine.yaml")}
}

// secretsIn are the secrets in a text: the document's, those in base64, and parts of keys, kubeconfigs and tokens.
func secretsIn(text string) []string {
	var found []string
	for _, secret := range []string{"MARKER", "TUFSS0VS", "b3BzOk1BUktFUg", "s3cret", "PRIVATE KEY", "client-key-data", "token-secret"} {
		if at := strings.Index(text, secret); at >= 0 {
			found = append(found, text[max(0, at-200):min(len(text), at+60)])
		}
	}
	return found
}

// The plan of a whole init, on a bare host and on one on which everything has other secrets, shows none and changes nothing.
func TestPlanShowsNoSecrets(t *testing.T) {
	s := newSite(t)
	c := &cluster.Cluster{Config: s.config, Nodes: s.nodes}
	marked(t, c)
	s.config = c.Config
	ownHost(s.machine)

	show := func(when string) map[string]string {
		before, version := s.machine.state(t, nil), s.api.Version()
		var text []byte
		diffs := map[string]string{}
		s.process(func(r *workflow.Runner, init []workflow.Step) {
			plan, err := r.Plan(workflow.WithDiffs(context.Background()), init...)
			if err != nil {
				t.Errorf("%s: %v", when, err)
			}
			if text, err = json.Marshal(plan); err != nil {
				t.Fatal(err)
			}
			for _, p := range plan.Phases {
				for _, change := range p.Hosts[0].Changes {
					diffs[change.Object] = change.Diff
				}
			}
		})
		for _, secret := range secretsIn(string(text)) {
			t.Errorf("%s, the plan has ...%s...", when, secret)
		}
		if diff := cmp.Diff(before, s.machine.state(t, nil)); diff != "" || s.api.Version() != version {
			t.Errorf("%s, the plan took the API from version %d to %d and changed the host (-before +after):\n%s", when, version, s.api.Version(), diff)
		}
		return diffs
	}
	diffs := show("on a bare host")
	for object, want := range map[string]string{
		config.ProxyEnv: unified.Secret, hubHosts: unified.Secret, "ConfigMap default/mine": unified.Secret,
		manifests.StaticPodPath("etcd"):           "+      value: ***\n",
		manifests.StaticPodPath("kube-apiserver"): "+      value: ***\n",
		"Secret default/mine":                     "+  password: '(secret: not shown)'\n",
		"ConfigMap kube-system/kubeadm-config":    "value: ***",
	} {
		if got := diffs[object]; !strings.Contains(got, want) {
			t.Errorf("%s has no %q in\n%s", object, want, got)
		}
	}
	if _, err := s.init(); err != nil {
		t.Fatal(err)
	}
	if left := show("when all is done"); len(left) > 0 {
		t.Errorf("when all is done, %v is left", left)
	}

	// Somebody has changed what holds a secret of the document.
	for _, path := range []string{config.ProxyEnv, hubHosts, manifests.StaticPodPath("kube-apiserver")} {
		f, _ := s.machine.Get(path)
		f.Data = append(bytes.ReplaceAll(f.Data, []byte("MARKER"), []byte("MARKER-other")), "# edited\n"...)
		s.machine.Put(f)
	}
	s.api.Put(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine"}, Data: map[string][]byte{"password": []byte("MARKER-old")},
	})
	diffs = show("after damage")
	for object, want := range map[string]string{
		config.ProxyEnv: unified.Secret, hubHosts: unified.Secret, "Secret default/mine": "(secret: changed, not shown)",
		manifests.StaticPodPath("kube-apiserver"): "+      value: *** (changed)\n",
	} {
		if got := diffs[object]; !strings.Contains(got, want) {
			t.Errorf("%s has no %q in\n%s", object, want, got)
		}
	}
}
