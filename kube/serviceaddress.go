package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A Service's address is kept twice: in the Service, and before it in an IPAddress that names the Service. An API server
// that is given up by its client, or loses its power, between the two writes leaves an address that is taken by a Service
// that is not there. It takes the first back by itself within moments, and the second after minutes.
// Source: k8s.io/kubernetes/pkg/registry/core/service/ipallocator

// orphanAge is how long an address without its Service is left to the API server, which may be about to write the Service.
const orphanAge = 2 * time.Second

// addressRefused tells whether err says one of these of the address that a Service asks for.
func addressRefused(err error, says ...string) bool {
	status, ok := apierrors.APIStatus(nil), false
	if apierrors.IsInvalid(err) {
		status, ok = asStatus(err)
	}
	if !ok || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool {
		return c.Field == "spec.clusterIPs" && slices.ContainsFunc(says, func(s string) bool { return strings.Contains(c.Message, s) })
	})
}

// noServiceCIDR tells whether the API server knows no range, or none yet, that a Service's own choice of address is in.
func noServiceCIDR(err error) bool {
	return addressRefused(err, "does not match the current range", "allocator not ready")
}

// addressTaken tells whether a Service's own choice of address is another's, or was its own before it.
func addressTaken(err error) bool { return addressRefused(err, "already allocated") }

// freeAddresses removes the addresses that are kept for a Service that is not there. Those of other Services stay.
func (c *Client) freeAddresses(ctx context.Context, service *unstructured.Unstructured) error {
	if _, err := c.Get(ctx, RefOf(service)); !NotFound(err) {
		return err
	}
	addresses, _, _ := unstructured.NestedStringSlice(service.Object, "spec", "clusterIPs")
	if len(addresses) == 0 {
		address, _, _ := unstructured.NestedString(service.Object, "spec", "clusterIP")
		addresses = []string{address}
	}
	for _, address := range addresses {
		ref := Ref{APIVersion: "networking.k8s.io/v1", Kind: "IPAddress", Name: address}
		kept, err := Get[networkingv1.IPAddress](ctx, c, ref)
		if NotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		owner := kept.Spec.ParentRef
		if owner == nil || owner.Resource != "services" || owner.Namespace != service.GetNamespace() || owner.Name != service.GetName() {
			continue
		}
		err = c.Typed.NetworkingV1().IPAddresses().Delete(ctx, address, *metav1.NewPreconditionDeleteOptions(string(kept.UID)))
		if err != nil && !NotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete %s: %w", ref, err)
		}
	}
	return nil
}
