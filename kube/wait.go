package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// WaitError is a wait that ended with its context.
type WaitError struct {
	Waiting []string // what was missing when it was last looked at, each a clause: "node h2 has not registered"
	Last    error    // what the API server answered last, if that was an error
	Cause   error    // why the context ended
}

func (e *WaitError) Error() string {
	msg := "gave up waiting (" + e.Cause.Error() + ")"
	if len(e.Waiting) > 0 {
		msg += ": " + strings.Join(e.Waiting, "; ")
	}
	if e.Last != nil {
		msg += "; the API server last answered: " + e.Last.Error()
	}
	return msg
}

// Unwrap gives the context's error, and the API server's.
func (e *WaitError) Unwrap() []error {
	if e.Last == nil {
		return []error{e.Cause}
	}
	return []error{e.Cause, e.Last}
}

// Until waits until pending, called with all selected objects whenever one of them changes, returns nothing. What it
// returns says what is still missing, and ends up in the *WaitError if ctx ends first. Objects come by a watch. It is
// taken up again after an API server's restart, and meanwhile only ctx bounds the wait.
func Until[T any](ctx context.Context, c *Client, sel Selector, pending func([]*T) []string) error {
	w := &waiter{client: c, sel: sel, check: func(objs []*unstructured.Unstructured) ([]string, error) {
		typed, err := convertAll[T](objs)
		if err != nil {
			return nil, err
		}
		return pending(typed), nil
	}}
	return w.wait(ctx)
}

type waiter struct {
	client *Client
	sel    Selector
	check  func([]*unstructured.Unstructured) ([]string, error)

	objs    map[string]*unstructured.Unstructured // by namespace/name
	waiting []string
	last    error
}

func (w *waiter) wait(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	failing := time.Now() // since when the API server gives errors
	for {
		done, err := w.follow(ctx)
		switch {
		case done:
			return nil
		case err == nil:
			failing = time.Now()
		case ctx.Err() == nil:
			w.last = err
			all := w.client.patience
			if p := patience(err, all); p < all && time.Since(failing) >= p {
				return err // waiting does not help against a 401, or a 403 that lasts
			}
		}
		pause.Reset(retryPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return &WaitError{Waiting: w.waiting, Last: w.last, Cause: context.Cause(ctx)}
		}
	}
}

// follow lists the objects and watches them until all is well (done), the watch ends (no error), or a request fails.
func (w *waiter) follow(ctx context.Context) (done bool, err error) {
	gvk := schema.FromAPIVersionAndKind(w.sel.APIVersion, w.sel.Kind)
	at, err := w.client.at(ctx, gvk, w.sel.Namespace, true)
	if err != nil {
		return false, err
	}
	list, err := at.List(ctx, w.sel.options())
	if err != nil {
		return false, fmt.Errorf("list %ss: %w", w.sel.Kind, err)
	}
	w.last, w.objs = nil, map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		w.objs[id(&list.Items[i])] = &list.Items[i]
	}
	if done, err := w.look(); done || err != nil {
		return done, err
	}
	options := w.sel.options()
	options.ResourceVersion = list.GetResourceVersion()
	events, err := at.Watch(ctx, options)
	if err != nil {
		return false, w.watchError(err)
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		if event.Type == watch.Error {
			return false, w.watchError(apierrors.FromObject(event.Object))
		}
		obj, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		switch event.Type {
		case watch.Added, watch.Modified:
			w.objs[id(obj)] = obj
		case watch.Deleted:
			delete(w.objs, id(obj))
		default: // a bookmark
			continue
		}
		if done, err := w.look(); done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// watchError names the watch. It is nil for 410, which only means that the list has become too old to go on from.
func (w *waiter) watchError(err error) error {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return nil
	}
	return fmt.Errorf("watch %ss: %w", w.sel.Kind, err)
}

func (w *waiter) look() (done bool, err error) {
	objs := make([]*unstructured.Unstructured, 0, len(w.objs))
	for _, key := range slices.Sorted(maps.Keys(w.objs)) {
		objs = append(objs, w.objs[key])
	}
	w.waiting, err = w.check(objs)
	return err == nil && len(w.waiting) == 0, err
}

func id(obj metav1.Object) string { return obj.GetNamespace() + "/" + obj.GetName() }
