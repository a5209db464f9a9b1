package kube

import (
	"context"
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Update changes an object that is there, and writes nothing if edit leaves it as it is. It is for a few fields of an
// object whose others are to stay whoever's they are: applying those few would take away all that we have applied before.
// When somebody else was faster, edit is called again with what they wrote. An error of edit's is final.
func (c *Client) Update(ctx context.Context, ref Ref, edit func(obj *unstructured.Unstructured) error) error {
	var refused error
	err := c.retry(ctx, func() error {
		obj, err := c.Get(ctx, ref)
		if err != nil {
			return err
		}
		was := obj.DeepCopy()
		if refused = edit(obj); refused != nil || reflect.DeepEqual(was, obj) {
			return nil
		}
		at, err := c.at(ctx, ref.gvk(), ref.Namespace, false)
		if err == nil {
			_, err = at.Update(ctx, obj, metav1.UpdateOptions{FieldManager: FieldManager})
		}
		if err != nil {
			return fmt.Errorf("update %s: %w", ref, err)
		}
		return nil
	})
	if refused != nil {
		return fmt.Errorf("%s: %w", ref, refused)
	}
	return err
}
