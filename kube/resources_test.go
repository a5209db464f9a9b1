package kube

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
)

// client-go's typed clients know which kinds live in a namespace: their getters then take one. clusterScoped has to agree.
func TestClusterScopedAgreesWithClientGo(t *testing.T) {
	kinds := 0
	groups := reflect.TypeFor[kubernetes.Interface]()
	for i := range groups.NumMethod() {
		group := groups.Method(i).Type.Out(0)
		if group.Kind() != reflect.Interface {
			continue
		}
		for j := range group.NumMethod() {
			getter := group.Method(j)
			if getter.Type.NumOut() != 1 || getter.Type.Out(0).Kind() != reflect.Interface {
				continue
			}
			create, ok := getter.Type.Out(0).MethodByName("Create")
			if !ok || create.Type.NumIn() < 2 || create.Type.In(1).Kind() != reflect.Pointer {
				continue
			}
			obj, ok := reflect.New(create.Type.In(1).Elem()).Interface().(runtime.Object)
			if !ok {
				continue
			}
			gvks, _, err := scheme.Scheme.ObjectKinds(obj)
			if err != nil {
				t.Fatal(err)
			}
			kinds++
			gvk, cluster := gvks[0], getter.Type.NumIn() == 0
			if clusterScoped[gvk.GroupKind()] != cluster {
				t.Errorf("%s: cluster-scoped is %t", gvk, cluster)
			}
			if plural, _ := meta.UnsafeGuessKindToResource(gvk); plural.Empty() {
				t.Errorf("%s has no plural", gvk)
			}
		}
	}
	if kinds < 60 {
		t.Errorf("found only %d kinds in client-go", kinds)
	}
}
