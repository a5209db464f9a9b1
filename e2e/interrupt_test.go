//go:build e2e

package e2e

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// atOnce is how long myadm may go on after a Ctrl-C.
const atOnce = 5 * time.Second

// halfKubelet holds from when a good part of the kubelet's binary is there. What is looked for on a host must not be over
// before a busy machine has looked.
const halfKubelet = "find /usr/local/bin -name '.kubelet.myadm-*.part' -size +8M -o -name kubelet | grep ."

// moments are those at which init is interrupted, in the order in which a run comes to them: when myadm prints a line, or as
// soon as a test holds on the host.
var moments = []struct {
	name   string
	signal syscall.Signal
	line   []string // words of a line of stderr
	holds  string   // a script on the host
	reset  bool     // to be cleaned up after; TestKillMatrix carries on with such
}{
	{name: "Ctrl-C while certificates are made", signal: syscall.SIGINT, line: []string{"certs", "create /etc/kubernetes/pki/sa.pub"}},
	{name: "Ctrl-C while binaries travel", signal: syscall.SIGINT, holds: halfKubelet},
	{name: "SIGKILL while binaries travel", signal: syscall.SIGKILL, holds: halfKubelet, reset: true},
	{name: "SIGKILL while images are imported", signal: syscall.SIGKILL, holds: "/usr/local/bin/ctr -n k8s.io images ls -q | grep kube-", reset: true},
	{name: "Ctrl-C while the control plane starts", signal: syscall.SIGINT, line: []string{"kube-apiserver", "wait"}},
	{name: "SIGKILL while the control plane starts", signal: syscall.SIGKILL, holds: "ls -d /var/log/pods/kube-system_kube-apiserver-*", reset: true},
}

// TestInterruptedInit ends init by Ctrl-C at its worst moments, one after the other: each run carries on from where the one
// before was when it ended, and the last one ends in the same cluster as ever.
func TestInterruptedInit(t *testing.T) {
	s := newSite(t, lab.Options{})
	for _, tt := range moments {
		if tt.reset {
			continue
		}
		t.Run(tt.name, func(t *testing.T) { s.interrupt(t, tt.signal, tt.line, tt.holds) })
	}
	s.init(t)
	s.wantReady(t, "h1")
	s.waitAvailable(t)
	if r := s.init(t, "-o", "json"); decode[initResult](t, r).Changes != 0 {
		t.Errorf("there is still something to do: %s", r)
	}
	if left := s.halfWritten(t, "h1"); left != "" {
		t.Errorf("half-written files are left:\n%s", left)
	}
	if tokens := s.listTokens(t); len(tokens) != 1 {
		t.Errorf("there is not one token: %+v", tokens)
	}
}

// TestInterruptedInitIsReset cleans a host on which nothing was ever finished.
func TestInterruptedInitIsReset(t *testing.T) {
	s := newSite(t, lab.Options{})
	before := s.look(t, "h1")
	for _, tt := range moments {
		if !tt.reset {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			s.interrupt(t, tt.signal, tt.line, tt.holds)
			s.myadm(t, nil, "reset", "--all", "-f", s.document, "--yes").want(t, 0)
			s.wantAsFound(t, "h1", before)
		})
	}
}

// interrupt runs init until the moment, sends the signal, and checks how init ends.
func (s *site) interrupt(t *testing.T, signal syscall.Signal, words []string, holds string) {
	t.Helper()
	var come func(ctx context.Context) error
	if holds != "" {
		come = func(ctx context.Context) error { return s.awaitHost(ctx, "h1", holds) }
	}
	s.interruptAt(t, signal, s.initArgs("-v"), words, come)
}

// awaitHost waits until a test holds on a host.
func (s *site) awaitHost(ctx context.Context, host, holds string) error {
	return s.Exec(ctx, host, lab.Streams{}, "bash", "-c", "until "+holds+"; do read -t 0.01 <> <(:) || true; done &>/dev/null")
}

// interruptAt runs myadm until it writes a line with these words, or until come returns nil, sends the signal, and checks
// how myadm ends.
func (s *site) interruptAt(t *testing.T, signal syscall.Signal, args, words []string, come func(ctx context.Context) error) {
	t.Helper()
	if early := s.tryInterrupt(t, signal, args, words, come); early != nil {
		t.Fatalf("it ended before its moment came: %s", early)
	}
}

// tryInterrupt is interruptAt for a moment that is so short that it can be missed. It returns how myadm ended, if it was
// not interrupted.
func (s *site) tryInterrupt(t *testing.T, signal syscall.Signal, args, words []string, come func(ctx context.Context) error) *result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	now := make(chan struct{})
	moment := sync.OnceFunc(func() { close(now) })
	if come != nil {
		go func() {
			if come(ctx) == nil {
				moment()
			}
		}()
	}
	run := s.start(ctx, t, func(line string) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				return
			}
		}
		if len(words) > 0 {
			moment()
		}
	}, nil, args...)
	type end struct {
		result
		err error
	}
	ended := make(chan end, 1)
	go func() {
		r, err := run.wait()
		ended <- end{r, err}
	}()
	select {
	case <-now:
	case e := <-ended:
		must(t, e.err)
		return &e.result
	}
	sent := time.Now()
	must(t, run.cmd.Process.Signal(signal))
	e := <-ended
	must(t, e.err)
	took := time.Since(sent)
	t.Logf("interrupted after %.1f s, ended %.2f s later; last lines:\n%s", sent.Sub(run.began).Seconds(), took.Seconds(), tail(e.stderr, 4))
	if signal == syscall.SIGKILL {
		e.want(t, 128+int(syscall.SIGKILL))
		return nil
	}
	e.want(t, 130)
	if took > atOnce {
		t.Errorf("it ended only %s after the signal", took)
	}
	if !strings.Contains(e.stderr, "run the same command again") || strings.Contains(e.stderr, "goroutine ") {
		t.Errorf("it does not say how to go on: %s", e.result)
	}
	return nil
}

// halfWritten lists the files that a host's writers keep beside a file until it is whole.
func (s *site) halfWritten(t *testing.T, host string) string {
	t.Helper()
	return s.shell(t, host, "find / /var/lib/containerd /var/lib/etcd /var/lib/kubelet -xdev -name '.*.myadm-*'; find /run /tmp -name '*myadm*'")
}

func tail(text string, n int) string {
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
