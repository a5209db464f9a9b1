package lock_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
	"github.com/myadm/myadm/lock"
)

var leaseRef = kube.Ref{APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Namespace: "kube-system", Name: "myadm"}

// leaseOf is the Lease as it is stored; nil if it is not there.
func leaseOf(t *testing.T, s *kubetest.Server) *coordinationv1.Lease {
	t.Helper()
	obj := s.Object(leaseRef)
	if obj == nil {
		return nil
	}
	var lease coordinationv1.Lease
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &lease); err != nil {
		t.Fatal(err)
	}
	return &lease
}

// with is by, for a cluster with an API.
func with(s *kubetest.Server, user, path string) lock.Options {
	opts := by(user, path)
	opts.API = func(context.Context) (*kube.Client, error) {
		return kube.Connect(s.Kubeconfig(), nil, kube.Options{Patience: time.Second})
	}
	return opts
}

// leftBy puts a Lease in place that a run of user's has left, which had locked hosts and renewed it last some time ago.
func leftBy(t *testing.T, s *kubetest.Server, user string, ago time.Duration, hosts string) {
	t.Helper()
	at := metav1.NewMicroTime(time.Now().Add(-ago))
	name, seconds := user+"@desk", int32(expiry/time.Second)
	s.Put(t, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "myadm", Annotations: map[string]string{
			"myadm.dev/lock": `{"id":"run of ` + user + `","user":"` + name + `","pid":7,"command":"myadm apply","hosts":[` + hosts + `]}`,
		}},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: &seconds, AcquireTime: &at, RenewTime: &at},
	})
}

func TestLease(t *testing.T) {
	t.Parallel()
	s := kubetest.NewServer(t)
	dir := t.TempDir()
	ann, ctx := acquire(t, with(s, "ann", filepath.Join(dir, "1")), machine(t, "h1"))
	first := leaseOf(t, s)
	if first == nil || *first.Spec.HolderIdentity != "ann@desk (pid 42, myadm apply)" || *first.Spec.LeaseDurationSeconds != 5 ||
		!strings.Contains(first.Annotations["myadm.dev/lock"], `"hosts":["h1"]`) {
		t.Fatalf("%+v", first)
	}
	// A document with other control planes of the same cluster.
	e := refusal(t, "ann", with(s, "bob", filepath.Join(dir, "2")), machine(t, "h2"))
	if e.Expiry != expiry || e.Renewed < 0 || e.Renewed > expiry || !e.Since.Equal(first.Spec.AcquireTime.Time) {
		t.Errorf("%+v", e)
	}
	wantGone(t, filepath.Join(dir, "2"))
	select {
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	case <-time.After(expiry + expiry/2):
	}
	now := leaseOf(t, s)
	if !now.Spec.RenewTime.After(first.Spec.RenewTime.Time) || !now.Spec.AcquireTime.Equal(first.Spec.AcquireTime) || now.UID != first.UID {
		t.Errorf("it was not renewed:\n%+v\n%+v", first.Spec, now.Spec)
	}
	wantHeld(t, "ann", with(s, "bob", filepath.Join(dir, "2")), machine(t, "h2"))

	ann.Release(t.Context())
	if l := leaseOf(t, s); l != nil {
		t.Errorf("the Lease is left: %+v", l)
	}
	acquire(t, with(s, "bob", filepath.Join(dir, "2")), machine(t, "h2"))
}

// Who may take a Lease that is there: the table of cases.
func TestLeaseOfAnother(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		ago   time.Duration // since it was renewed
		hosts string        // that its holder had locked
		force bool
		held  bool
	}{
		{"fresh", 0, `"h9"`, false, true},
		{"fresh, of a holder that had locked the same host", 0, `"h1"`, false, false},
		{"fresh, of a holder that had locked another one as well", 0, `"h1","h9"`, false, true},
		{"fresh, of a holder that had locked none", 0, ``, false, true},
		{"old", time.Minute, `"h9"`, false, false},
		{"fresh, and broken", 0, `"h9"`, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := kubetest.NewServer(t)
			leftBy(t, s, "ann", tt.ago, tt.hosts)
			opts := with(s, "bob", filepath.Join(t.TempDir(), "lock"))
			opts.Break = tt.force
			if tt.held {
				wantHeld(t, "ann", opts, machine(t, "h1"))
				return
			}
			acquire(t, opts, machine(t, "h1"))
			if l := leaseOf(t, s); *l.Spec.HolderIdentity != "bob@desk (pid 42, myadm apply)" {
				t.Errorf("it is still that of %s", *l.Spec.HolderIdentity)
			}
		})
	}
}

// A holder whose API was away looks dead when it is back, and is not.
func TestOldLeaseThatIsRenewed(t *testing.T) {
	t.Parallel()
	s := kubetest.NewServer(t)
	leftBy(t, s, "ann", time.Minute, `"h9"`)
	var once atomic.Bool
	s.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") != "" && once.CompareAndSwap(false, true) {
			leftBy(t, s, "ann", 0, `"h9"`)
		}
		return false
	}
	wantHeld(t, "ann", with(s, "bob", filepath.Join(t.TempDir(), "lock")), machine(t, "h1"))
}

// Two clocks that differ are no matter: both times of a Lease are by the API server's.
func TestLeaseByAWrongClock(t *testing.T) {
	t.Parallel()
	s := kubetest.NewServer(t)
	s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		return false
	}
	dir := t.TempDir()
	acquire(t, with(s, "ann", filepath.Join(dir, "1")), machine(t, "h1"))
	if l := leaseOf(t, s); time.Since(l.Spec.RenewTime.Time) < 50*time.Minute {
		t.Errorf("renewed at %s by this machine's clock", l.Spec.RenewTime)
	}
	wantHeld(t, "ann", with(s, "bob", filepath.Join(dir, "2")), machine(t, "h2"))
}

func TestLeaseThatIsTaken(t *testing.T) {
	t.Parallel()
	s := kubetest.NewServer(t)
	dir := t.TempDir()
	ann, ctx := acquire(t, with(s, "ann", filepath.Join(dir, "1")), machine(t, "h1"))
	opts := with(s, "bob", filepath.Join(dir, "2"))
	opts.Break = true
	acquire(t, opts, machine(t, "h2"))
	wantLost(ctx, t, "bob")
	ann.Release(t.Context())
	if l := leaseOf(t, s); l == nil || !strings.HasPrefix(*l.Spec.HolderIdentity, "bob@desk") {
		t.Errorf("who lost the Lease has deleted it: %+v", l)
	}
}

// Somebody deletes the Lease by hand: it is made again, and nobody has to stop.
func TestLeaseThatIsDeleted(t *testing.T) {
	t.Parallel()
	s := kubetest.NewServer(t)
	_, ctx := acquire(t, with(s, "ann", filepath.Join(t.TempDir(), "1")), machine(t, "h1"))
	s.Remove(leaseRef)
	eventually(t, "the Lease is there", func() bool { return leaseOf(t, s) != nil })
	wantRunning(ctx, t)
}

// A new cluster has no API at first. The Lease is taken when there is one, and whoever has it then makes the run stop.
func TestLeaseOfANewCluster(t *testing.T) {
	t.Parallel()
	for _, other := range []bool{false, true} {
		s := kubetest.NewServer(t)
		opts := with(s, "ann", filepath.Join(t.TempDir(), "lock"))
		connect := opts.API
		var up atomic.Bool
		opts.API = func(ctx context.Context) (*kube.Client, error) {
			if !up.Load() {
				return nil, errors.New("there is no cluster yet")
			}
			return connect(ctx)
		}
		_, ctx := acquire(t, opts, machine(t, "h1"))
		if leaseOf(t, s) != nil {
			t.Fatal("there is a Lease without an API")
		}
		if other {
			leftBy(t, s, "bob", 0, `"h9"`)
		}
		up.Store(true)
		if other {
			wantLost(ctx, t, "bob")
			continue
		}
		eventually(t, "the Lease is there", func() bool { return leaseOf(t, s) != nil })
		wantRunning(ctx, t)
	}
}

// While the API is away the run goes on, since the host is locked, and the Lease is renewed when it is back.
func TestAPIThatIsAway(t *testing.T) {
	t.Parallel()
	s := kubetest.NewServer(t)
	var down atomic.Bool
	s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return down.Load()
	}
	_, ctx := acquire(t, with(s, "ann", filepath.Join(t.TempDir(), "1")), machine(t, "h1"))
	down.Store(true)
	select {
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	case <-time.After(2 * expiry):
	}
	was := leaseOf(t, s).ResourceVersion
	down.Store(false)
	eventually(t, "the Lease is renewed", func() bool { return leaseOf(t, s).ResourceVersion != was })
	wantRunning(ctx, t)
}

func TestWaitingForALease(t *testing.T) {
	t.Parallel()
	s := kubetest.NewServer(t)
	dir := t.TempDir()
	ann, _ := acquire(t, with(s, "ann", filepath.Join(dir, "1")), machine(t, "h1"))
	opts := with(s, "bob", filepath.Join(dir, "2"))
	opts.Patience = expiry / 2
	wantHeld(t, "ann", opts, machine(t, "h2"))

	opts.Patience = time.Minute
	told := make(chan struct{}, 100)
	opts.Waiting = func(*lock.HeldError) { told <- struct{}{} }
	go func() {
		<-told
		ann.Release(context.Background())
	}()
	acquire(t, opts, machine(t, "h2"))

	// One that is dead is waited for no longer than it lives, by this machine's clock.
	dead := kubetest.NewServer(t)
	leftBy(t, dead, "ann", -time.Hour, `"h9"`) // as of a clock that is ahead
	opts = with(dead, "eve", filepath.Join(dir, "3"))
	opts.Patience = time.Minute
	began := time.Now()
	acquire(t, opts, machine(t, "h3"))
	if took := time.Since(began); took < expiry || took > 2*expiry {
		t.Errorf("taken after %s", took)
	}
}

// Of two that find an old Lease at the same moment one has it.
func TestOldLeaseForTwo(t *testing.T) {
	t.Parallel()
	s := kubetest.NewServer(t)
	leftBy(t, s, "ann", time.Minute, `"h9"`)
	dir := t.TempDir()
	errs := make(chan error, 2)
	for _, user := range []string{"bob", "eve"} {
		opts, hosts := with(s, user, filepath.Join(dir, user)), []lock.Host{machine(t, "of-"+user)}
		go func() {
			held, _, err := lock.Acquire(context.Background(), hosts, opts)
			if err == nil {
				t.Cleanup(func() { held.Release(context.Background()) })
			}
			errs <- err
		}()
	}
	one, two := <-errs, <-errs
	var held *lock.HeldError
	if (one == nil) == (two == nil) || !errors.As(errors.Join(one, two), &held) {
		t.Errorf("got %v and %v", one, two)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not in time", what)
		}
	}
}
