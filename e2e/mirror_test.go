//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/mirror"
)

// lies are what a mirror may do, and what the user of bundle create is then told.
var lies = []struct {
	name  string
	fault mirror.Fault
	words []string
}{
	{"a binary with other bytes", mirror.Fault{Path: "**/bin/linux/amd64/kubelet", Kind: mirror.WrongBytes}, []string{"fetch kubelet " + older, "nothing of it was used"}},
	{"an image with other bytes", mirror.Fault{Path: "**/kube-scheduler/blobs/*", Kind: mirror.WrongBytes}, []string{"fetch kube-scheduler " + older, "hint: "}},
	{"a server that sends in circles", mirror.Fault{Path: "**/runc.amd64", Kind: mirror.RedirectLoop}, []string{"fetch runc ", "more than 10 redirects"}},
	{"a file that is not there", mirror.Fault{Path: "**/containerd-static-*.tar.gz", Kind: mirror.NotFound}, []string{"fetch containerd ", "does not have it"}},
}

// TestMirror makes a bundle from a mirror that asks for a password and lies at times, makes a cluster of it without the
// mirror, upgrades the cluster from the mirror without a bundle, and has the cluster's hosts pull from the mirror.
func TestMirror(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 2, KubernetesVersion: older})
	m, err := mirror.Start(t.Context(), mirror.Options{
		Dir: t.TempDir(), Bundles: []string{made.bundle, made.older}, Listen: net.JoinHostPort(s.Gateway().String(), "0"), Prefix: "k8s",
		TLSDir: t.TempDir(), Username: "e2e", Password: "secret-of-e2e",
	})
	must(t, err)
	t.Cleanup(m.Close)
	s.bundle = filepath.Join(s.home, "bundle.tar")
	login := s.writeCredentials(t, m)
	create := []string{
		"bundle", "create", s.bundle, "--kubernetes-version", "stable-1.36", "--mirror", m.URL, "--ca-file", m.CAFile, "--registry-config", login,
	}
	for _, lie := range lies {
		t.Run(lie.name, func(t *testing.T) {
			must(t, m.Fail(lie.fault))
			defer m.Heal()
			s.myadm(t, nil, append(create, "--cache-dir", t.TempDir())...).want(t, 1).wantWords(t, lie.words...)
			if _, err := os.Stat(s.bundle); !os.IsNotExist(err) {
				t.Errorf("there is a bundle all the same: %v", err)
			}
		})
	}

	t.Run("what was got is not got again", func(t *testing.T) {
		m.ResetStats()
		must(t, m.Fail(mirror.Fault{Path: "**/bin/linux/amd64/kubelet", Kind: mirror.Die, After: 20 << 20, Times: 1}))
		r := s.myadm(t, nil, create...).want(t, 0)
		if strings.Contains(r.stdout+r.stderr, "secret-of-e2e") {
			t.Errorf("it tells the password: %s", r)
		}
		b, err := bundle.Open(s.bundle)
		must(t, err)
		defer b.Close()
		kubelet, err := b.Binary("kubelet", "amd64")
		must(t, err)
		for path, count := range m.Stats().Paths {
			if strings.HasSuffix(path, "/kubelet") && (count.Requests < 2 || count.Bytes > kubelet.Size()+4<<20) {
				t.Errorf("%s: %d bytes in %d requests, of %d", path, count.Bytes, count.Requests, kubelet.Size())
			}
		}
		must(t, os.Remove(s.bundle))
		m.ResetStats()
		s.myadm(t, nil, create...).want(t, 0)
		if all := m.Stats().Total; all.Bytes > 1<<20 {
			t.Errorf("%d bytes came for what is there already", all.Bytes)
		}
		s.myadm(t, nil, "bundle", "verify", s.bundle).want(t, 0)
	})

	m.ResetStats()
	s.apply(t)
	s.waitAvailable(t)
	s.wantVersion(t, older, "h1", "h2")
	if all := m.Stats().Total; all.Requests > 0 {
		t.Errorf("a cluster made of a bundle asked the mirror %d times", all.Requests)
	}
	t.Run("without a bundle", func(t *testing.T) {
		s.document = s.write(t, []string{"h1"}, []string{"h2"}, func(spec map[string]any) {
			spec["kubernetesVersion"] = newest
			spec["artifacts"] = map[string]any{"mirror": m.URL, "caFile": m.CAFile, "credentialsFile": login}
		})
		s.myadm(t, nil, "upgrade", "apply", "-f", s.document, "-v").want(t, 0)
		s.wantVersion(t, newest, "h1", "h2")
		if r := s.myadm(t, nil, "upgrade", "plan", newest, "-f", s.document, "--exit-code").want(t, 0); !strings.Contains(r.stdout, "0 changes") {
			t.Errorf("the plan is not empty: %s", r)
		}
		s.wantDownloads(t, m, 50<<20)
	})
	t.Run("hosts pull from a mirror", func(t *testing.T) { s.testRegistries(t, m) })
	t.Run("a host joins without a bundle", func(t *testing.T) {
		s.myadm(t, nil, "reset", "h2", "-f", s.document, "--yes").want(t, 0)
		s.myadm(t, nil, "join", "-f", s.document).want(t, 0)
		s.wantReady(t, "h1", "h2")
	})
}

// writeCredentials writes the user and the password of a mirror as `docker login` does.
func (s *site) writeCredentials(t *testing.T, m *mirror.Mirror) string {
	t.Helper()
	host, _, _ := strings.Cut(strings.TrimPrefix(m.URL, "https://"), "/")
	auth := base64.StdEncoding.EncodeToString([]byte("e2e:secret-of-e2e"))
	data, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]any{"auth": auth}}})
	must(t, err)
	file := filepath.Join(s.home, "docker.json")
	must(t, os.WriteFile(file, data, 0o600))
	return file
}

// testRegistries tells the hosts of a mirror by the document, has one pull from it, and takes the mirror away again.
func (s *site) testRegistries(t *testing.T, m *mirror.Mirror) {
	before := s.lives(t)
	artifacts := map[string]any{"mirror": m.URL, "caFile": m.CAFile, "credentialsFile": filepath.Join(s.home, "docker.json")}
	fromMirror := func(spec map[string]any) { spec["kubernetesVersion"], spec["artifacts"] = newest, artifacts }
	s.document = s.write(t, []string{"h1"}, []string{"h2"}, func(spec map[string]any) {
		fromMirror(spec)
		spec["registries"] = []any{map[string]any{
			"name": "registry.k8s.io", "mirrors": []any{m.URL + "/registry.k8s.io"}, "exclusive": true,
			"caFile": m.CAFile, "credentialsFile": filepath.Join(s.home, "docker.json"),
		}}
	})
	apply := func() result { return s.myadm(t, nil, "apply", "-f", s.document, "-v").want(t, 0) }
	if r := apply(); strings.Contains(r.stdout+r.stderr, "secret-of-e2e") {
		t.Errorf("it tells the password: %s", r)
	}
	if modes := s.shell(t, "h2", "cd /etc/containerd/certs.d/registry.k8s.io && stat -c '%a %U %n' *"); modes != "644 root ca.crt\n600 root hosts.toml\n" {
		t.Errorf("the files are\n%s", modes)
	}
	if diff := before.difference(s.lives(t)); diff != "" {
		t.Errorf("containers were started anew (-before +after):\n%s", diff)
	}
	spec := testPod("h2")
	spec.Containers[0] = corev1.Container{ // an image that a worker does not have
		Name: "e2e", Image: "registry.k8s.io/etcd:" + components[newest]["etcd"], ImagePullPolicy: corev1.PullAlways, Command: []string{"etcd", "--data-dir=/tmp/etcd"},
	}
	s.startDaemonSet(t, "pull", spec)
	s.waitAvailable(t)
	h2 := ""
	for _, h := range s.Hosts {
		if h.Name == "h2" {
			h2 = h.Address.String()
		}
	}
	if count := m.Stats().Clients[h2]; count.Bytes < 1<<20 {
		t.Errorf("h2 had %d bytes of the mirror", count.Bytes)
	}
	s.document = s.write(t, []string{"h1"}, []string{"h2"}, fromMirror)
	apply()
	if left := s.shell(t, "h2", "find /etc/containerd/certs.d 2>/dev/null || true"); left != "" {
		t.Errorf("of registries that are no more there is\n%s", left)
	}
}
