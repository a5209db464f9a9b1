package kube

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Ref names an object. Namespace is empty for kinds that live in none.
type Ref struct {
	APIVersion, Kind string
	Namespace, Name  string
}

// RefOf is the Ref of an object.
func RefOf(obj *unstructured.Unstructured) Ref {
	return Ref{obj.GetAPIVersion(), obj.GetKind(), obj.GetNamespace(), obj.GetName()}
}

// String is the name in messages and plans: "ConfigMap kube-system/coredns".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

func (r Ref) gvk() schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(r.APIVersion, r.Kind)
}

// Selector picks the objects of one kind.
type Selector struct {
	APIVersion, Kind string
	Namespace        string // empty: all namespaces
	Name             string // empty: all names
	Labels           string // a label selector, such as "k8s-app=kube-dns"; empty: all
	Fields           string // a field selector, such as "spec.nodeName=cp-1"; empty: all
}

func (s Selector) options() metav1.ListOptions {
	fields := s.Fields
	if s.Name != "" {
		fields = strings.Trim("metadata.name="+s.Name+","+fields, ",")
	}
	return metav1.ListOptions{LabelSelector: s.Labels, FieldSelector: fields}
}

// Reader looks at a cluster and changes nothing. A phase's Check is given one.
type Reader interface {
	// Get returns an object. One that is not there gives an error for which NotFound is true.
	Get(ctx context.Context, ref Ref) (*unstructured.Unstructured, error)

	// List returns the selected objects, in the API server's order (by namespace and name).
	List(ctx context.Context, sel Selector) ([]*unstructured.Unstructured, error)

	// DryRunApply returns what an object would be after Apply, with all defaulting and admission done and nothing stored.
	DryRunApply(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error)

	// Health asks one of the API server's health endpoints: /livez, /readyz or /healthz. nil means ok; an API server that
	// answers otherwise gives a *HealthError.
	Health(ctx context.Context, path string) error
}

var _ Reader = (*Client)(nil)

// Get returns an object as its Go type, for example Get[corev1.Node](ctx, r, Ref{"v1", "Node", "", "cp-1"}).
func Get[T any](ctx context.Context, r Reader, ref Ref) (*T, error) {
	obj, err := r.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return convert[T](obj)
}

// List returns objects as their Go type.
func List[T any](ctx context.Context, r Reader, sel Selector) ([]*T, error) {
	objs, err := r.List(ctx, sel)
	if err != nil {
		return nil, err
	}
	return convertAll[T](objs)
}

func convert[T any](obj *unstructured.Unstructured) (*T, error) {
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, typed); err != nil {
		return nil, fmt.Errorf("read %s as %T: %w", RefOf(obj), typed, err)
	}
	return typed, nil
}

func convertAll[T any](objs []*unstructured.Unstructured) ([]*T, error) {
	typed := make([]*T, len(objs))
	for i, obj := range objs {
		var err error
		if typed[i], err = convert[T](obj); err != nil {
			return nil, err
		}
	}
	return typed, nil
}

// Get implements Reader.
func (c *Client) Get(ctx context.Context, ref Ref) (*unstructured.Unstructured, error) {
	at, err := c.at(ctx, ref.gvk(), ref.Namespace, false)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", ref, err)
	}
	obj, err := at.Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", ref, err)
	}
	return obj, nil
}

// List implements Reader.
func (c *Client) List(ctx context.Context, sel Selector) ([]*unstructured.Unstructured, error) {
	at, err := c.at(ctx, schema.FromAPIVersionAndKind(sel.APIVersion, sel.Kind), sel.Namespace, true)
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", sel.Kind, err)
	}
	list, err := at.List(ctx, sel.options())
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", sel.Kind, err)
	}
	objs := make([]*unstructured.Unstructured, len(list.Items))
	for i := range list.Items {
		objs[i] = &list.Items[i]
	}
	return objs, nil
}
