//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/e2e/lab"
)

// lockExpiry is how long a lock lives that nobody renews, as README has it.
const lockExpiry = 15 * time.Second

// lockFile is on every control plane of a cluster that is being changed.
const lockFile = "/run/myadm.lock"

// outcome is how a command ended that ran beside another.
type outcome struct {
	result
	err error
}

// beside starts a command, and returns where its end will be told.
func (s *site) beside(ctx context.Context, t *testing.T, args ...string) (*running, <-chan outcome) {
	t.Helper()
	run := s.start(ctx, t, nil, nil, args...)
	ends := make(chan outcome, 1)
	go func() {
		r, err := run.wait()
		ends <- outcome{r, err}
	}()
	return run, ends
}

// TestLock has two operators meet: before there is a cluster, while there is one, and after one of them was killed.
func TestLock(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 3})
	document := s.write(t, []string{"h1", "h2"}, []string{"h3"}, nil)
	s.follow(t, "h1", "h2")
	args := func(more ...string) []string {
		return append([]string{"apply", "-f", document, "--bundle", s.bundle, "--kubeconfig-out", s.kubeconfig}, more...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()

	t.Run("two applies of bare hosts", func(t *testing.T) {
		one, ones := s.beside(ctx, t, args()...)
		two, twos := s.beside(ctx, t, args()...)
		pids := map[string]int{"first": one.cmd.Process.Pid, "second": two.cmd.Process.Pid}
		won, lost, winner := <-ones, <-twos, "first"
		must(t, won.err)
		must(t, lost.err)
		if won.code != 0 {
			won, lost, winner = lost, won, "second"
		}
		won.want(t, 0)
		wantLocked(t, lost.result, pids[winner])
		s.wantReady(t, "h1", "h2", "h3")
		s.wantUnlocked(t)
	})
	t.Run("two applies of a cluster", func(t *testing.T) {
		one, ones := s.beside(ctx, t, args()...)
		must(t, s.awaitHost(ctx, "h1", "[ -s "+lockFile+" ]"))
		two := s.myadm(t, nil, args()...)
		end := <-ones
		must(t, end.err)
		end.want(t, 0)
		if two.code != 0 { // else the first one had just ended
			wantLocked(t, two, one.cmd.Process.Pid)
		}
		s.wantUnlocked(t)
	})
	t.Run("the lock of one who was killed", func(t *testing.T) {
		run, ends := s.beside(ctx, t, args()...)
		s.waitLease(t)
		must(t, run.cmd.Process.Signal(syscall.SIGKILL))
		end := <-ends
		must(t, end.err)
		end.want(t, 128+int(syscall.SIGKILL))
		killed := time.Now()
		tries := 0
		eventually(t, lockExpiry, "the lock is free", func(context.Context) error {
			tries++
			r := s.myadm(t, nil, args()...)
			if r.code == 0 {
				return nil
			}
			wantLocked(t, r, run.cmd.Process.Pid)
			return fmt.Errorf("%s", r.stderr)
		})
		t.Logf("done %.1f s after the SIGKILL, at try %d", time.Since(killed).Seconds(), tries)
		s.wantUnlocked(t)
	})
	t.Run("the lock of one whose machine sleeps", func(t *testing.T) {
		run, ends := s.beside(ctx, t, args()...)
		s.waitLease(t)
		must(t, run.cmd.Process.Signal(syscall.SIGSTOP))
		s.myadm(t, nil, args("--lock-timeout", "1m")...).want(t, 0)
		must(t, run.cmd.Process.Signal(syscall.SIGCONT))
		end := <-ends
		must(t, end.err)
		end.want(t, 1)
		if !strings.Contains(end.stderr, "the lock of the cluster could not be renewed") {
			t.Errorf("it does not say why it has stopped: %s", end.result)
		}
		s.wantUnlocked(t)
	})
	t.Run("a lock that is broken", func(t *testing.T) {
		run, ends := s.beside(ctx, t, args()...)
		s.waitLease(t)
		must(t, run.cmd.Process.Signal(syscall.SIGSTOP)) // or it may have ended before the other one comes
		other := s.start(ctx, t, nil, nil, args("--break-lock")...)
		second, err := other.wait()
		must(t, err)
		second.want(t, 0)
		must(t, run.cmd.Process.Signal(syscall.SIGCONT))
		end := <-ends
		must(t, end.err)
		end.want(t, 5)
		if !strings.Contains(end.stderr, "was taken by ") || !strings.Contains(end.stderr, fmt.Sprintf("(pid %d, myadm apply)", other.cmd.Process.Pid)) {
			t.Errorf("it does not say who has the lock now: %s", end.result)
		}
		s.wantUnlocked(t)
	})
	t.Run("one who waits", func(t *testing.T) {
		_, ends := s.beside(ctx, t, args()...)
		must(t, s.awaitHost(ctx, "h1", "[ -s "+lockFile+" ]"))
		s.myadm(t, nil, args("--lock-timeout", "2m")...).want(t, 0)
		end := <-ends
		must(t, end.err)
		end.want(t, 0)
	})
}

// waitLease waits until somebody has the Lease.
func (s *site) waitLease(t *testing.T) {
	t.Helper()
	client := s.api(t)
	eventually(t, time.Minute, "the Lease", func(ctx context.Context) error {
		_, err := client.CoordinationV1().Leases("kube-system").Get(ctx, "myadm", metav1.GetOptions{})
		return err
	})
}

// wantLocked checks that a command was refused because of another one, and says which.
func wantLocked(t *testing.T, r result, pid int) {
	t.Helper()
	r.want(t, 5)
	for _, part := range []string{"the cluster is locked by ", fmt.Sprintf("(pid %d, myadm apply) since ", pid), "renewed ", "--break-lock"} {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("it does not say %q: %s", part, r)
		}
	}
}

// wantUnlocked checks that no lock is left, in the cluster or on hosts.
func (s *site) wantUnlocked(t *testing.T) {
	t.Helper()
	if l, err := s.api(t).CoordinationV1().Leases("kube-system").Get(t.Context(), "myadm", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Lease is left: %v, %v", l, err)
	}
	for _, h := range s.Hosts {
		if left := s.shell(t, h.Name, "find /run /tmp -name '*myadm*'"); left != "" {
			t.Errorf("left on %s:\n%s", h.Name, left)
		}
	}
}
