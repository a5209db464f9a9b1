//go:build e2e

package e2e

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/myadm/myadm/e2e/lab"
)

// replacing holds while a host replaces what it runs.
const replacing = "systemctl is-active --quiet myadm-exchange.service"

// upgradeMoments are those at which upgrade apply is interrupted, one after the other, of a cluster with a control plane
// h1 and a worker h2: when myadm prints a line, or as soon as a test holds on a host.
var upgradeMoments = []struct {
	name   string
	signal syscall.Signal
	line   []string // words of a line of stderr
	host   string   // on which holds is looked for
	holds  string
}{
	{name: "SIGKILL while images and binaries travel", signal: syscall.SIGKILL, host: "h1", holds: "ls /usr/local/bin/.*.myadm-*.part"},
	{name: "SIGKILL when the snapshot is taken", signal: syscall.SIGKILL, line: []string{"snapshot", "create " + snapshotFolder}},
	{name: "Ctrl-C while the control plane is drained", signal: syscall.SIGINT, line: []string{"control-planes", "update /etc/kubernetes/manifests/"}},
	{name: "SIGKILL while the control plane is replaced", signal: syscall.SIGKILL, host: "h1", holds: replacing},
	{name: "SIGKILL when the cluster is told its version", signal: syscall.SIGKILL, line: []string{"upload-config", "update "}},
	{name: "SIGKILL while addons are replaced", signal: syscall.SIGKILL, line: []string{"addons", "update "}},
	{name: "SIGKILL while the worker is replaced", signal: syscall.SIGKILL, host: "h2", holds: replacing},
}

// TestUpgradeOne upgrades a cluster with one control plane, where myadm is stopped at the worst moments and run again.
func TestUpgradeOne(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 2, KubernetesVersion: older})
	s.init(t)
	s.join(t)
	s.waitAvailable(t)
	t.Run("looking changes nothing", s.testUpgradeLook)
	t.Run("a worker does not go ahead", func(t *testing.T) {
		s.myadm(t, nil, s.upgradeArgs("node", "h2")...).want(t, 1).wantWords(t, "newer than the API server", "hint: ")
		s.wantVersion(t, older, "h1", "h2")
	})

	before := s.identities(t)
	p := s.probe(t, "h1")
	for _, m := range upgradeMoments {
		t.Run(m.name, func(t *testing.T) {
			var come func(ctx context.Context) error
			if m.holds != "" {
				come = func(ctx context.Context) error { return s.awaitHost(ctx, m.host, m.holds) }
			}
			s.interruptAt(t, m.signal, s.upgradeArgs("apply", newest, "-v"), m.line, come)
		})
	}
	t.Run("the worker is finished by itself", func(t *testing.T) {
		s.myadm(t, nil, s.upgradeArgs("node", "h2", "-v")...).want(t, 0)
		s.wantReady(t, "h1", "h2")
	})
	t.Run("SIGKILL while it tidies up", func(t *testing.T) {
		s.interruptAt(t, syscall.SIGKILL, s.upgradeArgs("apply", newest, "-v"), []string{"tidy", "delete "}, nil)
	})
	s.upgrade(t, "-v").want(t, 0)
	p.stop(t)

	s.wantVersion(t, newest, "h1", "h2")
	s.wantIdentities(t, before)
	s.wantTidy(t, "h1", "h2")
	s.wantCordoned(t)
	s.testUpgradeAgain(t)
	s.wantWorkload(t, "h2", "h2")
	t.Run("it is as a cluster that was made of this version", func(t *testing.T) {
		s.bundle = made.bundle
		s.document = s.write(t, []string{"h1"}, []string{"h2"}, func(spec map[string]any) { spec["kubernetesVersion"] = newest })
		for _, r := range []result{s.init(t, "-v"), s.join(t, "-v")} {
			if !strings.Contains(r.stdout, "with 0 changes") {
				t.Errorf("there is something to do: %s", r)
			}
		}
	})
}

// testUpgradeLook says in three ways what an upgrade would do, and does nothing.
func (s *site) testUpgradeLook(t *testing.T) {
	objects, lives := s.restingObjects(t), s.lives(t)
	files := map[string]listing{"h1": s.touched(t, "h1"), "h2": s.touched(t, "h2")}

	plan := s.myadm(t, nil, s.upgradeArgs("plan", newest, "--exit-code")...).want(t, 4)
	for _, want := range []string{"kube-apiserver", older, newest, "Next:\n  myadm upgrade apply " + newest + " -f " + s.document} {
		if !strings.Contains(plan.stdout, want) {
			t.Errorf("the plan does not say %q: %s", want, plan)
		}
	}
	diff := s.myadm(t, nil, s.upgradeArgs("diff", newest, "--exit-code")...).want(t, 4)
	for _, want := range []string{
		"-    image: registry.k8s.io/kube-apiserver:" + older + "\n+    image: registry.k8s.io/kube-apiserver:" + newest + "\n",
		"-kubernetesVersion: " + older + "\n+kubernetesVersion: " + newest + "\n",
	} {
		if !strings.Contains(diff.stdout, want) {
			t.Errorf("the diff does not have %q: %s", want, diff)
		}
	}
	dry := s.upgrade(t, "--dry-run").want(t, 0)
	for _, want := range []string{"/etc/kubernetes/manifests/kube-apiserver.yaml", "/usr/local/bin/kubelet", "kubeadm-config"} {
		if !strings.Contains(dry.stdout, want) {
			t.Errorf("it would not touch %s: %s", want, dry)
		}
	}

	for h, before := range files {
		if diff := before.difference(s.touched(t, h)); diff != "" {
			t.Errorf("files of %s (-before +after):\n%s", h, diff)
		}
		if left := s.halfWritten(t, h) + s.shell(t, h, "ls -d "+snapshotFolder+" 2>/dev/null || true"); left != "" {
			t.Errorf("%s has %s", h, left)
		}
	}
	if diff := objects.difference(s.objects(t)); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
	if diff := lives.difference(s.lives(t)); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
}

// probing asks one API server again and again whether it is ready.
type probing struct {
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	longest time.Duration // for which it was not
	down    time.Duration // in all
	times   int
}

const (
	probeEvery = 50 * time.Millisecond
	probeShort = 300 * time.Millisecond // what a busy machine needs for two probes is no downtime
)

func (s *site) probe(t *testing.T, host string) *probing {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &probing{cancel: cancel}
	address, config := s.address(t, host, "6443"), s.restConfig(t)
	config.Timeout, config.Dial = time.Second, impatient(time.Second).DialContext
	client, err := rest.HTTPClientFor(config)
	must(t, err)
	p.ended.Go(func() {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		last := time.Now()
		for {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/readyz", nil)
			if err != nil {
				return
			}
			if response, err := client.Do(request); err == nil {
				_ = response.Body.Close()
				if response.StatusCode == http.StatusOK {
					if gap := time.Since(last); gap > probeShort {
						p.longest, p.down, p.times = max(p.longest, gap), p.down+gap, p.times+1
					}
					last = time.Now()
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return p
}

// longestDown is for how long the one API server of a cluster may be away. It needs about five seconds; a machine that is
// busy is given more.
const longestDown = 30 * time.Second

// stop ends the probing, and prints the downtime.
func (p *probing) stop(t *testing.T) {
	t.Helper()
	p.cancel()
	p.ended.Wait()
	t.Logf("the API server was not ready %d times, for %.1f s in all, and at the longest for %.1f s", p.times, p.down.Seconds(), p.longest.Seconds())
	if p.longest > longestDown {
		t.Errorf("it was not ready for %s, want at most %s", p.longest, longestDown)
	}
}
