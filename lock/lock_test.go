package lock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/local"
	"github.com/myadm/myadm/host/ssh"
	"github.com/myadm/myadm/host/ssh/sshdtest"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/lock"
)

// expiry is that of the tests' locks.
const expiry = 5 * time.Second

// holdVariable makes the test's binary a myadm that takes a lock over SSH and has it until it is killed. Its value is the
// server's port, host key and private key, the lock's file, and that of a kubeconfig, if there is an API.
const holdVariable = "LOCK_TEST_HOLD"

func TestMain(m *testing.M) {
	if spec := os.Getenv(holdVariable); spec != "" {
		fmt.Fprintln(os.Stdout, hold(strings.Split(spec, "\n")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func hold(spec []string) error {
	ctx := context.Background()
	var port int
	if _, err := fmt.Sscan(spec[0], &port); err != nil {
		return err
	}
	h, err := ssh.Dial(ctx, ssh.Target{Name: "h1", Address: "127.0.0.1", Port: port, User: "root", HostKey: spec[1], KeyFile: spec[2]}, options)
	if err != nil {
		return err
	}
	opts := by("ann", spec[3])
	if kubeconfig := spec[4]; kubeconfig != "" {
		opts.API = func(context.Context) (*kube.Client, error) {
			data, err := os.ReadFile(kubeconfig)
			if err != nil {
				return nil, err
			}
			return kube.Connect(data, nil, kube.Options{})
		}
	}
	_, run, err := lock.Acquire(ctx, []lock.Host{{ID: "h1", Host: h}}, opts)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "held")
	<-run.Done()
	return context.Cause(run)
}

// other starts a myadm in a process of its own, which has the lock when this returns.
func other(t *testing.T, server *sshdtest.Server, path, kubeconfig string) (*os.Process, *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), holdVariable+"="+strings.Join([]string{fmt.Sprint(server.Port()), server.HostKey(), server.Key, path, kubeconfig}, "\n"))
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	out := bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); line != "held\n" {
		t.Fatal(line, err)
	}
	return cmd.Process, out
}

var options = ssh.Options{UserConfigFile: "/dev/null", AgentSocket: "none"}

func by(user, path string) lock.Options {
	return lock.Options{
		Holder: lock.Record{ID: "run of " + user, User: user + "@desk", PID: 42, Command: "myadm apply"}, Path: path, Expiry: expiry,
	}
}

// machine is this one, by a name.
func machine(t *testing.T, name string) lock.Host {
	t.Helper()
	h, err := local.New()
	if err != nil {
		t.Fatal(err)
	}
	return lock.Host{ID: name, Host: h}
}

// overSSH is a machine behind a server of its own.
func overSSH(t *testing.T, s *sshdtest.Server, opts ssh.Options) lock.Host {
	t.Helper()
	h, err := ssh.Dial(t.Context(), ssh.Target{Name: "h1", Address: "127.0.0.1", Port: s.Port(), User: "root", HostKey: s.HostKey(), KeyFile: s.Key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return lock.Host{ID: "h1", Host: h}
}

func acquire(t *testing.T, opts lock.Options, hosts ...lock.Host) (*lock.Lock, context.Context) {
	t.Helper()
	held, ctx, err := lock.Acquire(t.Context(), hosts, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Release(context.Background()) })
	return held, ctx
}

// wantHeld checks that the lock is refused because of user.
func wantHeld(t *testing.T, user string, opts lock.Options, hosts ...lock.Host) {
	t.Helper()
	_ = refusal(t, user, opts, hosts...)
}

func refusal(t *testing.T, user string, opts lock.Options, hosts ...lock.Host) *lock.HeldError {
	t.Helper()
	held, _, err := lock.Acquire(t.Context(), hosts, opts)
	if err == nil {
		held.Release(t.Context())
	}
	var refused *lock.HeldError
	if !errors.As(err, &refused) || refused.By.User != user+"@desk" {
		t.Fatalf("got %v; want that %s has it", err, user)
	}
	return refused
}

// wantLost waits until a run's context ends because of user, or for another reason if that is empty.
func wantLost(ctx context.Context, t *testing.T, user string) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the run goes on")
	}
	var lost *lock.LostError
	if err := context.Cause(ctx); !errors.As(err, &lost) || lost.Taken() != (user != "") || user != "" && lost.By.User != user+"@desk" {
		t.Fatalf("the run ended with: %v", err)
	}
}

func wantRunning(ctx context.Context, t *testing.T) {
	t.Helper()
	if ctx.Err() != nil {
		t.Fatalf("the run has ended: %v", context.Cause(ctx))
	}
}

func wantGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		data, _ := os.ReadFile(path)
		t.Errorf("%s is left: %v, %s", path, err, data)
	}
}

func TestOneHasIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	ann, ctx := acquire(t, by("ann", path), machine(t, "h1"))
	e := refusal(t, "ann", by("bob", path), machine(t, "h1"))
	if since := time.Since(e.Since); since < 0 || since > time.Minute || e.Renewed < 0 || e.Renewed > time.Minute {
		t.Errorf("the times are wrong: %+v", e)
	}
	for _, part := range []string{"the cluster is locked by ann@desk (pid 42, myadm apply) since ", ", renewed ", "; hint: ", "--break-lock", "at most 5s"} {
		if !strings.Contains(e.Error(), part) {
			t.Errorf("%q does not say %q", e, part)
		}
	}
	wantRunning(ctx, t)
	ann.Release(t.Context())
	wantGone(t, path)

	_, ctx = acquire(t, by("bob", path), machine(t, "h1")) // at once
	wantRunning(ctx, t)
}

// Renewals keep it for longer than it lives without them, and the file says when the last one was.
func TestItIsRenewed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	opts := by("ann", path)
	_, ctx := acquire(t, opts, machine(t, "h1"))
	select {
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	case <-time.After(2 * expiry):
	}
	if e := refusal(t, "ann", by("bob", path), machine(t, "h1")); e.Renewed > expiry {
		t.Errorf("renewed %s ago", e.Renewed)
	}
}

// Of many that begin at the same moment one has it, whatever the order in which they name the hosts.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(user string, names ...string) ([]lock.Host, lock.Options) {
		hosts := make([]lock.Host, len(names))
		for i, name := range names {
			hosts[i] = lock.Host{ID: name, Host: elsewhere{machine(t, name).Host, name}}
		}
		return hosts, by(user, filepath.Join(dir, "lock"))
	}
	const runs = 6
	type end struct {
		held *lock.Lock
		err  error
	}
	ends := make(chan end, runs)
	for i := range runs {
		names := []string{"h1", "h2", "h3"}
		if i%2 == 1 {
			names = []string{"h3", "h2", "h1"}
		}
		hosts, opts := open(fmt.Sprintf("op%d", i), names...)
		go func() {
			held, _, err := lock.Acquire(context.Background(), hosts, opts)
			ends <- end{held, err}
		}()
	}
	won := 0
	var all []*lock.Lock
	for range runs {
		e := <-ends
		var held *lock.HeldError
		switch {
		case e.err == nil:
			won++
			all = append(all, e.held)
		case !errors.As(e.err, &held):
			t.Error(e.err)
		}
	}
	for _, l := range all {
		l.Release(t.Context())
	}
	if won != 1 {
		t.Errorf("%d runs have the lock, want 1", won)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Who does not get the first host leaves the others alone, or who has it would stumble over them.
func TestTheFirstHostDecides(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	h1 := lock.Host{ID: "h1", Host: elsewhere{machine(t, "h1").Host, "h1"}}
	h2 := lock.Host{ID: "h2", Host: elsewhere{machine(t, "h2").Host, "h2"}}
	acquire(t, by("ann", path), h1)
	var asked atomic.Int64
	h2.Host = counted{h2.Host, &asked}
	wantHeld(t, "ann", by("bob", path), h2, h1)
	if asked.Load() > 0 {
		t.Error("the second host was locked, and the first one was not")
	}
}

// counted is a host that counts its commands.
type counted struct {
	host.Host
	asked *atomic.Int64
}

func (c counted) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	c.asked.Add(1)
	return c.Host.Run(ctx, cmd)
}

// elsewhere is a host whose lock file is its own, on a machine that is shared.
type elsewhere struct {
	host.Host
	name string
}

func (e elsewhere) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	argv := append([]string(nil), cmd.Argv...)
	argv[4] += "-" + e.name
	cmd.Argv = argv
	return e.Host.Run(ctx, cmd)
}

func TestABrokenLockStopsItsHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	server := sshdtest.New(t, sshdtest.Config{})
	ann, ctx := acquire(t, by("ann", path), overSSH(t, server, options))
	opts := by("bob", path)
	opts.Break = true
	bob, bobs := acquire(t, opts, machine(t, "h1"))
	wantLost(ctx, t, "bob")
	ann.Release(t.Context()) // has nothing to give up
	wantHeld(t, "bob", by("eve", path), machine(t, "h1"))
	wantRunning(bobs, t)
	bob.Release(t.Context())
	wantGone(t, path)
}

// Nobody has to be there for a lock to be broken.
func TestBreakWithoutAHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	opts := by("bob", path)
	opts.Break = true
	if err := os.WriteFile(path, []byte("garbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	bob, ctx := acquire(t, opts, machine(t, "h1"))
	wantRunning(ctx, t)
	bob.Release(t.Context())
	wantGone(t, path)
}

// A lock whose file somebody removes by hand is noticed to be taken by the next one.
func TestAFileThatIsRemoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	_, ctx := acquire(t, by("ann", path), machine(t, "h1"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, bobs := acquire(t, by("bob", path), machine(t, "h1"))
	wantLost(ctx, t, "bob")
	wantRunning(bobs, t)
}

// The kernel of a killed myadm's machine closes its connection, and that ends its lock long before it expires.
func TestKilledHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	server := sshdtest.New(t, sshdtest.Config{Sudo: `while [ "$1" != -- ]; do shift; done; shift; exec "$@"`})
	process, _ := other(t, server, path, "")
	wantHeld(t, "ann", by("bob", path), machine(t, "h1"))
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	opts := by("bob", path)
	opts.Expiry = time.Minute
	bob, _ := acquire(t, opts, machine(t, "h1"))
	bob.Release(t.Context())
	wantGone(t, path)
}

// A machine that slept for too long has no lock when it wakes, even if whoever came in the meantime has gone again.
func TestSleepingHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	s := kubetest.NewServer(t)
	kubeconfig := filepath.Join(t.TempDir(), "admin.conf")
	if err := os.WriteFile(kubeconfig, s.Kubeconfig(), 0o600); err != nil {
		t.Fatal(err)
	}
	process, out := other(t, sshdtest.New(t, sshdtest.Config{}), path, kubeconfig)
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	opts := with(s, "bob", path)
	opts.Patience = 20 * time.Second
	bob, _ := acquire(t, opts, machine(t, "h1"))
	bob.Release(t.Context())
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	line, err := out.ReadString('\n')
	if !strings.Contains(line, "could not be renewed") {
		t.Error(line, err)
	}
	if l := leaseOf(t, s); l != nil {
		t.Errorf("it has made the Lease again: %v", *l.Spec.HolderIdentity)
	}
}

// When the network is cut, nobody tells the host: the lock ends there by itself, and its holder has stopped before.
func TestCutHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	server := sshdtest.New(t, sshdtest.Config{})
	_, ctx := acquire(t, by("ann", path), overSSH(t, server, options))
	server.Freeze()
	opts := by("bob", path)
	opts.Patience = 20 * time.Second
	began := time.Now()
	_, bobs := acquire(t, opts, machine(t, "h1"))
	if took := time.Since(began); took > expiry+expiry/2 {
		t.Errorf("the lock of a holder that was cut was free only after %s", took)
	}
	if ctx.Err() == nil {
		t.Error("bob has the lock and ann's run goes on")
	}
	wantLost(ctx, t, "")
	wantRunning(bobs, t)
}

// A connection that ends takes the lock with it, and the run that had no other.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	server := sshdtest.New(t, sshdtest.Config{})
	_, ctx := acquire(t, by("ann", path), overSSH(t, server, options))
	server.Drop()
	wantLost(ctx, t, "")
	if err := context.Cause(ctx); !errors.Is(err, ssh.ErrConnectionLost) {
		t.Errorf("it does not say why: %v", err)
	}
}

// One host of several may be lost: all others are still locked.
func TestOneConnectionOfSeveral(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := sshdtest.New(t, sshdtest.Config{})
	h1 := overSSH(t, server, options)
	h2 := machine(t, "h2")
	h2.Host = elsewhere{h2.Host, "h2"}
	_, ctx := acquire(t, by("ann", filepath.Join(dir, "lock")), h1, h2)
	server.Drop()
	select {
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	case <-time.After(expiry):
	}
	wantHeld(t, "ann", by("bob", filepath.Join(dir, "lock")), machine(t, "h1"), h2)
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	ann, _ := acquire(t, by("ann", path), machine(t, "h1"))
	opts := by("bob", path)
	opts.Patience = time.Second
	if e := refusal(t, "ann", opts, machine(t, "h1")); !strings.Contains(e.Error(), "locked by ann@desk") {
		t.Error(e)
	}

	opts.Patience = time.Minute
	told := make(chan *lock.HeldError, 10)
	opts.Waiting = func(e *lock.HeldError) { told <- e }
	go func() {
		held := <-told
		if held.By.User != "ann@desk" {
			t.Errorf("it waits for %s", held.By)
		}
		ann.Release(context.Background())
	}()
	_, ctx := acquire(t, opts, machine(t, "h1"))
	wantRunning(ctx, t)
	wantHeld(t, "bob", by("eve", path), machine(t, "h1"))
}

// A run that is interrupted while it waits leaves nothing.
func TestInterruptedWait(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	ann, _ := acquire(t, by("ann", path), machine(t, "h1"))
	ctx, cancel := context.WithCancel(t.Context())
	opts := by("bob", path)
	opts.Patience = time.Minute
	opts.Waiting = func(*lock.HeldError) { cancel() }
	if _, _, err := lock.Acquire(ctx, []lock.Host{machine(t, "h1")}, opts); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ann.Release(t.Context())
	wantGone(t, path)
	_, _ = acquire(t, by("eve", path), machine(t, "h1"))
}

func TestHostThatCannotBeLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none", "lock")
	_, _, err := lock.Acquire(t.Context(), []lock.Host{machine(t, "h1")}, by("ann", path))
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func TestNoHosts(t *testing.T) {
	t.Parallel()
	held, ctx := acquire(t, by("ann", ""))
	wantRunning(ctx, t)
	held.Release(t.Context())
}
