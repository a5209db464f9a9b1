package kubetest

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// fieldManager is apimachinery's own, the one in every API server. The schema of Kubernetes' kinds comes with client-go's
// apply configurations; that of custom ones is deduced, so their lists are atomic.
func fieldManager(gvk schema.GroupVersionKind) (*managedfields.FieldManager, error) {
	var converter managedfields.TypeConverter = managedfields.NewDeducedTypeConverter()
	if scheme.Scheme.Recognizes(gvk) {
		converter = applyconfigurations.NewTypeConverter(scheme.Scheme)
	}
	return managedfields.NewDefaultCRDFieldManager(converter, sameVersion{}, noDefaults{}, empty{}, gvk, gvk.GroupVersion(), "", nil)
}

// applied is old with sent applied to it, by server-side apply. old is nil for one that is not there.
func applied(gvk schema.GroupVersionKind, old, sent *unstructured.Unstructured, manager string, force bool) (*unstructured.Unstructured, error) {
	fields, err := fieldManager(gvk)
	if err != nil {
		return nil, err
	}
	obj, err := fields.Apply(orEmpty(gvk, old), sent, manager, force)
	if err != nil {
		return nil, err
	}
	return obj.(*unstructured.Unstructured), nil
}

// updated is sent with the managed fields that an update of old to it leaves.
func updated(gvk schema.GroupVersionKind, old, sent *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	fields, err := fieldManager(gvk)
	if err != nil {
		return nil, err
	}
	if old != nil {
		sent.SetUID(old.GetUID())
		sent.SetCreationTimestamp(old.GetCreationTimestamp())
	}
	obj, err := fields.Update(orEmpty(gvk, old), sent, manager)
	if err != nil {
		return nil, err
	}
	return obj.(*unstructured.Unstructured), nil
}

func orEmpty(gvk schema.GroupVersionKind, obj *unstructured.Unstructured) *unstructured.Unstructured {
	if obj != nil {
		return obj.DeepCopy()
	}
	obj = &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetGroupVersionKind(gvk)
	return obj
}

// same tells whether a write left an object as it was, the times in its managed fields aside.
func same(a, b *unstructured.Unstructured) bool {
	bare := func(u *unstructured.Unstructured) map[string]any {
		u = u.DeepCopy()
		fields := u.GetManagedFields()
		for i := range fields {
			fields[i].Time = nil
		}
		u.SetManagedFields(fields)
		return u.Object
	}
	return reflect.DeepEqual(bare(a), bare(b))
}

// sameVersion converts nothing: objects here exist in the one version they were sent in.
type sameVersion struct{}

func (sameVersion) Convert(in, out, _ any) error {
	return fmt.Errorf("convert %T to %T", in, out)
}

func (sameVersion) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}

func (sameVersion) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}

type empty struct{}

func (empty) New(gvk schema.GroupVersionKind) (runtime.Object, error) { return orEmpty(gvk, nil), nil }
