//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/e2e/lab"
	"github.com/myadm/myadm/e2e/lab/mirror"
)

// TestDelivery makes the same cluster of five hosts in each way that artifacts can take, over a link that counts what the
// operator sends.
func TestDelivery(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 5})
	b, err := bundle.Open(made.bundle)
	must(t, err)
	defer b.Close()
	roles := []bundle.Role{bundle.RoleNode, bundle.RoleRuntime, bundle.RoleCNI, bundle.RoleFlannel}
	worker := bundle.TotalSize(b.Select("amd64", append(roles, bundle.RoleWorker)...))
	once := bundle.TotalSize(b.Select("amd64", append(roles, bundle.RoleControlPlane)...)) // which has all that a worker has
	t.Logf("a control plane gets %d MiB, a worker %d MiB", once>>20, worker>>20)
	near, far := s.startMirror(t, s.Gateway().String()), s.startMirror(t, "127.0.0.1") // of the latter hosts know nothing
	for _, way := range []struct {
		name, flag     string
		mirror         *mirror.Mirror // nil: the bundle
		bytesPerSecond int64          // of the operator's link
		most           int64          // bytes on it
		words          string
	}{
		{name: "download", flag: "download", mirror: near, bytesPerSecond: 10 << 20, most: 48 << 20},
		{name: "peer", flag: "auto", mirror: far, bytesPerSecond: 20 << 20, most: once * 3 / 2, words: "cannot download by itself"},
		{name: "upload", flag: "upload", most: (once + 4*worker) * 11 / 10},
	} {
		t.Run(way.name, func(t *testing.T) {
			link := s.takeLink(t, way.bytesPerSecond)
			args := []string{"apply", "-f", s.document, "--kubeconfig-out", s.kubeconfig, "--delivery", way.flag}
			from := []string{"--bundle", s.bundle}
			if m := way.mirror; m != nil {
				m.ResetStats()
				from = []string{"--mirror", m.URL, "--mirror-ca-file", m.CAFile, "--registry-config", s.writeCredentials(t, m)}
			}
			if way.mirror == near {
				s.testLyingDownloads(t, near, append(args, from...))
			}
			r := s.myadm(t, nil, append(args, from...)...).want(t, 0)
			if strings.Contains(r.stdout+r.stderr, "secret-of-e2e") {
				t.Errorf("it tells the password: %s", r)
			}
			if !strings.Contains(r.stderr, way.words) {
				t.Errorf("it does not tell that %q: %s", way.words, r)
			}
			sent := link.Traffic().Sent
			t.Logf("%s: %.1f s, and %.1f MiB on the operator's link", way.name, r.took.Seconds(), float64(sent)/(1<<20))
			if sent > way.most {
				t.Errorf("%d bytes were sent, more than %d", sent, way.most)
			}
			if way.mirror == near {
				near.Heal()
				s.wantDownloads(t, near, 40<<20)
			}
			s.wantReady(t, "h1", "h2", "h3", "h4", "h5")
			s.waitAvailable(t)
			for _, h := range s.Hosts {
				if left := s.shell(t, h.Name, "ls -d /var/lib/myadm 2>/dev/null || true; pgrep ^courier || true"); left != "" {
					t.Errorf("what delivered is still on %s: %s", h.Name, left)
				}
			}
			if r := s.myadm(t, nil, append(args, from...)...).want(t, 0); !strings.Contains(r.stdout, " 0 changes") {
				t.Errorf("again: %s", r)
			}
			if again := link.Traffic().Sent - sent; again > 2<<20 {
				t.Errorf("running it again sent %d bytes", again)
			}
			s.myadm(t, nil, "reset", "-f", s.document, "--all", "--yes").want(t, 0)
		})
	}
}

// testLyingDownloads has hosts download from a mirror whose kubelet is wrong, and takes care that the next run begins with
// a mirror that dies on the way.
func (s *site) testLyingDownloads(t *testing.T, m *mirror.Mirror, args []string) {
	t.Helper()
	must(t, m.Fail(mirror.Fault{Path: "**/bin/linux/amd64/kubelet", Kind: mirror.WrongBytes}))
	s.myadm(t, nil, args...).want(t, 1).wantWords(t, "fetch kubelet: /usr/local/bin/kubelet: https://", "its content has another SHA-256 than ", "nothing of it was used")
	for _, h := range s.Hosts {
		if there := s.shell(t, h.Name, "ls /usr/local/bin/kubelet 2>/dev/null || true"); there != "" {
			t.Errorf("%s has a kubelet", h.Name)
		}
	}
	m.Heal()
	m.ResetStats()
	must(t, m.Fail(mirror.Fault{Path: "**/bin/linux/amd64/kubelet", Kind: mirror.Die, After: 20 << 20, Times: 1}))
}

// startMirror starts a mirror with a password at an address of this machine.
func (s *site) startMirror(t *testing.T, address string) *mirror.Mirror {
	t.Helper()
	m, err := mirror.Start(t.Context(), mirror.Options{
		Dir: t.TempDir(), Bundles: []string{made.bundle}, Listen: net.JoinHostPort(address, "0"), Prefix: "k8s",
		TLSDir: t.TempDir(), Username: "e2e", Password: "secret-of-e2e",
	})
	must(t, err)
	t.Cleanup(m.Close)
	return m
}

// wantDownloads fails the test unless every host has had so many bytes of the mirror.
func (s *site) wantDownloads(t *testing.T, m *mirror.Mirror, least int64) {
	t.Helper()
	var told []string
	for _, h := range s.Hosts {
		got := m.Stats().Clients[h.Address.String()].Bytes
		told = append(told, fmt.Sprintf("%s %d", h.Name, got>>20))
		if got < least {
			t.Errorf("%s had %d bytes of the mirror", h.Name, got)
		}
	}
	t.Logf("MiB that hosts had of the mirror: %s", strings.Join(told, ", "))
}
