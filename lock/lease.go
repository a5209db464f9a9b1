package lock

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/kube"
)

const (
	leaseName = "myadm"

	// recordAnnotation holds the Record of the holder. Its holderIdentity is for people.
	recordAnnotation = "myadm.dev/lock"

	// maxTries bounds how often a Lease is written that others write at the same time.
	maxTries = 8
)

var leaseSelector = kube.Selector{APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Namespace: metav1.NamespaceSystem, Name: leaseName}

// leaseGuard is the lock in the API of a cluster.
type leaseGuard struct {
	opts *Options

	busy   sync.Mutex            // held by who asks the API
	client *kube.Client          // nil: to be connected
	lease  *coordinationv1.Lease // as it was last written; nil: it was never taken
	seen   *coordinationv1.Lease // as it was found while the hosts were still being locked; nil: it was not looked at
	hosts  []string              // by Host.ID: those that this run has locked

	mu      sync.Mutex
	renewed time.Time // when the last write was sent that succeeded
}

// connect gives the client, and makes one if there is none.
func (g *leaseGuard) connect(ctx context.Context) (*kube.Client, error) {
	if g.client != nil {
		return g.client, nil
	}
	client, err := g.opts.API(ctx)
	g.client = client
	return client, err
}

// disconnect has the next request go by another connection, and perhaps by another control plane.
func (g *leaseGuard) disconnect() {
	if g.client != nil {
		g.client.Close()
		g.client = nil
	}
}

// look finds out early what there is, while the hosts are being locked.
func (g *leaseGuard) look(ctx context.Context) {
	g.busy.Lock()
	defer g.busy.Unlock()
	if client, err := g.connect(ctx); err == nil {
		g.seen, err = get(ctx, client)
		if kube.NotFound(err) {
			g.seen = &coordinationv1.Lease{}
		}
	}
}

func get(ctx context.Context, client *kube.Client) (*coordinationv1.Lease, error) {
	return client.Typed.CoordinationV1().Leases(metav1.NamespaceSystem).Get(ctx, leaseName, metav1.GetOptions{})
}

// take takes the Lease, or renews it. Whoever else has it is a *HeldError; other errors are of an API that does not answer
// (yet). hosts are those that this run has locked; patient has
// somebody else be waited for, until ctx ends.
func (g *leaseGuard) take(ctx context.Context, hosts []string, patient bool) (err error) {
	g.busy.Lock()
	defer g.busy.Unlock()
	defer func() {
		if err != nil {
			g.disconnect() // another control plane may answer, and a kubeconfig that is new may let more be done
		}
	}()
	g.hosts = hosts
	client, err := g.connect(ctx)
	if err != nil {
		return err
	}
	found := g.seen
	g.seen = nil
	for range maxTries {
		if found == nil {
			found, err = get(ctx, client)
			if err != nil && !kube.NotFound(err) {
				return err
			}
		}
		var free bool
		free, err = g.free(ctx, client, found, patient)
		if err != nil {
			return err
		}
		if free {
			err = g.write(ctx, client, found)
			if err == nil || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !kube.NotFound(err) {
				return err
			}
		}
		found = nil
	}
	return err
}

// free tells whether a Lease may be taken now: it is not there, it is ours, it is broken by order, or its holder is dead.
// If it is not, a *HeldError says who has it, or, where that is waited for, err is nil and the Lease has changed.
func (g *leaseGuard) free(ctx context.Context, client *kube.Client, lease *coordinationv1.Lease, patient bool) (bool, error) {
	if lease == nil || lease.UID == "" || holderOf(lease) == "" {
		return true, nil
	}
	by := recordOf(lease)
	if by.ID == g.opts.Holder.ID || g.opts.Break || g.covers(by) {
		return true, nil
	}
	held := g.heldBy(client, lease)
	if patient {
		if g.opts.Waiting != nil {
			g.opts.Waiting(held)
		}
		unchanged, err := unchangedFor(ctx, client, lease, held.Expiry)
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), errPatience) {
			return false, held
		}
		return unchanged, err
	}
	if held.Renewed < held.Expiry {
		return false, held
	}
	// It seems to be dead. But a holder whose API server was away has not been able to renew it either, and will do so now.
	unchanged, err := unchangedFor(ctx, client, lease, 2*g.opts.renewal())
	if err == nil && !unchanged {
		return false, nil
	}
	return unchanged, err
}

// covers tells whether a holder is dead since this run has the locks of all hosts that the holder had locked: those are let
// go of by the kernel when the connection of who had them ends.
func (g *leaseGuard) covers(by Record) bool {
	for _, h := range by.Hosts {
		if !slices.Contains(g.hosts, h) {
			return false
		}
	}
	return len(by.Hosts) > 0
}

// unchangedFor watches a Lease for a time, by this machine's clock, and tells whether its holder was silent.
func unchangedFor(ctx context.Context, client *kube.Client, lease *coordinationv1.Lease, d time.Duration) (bool, error) {
	watching, cancel := context.WithTimeoutCause(ctx, d, errSilent)
	defer cancel()
	err := kube.Until(watching, client, leaseSelector, func(found []*coordinationv1.Lease) []string {
		if len(found) == 1 && found[0].UID == lease.UID && found[0].ResourceVersion == lease.ResourceVersion {
			return []string{"its holder does not renew it"}
		}
		return nil
	})
	var gaveUp *kube.WaitError
	if errors.As(err, &gaveUp) && errors.Is(gaveUp.Cause, errSilent) && gaveUp.Last == nil {
		return true, nil
	}
	return false, err
}

// errSilent is that the holder of a Lease has not renewed it.
var errSilent = errors.New("it was not renewed")

// write makes the Lease this run's. found is what is there; without a UID there is none.
func (g *leaseGuard) write(ctx context.Context, client *kube.Client, found *coordinationv1.Lease) error {
	leases := client.Typed.CoordinationV1().Leases(metav1.NamespaceSystem)
	record := g.opts.Holder
	record.Hosts = g.hosts
	sent := time.Now()
	now := metav1.NewMicroTime(client.Now())
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: leaseName, Namespace: metav1.NamespaceSystem}}
	if found != nil && found.UID != "" {
		lease = found.DeepCopy()
	}
	if recordOf(lease).ID != record.ID {
		lease.Spec = coordinationv1.LeaseSpec{AcquireTime: &now}
	}
	identity, duration := record.String(), int32(max(1, g.opts.expiry()/time.Second))
	lease.Annotations = map[string]string{recordAnnotation: record.json()}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &identity, &duration, &now
	var err error
	if lease.UID == "" {
		lease, err = leases.Create(ctx, lease, metav1.CreateOptions{FieldManager: kube.FieldManager})
	} else {
		lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{FieldManager: kube.FieldManager})
	}
	if err != nil {
		return err
	}
	g.lease = lease
	g.mu.Lock()
	defer g.mu.Unlock()
	g.renewed = sent
	return nil
}

// renew writes the Lease again. A *LostError says that somebody else has it; other errors leave it as it is, for a while.
func (g *leaseGuard) renew(ctx context.Context) error {
	g.busy.Lock()
	defer g.busy.Unlock()
	client, err := g.connect(ctx)
	if err != nil {
		return err
	}
	err = g.write(ctx, client, g.lease)
	for try := 0; try < maxTries && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || kube.NotFound(err)); try++ {
		var found *coordinationv1.Lease
		found, err = get(ctx, client)
		if err != nil && !kube.NotFound(err) {
			break
		}
		if err == nil && holderOf(found) != "" && recordOf(found).ID != g.opts.Holder.ID {
			return &LostError{By: recordOf(found), What: g.opts.what()}
		}
		err = g.write(ctx, client, found)
	}
	if err != nil {
		g.disconnect()
	}
	return err
}

// release removes the Lease, if it is still this run's. One that it does not reach expires.
func (g *leaseGuard) release(ctx context.Context) {
	g.busy.Lock()
	defer g.busy.Unlock()
	defer g.disconnect()
	for try := 0; g.lease != nil && try < maxTries; try++ {
		client, err := g.connect(ctx)
		if err != nil {
			return
		}
		err = client.Typed.CoordinationV1().Leases(metav1.NamespaceSystem).Delete(ctx, leaseName, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &g.lease.UID, ResourceVersion: &g.lease.ResourceVersion},
		})
		if !apierrors.IsConflict(err) {
			return
		}
		if g.lease, err = get(ctx, client); err != nil || recordOf(g.lease).ID != g.opts.Holder.ID {
			return
		}
	}
}

// alive is when it was last written; zero: it was never taken.
func (g *leaseGuard) alive() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.renewed
}

func holderOf(lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// recordOf reads who has a Lease. One that was made by hand has no more than a name.
func recordOf(lease *coordinationv1.Lease) Record {
	r, err := parseRecord(lease.Annotations[recordAnnotation])
	if err != nil {
		return Record{User: printable(holderOf(lease))}
	}
	return r
}

// heldBy says who has a Lease. Its times are compared with the API server's clock, by which holders write them.
func (g *leaseGuard) heldBy(client *kube.Client, lease *coordinationv1.Lease) *HeldError {
	e := &HeldError{By: recordOf(lease), What: g.opts.what(), Renewed: -1, Expiry: g.opts.expiry()}
	if t := lease.Spec.AcquireTime; t != nil {
		e.Since = t.Time
	}
	if s := lease.Spec.LeaseDurationSeconds; s != nil && *s > 0 {
		e.Expiry = time.Duration(*s) * time.Second
	}
	if t := lease.Spec.RenewTime; t != nil {
		e.Renewed = max(0, client.Now().Sub(t.Time))
	}
	return e
}
