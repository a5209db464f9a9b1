package upgrade

import (
	"context"
	"errors"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
)

// tenures are the leaders' leases that components on a node hold, by the lease's name.
type tenures map[string]string

// leaders are the components of which one on one control plane is at work, by its lease.
var leaders = []string{manifests.ControllerManagerName, manifests.SchedulerName}

func leaseRef(name string) kube.Ref {
	return kube.Ref{APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Namespace: "kube-system", Name: name}
}

// heldBy finds the leases that components on a node hold. Their identities begin with the host's name.
func heldBy(ctx context.Context, r kube.Reader, hostname string) tenures {
	held := tenures{}
	for _, name := range leaders {
		lease, err := kube.Get[coordinationv1.Lease](ctx, r, leaseRef(name))
		if err != nil || lease.Spec.HolderIdentity == nil {
			continue
		}
		if id := *lease.Spec.HolderIdentity; strings.HasPrefix(id, hostname+"_") {
			held[name] = id
		}
	}
	return held
}

// errTaken says that somebody else holds the lease by now.
var errTaken = errors.New("taken")

// release gives up leases whose holders have been ended, as those would do themselves if they were asked to: the next
// leader need not wait until they run out. What fails here only takes longer.
func (t tenures) release(ctx context.Context, client *kube.Client) {
	for name, holder := range t {
		_ = client.Update(ctx, leaseRef(name), func(lease *unstructured.Unstructured) error {
			id, _, _ := unstructured.NestedString(lease.Object, "spec", "holderIdentity")
			if id != holder {
				return errTaken
			}
			if err := unstructured.SetNestedField(lease.Object, "", "spec", "holderIdentity"); err != nil {
				return err
			}
			return unstructured.SetNestedField(lease.Object, int64(1), "spec", "leaseDurationSeconds")
		})
	}
}
