package kube

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// inFlight bounds the requests that Apply and Diff have under way at once. HTTP/2 carries them over one connection.
const inFlight = 16

// ranks is the order in which kinds are applied; kinds that are not here have rankOther. All of one rank go out at once,
// for each rank costs a round trip.
var ranks = map[schema.GroupKind]int{
	{Kind: "Namespace"}: 0, // what others live in or are instances of
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: 0,
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:               0,

	{Kind: "Pod"}:                        2, // pods fail, and back off, without their service account and configuration
	{Kind: "ReplicationController"}:      2,
	{Group: "apps", Kind: "DaemonSet"}:   2,
	{Group: "apps", Kind: "Deployment"}:  2,
	{Group: "apps", Kind: "ReplicaSet"}:  2,
	{Group: "apps", Kind: "StatefulSet"}: 2,
	{Group: "batch", Kind: "CronJob"}:    2,
	{Group: "batch", Kind: "Job"}:        2,

	{Group: "apiregistration.k8s.io", Kind: "APIService"}:                           3, // these stand in others' way until their backend runs
	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:   3,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}: 3,
}

const (
	rankOther = 1
	rankCount = 4
)

func rank(gk schema.GroupKind) int {
	if r, ok := ranks[gk]; ok {
		return r
	}
	return rankOther
}

// Apply makes the objects what they should be, by server-side apply as FieldManager. Fields of other managers that are
// not in ours stay; those that are become ours. Namespaces and definitions go first, workloads after what they need. What an
// API server answers while it starts is tried again (see Options.Patience). An error does not keep the rest of its rank
// from being applied, and all errors are returned, each with its object; later ranks are then left alone.
func (c *Client) Apply(ctx context.Context, objs []*unstructured.Unstructured) error {
	byRank := make([][]*unstructured.Unstructured, rankCount)
	for _, obj := range objs {
		r := rank(obj.GroupVersionKind().GroupKind())
		byRank[r] = append(byRank[r], obj)
	}
	for _, batch := range byRank {
		err := each(len(batch), func(i int) error {
			var taken time.Time // since when the object's address has been
			return c.retry(ctx, func() error {
				_, err := c.apply(ctx, batch[i], false)
				switch {
				case !addressTaken(err):
				case taken.IsZero():
					taken = time.Now()
				case time.Since(taken) > orphanAge:
					err = errors.Join(err, c.freeAddresses(ctx, batch[i]))
				}
				return err
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// DryRunApply implements Reader.
func (c *Client) DryRunApply(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return c.apply(ctx, obj, true)
}

func (c *Client) apply(ctx context.Context, obj *unstructured.Unstructured, dryRun bool) (*unstructured.Unstructured, error) {
	if err := complete(obj); err != nil {
		return nil, err
	}
	at, err := c.at(ctx, obj.GroupVersionKind(), obj.GetNamespace(), false)
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", RefOf(obj), err)
	}
	options := metav1.ApplyOptions{FieldManager: FieldManager, Force: true}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	applied, err := at.Apply(ctx, obj.GetName(), desired(obj), options)
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", RefOf(obj), err)
	}
	return applied, nil
}

// Delete removes an object, and in the background what it owns. One that is not there is fine.
func (c *Client) Delete(ctx context.Context, ref Ref) error {
	return c.retry(ctx, func() error {
		at, err := c.at(ctx, ref.gvk(), ref.Namespace, false)
		if err == nil {
			background := metav1.DeletePropagationBackground
			err = at.Delete(ctx, ref.Name, metav1.DeleteOptions{PropagationPolicy: &background})
		}
		if err != nil && !NotFound(err) {
			return fmt.Errorf("delete %s: %w", ref, err)
		}
		return nil
	})
}

// desired is obj without what only the API server writes. Server-side apply refuses some of it, and would make us the
// owner of the rest.
func desired(obj *unstructured.Unstructured) *unstructured.Unstructured {
	obj = obj.DeepCopy()
	for _, field := range serverFields {
		unstructured.RemoveNestedField(obj.Object, "metadata", field)
	}
	delete(obj.Object, "status")
	return obj
}

// serverFields of metadata are written by the API server.
var serverFields = []string{"creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"}

// each calls do for 0 to n-1, at most inFlight at once, and joins the errors in that order. Those that say the same of the
// connection rather than of an object are told once.
func each(n int, do func(i int) error) error {
	errs := make([]error, n)
	var group errgroup.Group
	group.SetLimit(inFlight)
	for i := range n {
		group.Go(func() error {
			errs[i] = do(i)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, all of them
	told := map[string]bool{}
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool {
		var request *url.Error
		if !errors.As(err, &request) {
			return false
		}
		repeated := told[request.Err.Error()]
		told[request.Err.Error()] = true
		return repeated
	})...)
}
