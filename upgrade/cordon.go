package upgrade

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/kube"
)

// A node that an upgrade has cordoned carries this annotation. One that is cordoned without it was cordoned by its user.
const (
	cordonAnnotation = "myadm.dev/cordoned"
	cordonReason     = "upgrade"
)

// Cordoned tells whether the node is cordoned, and by an upgrade.
func Cordoned(node *corev1.Node) bool {
	_, marked := node.Annotations[cordonAnnotation]
	return marked && node.Spec.Unschedulable
}

// Cordon keeps new pods off a node, and notes that it was myadm. A node that is cordoned already stays as it is. Both are
// one write, which holds only for the node as it was read: a user's cordon at the same moment is not taken for myadm's.
func Cordon(ctx context.Context, client *kube.Client, node string) error {
	err := client.Update(ctx, nodeRef(node), func(obj *unstructured.Unstructured) error {
		if unschedulable, _, err := unstructured.NestedBool(obj.Object, "spec", "unschedulable"); err != nil || unschedulable {
			return err
		}
		if err := unstructured.SetNestedField(obj.Object, cordonReason, "metadata", "annotations", cordonAnnotation); err != nil {
			return err
		}
		return unstructured.SetNestedField(obj.Object, true, "spec", "unschedulable")
	})
	if err != nil {
		return fmt.Errorf("cordon: %w", err)
	}
	return nil
}

// Uncordon lets new pods onto a node that Cordon has cordoned, and takes the note away. Other nodes stay as they are.
func Uncordon(ctx context.Context, client *kube.Client, node string) error {
	err := client.Update(ctx, nodeRef(node), func(obj *unstructured.Unstructured) error {
		if _, marked := obj.GetAnnotations()[cordonAnnotation]; marked {
			unstructured.RemoveNestedField(obj.Object, "metadata", "annotations", cordonAnnotation)
			unstructured.RemoveNestedField(obj.Object, "spec", "unschedulable")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("uncordon: %w", err)
	}
	return nil
}

func nodeRef(name string) kube.Ref { return kube.Ref{APIVersion: "v1", Kind: "Node", Name: name} }
