package manifests

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// objects turns typed objects into what server-side apply is given: with their kind, and without the fields that typed
// objects always carry although nobody set them, so that we come to own only what we mean.
func objects(typed ...runtime.Object) ([]*unstructured.Unstructured, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, rbacv1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	out := make([]*unstructured.Unstructured, 0, len(typed))
	for _, o := range typed {
		kinds, _, err := scheme.ObjectKinds(o)
		if err != nil {
			return nil, fmt.Errorf("render %T: %w", o, err)
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", kinds[0].Kind, err)
		}
		delete(content, "status")
		prune(content)
		u := &unstructured.Unstructured{Object: content}
		u.SetGroupVersionKind(kinds[0])
		out = append(out, u)
	}
	return out, nil
}

// prune removes empty mappings under those names that typed objects always have. An empty mapping elsewhere can mean
// something: emptyDir: {} is a volume.
func prune(m map[string]any) {
	for key, value := range m {
		switch value := value.(type) {
		case []any:
			for _, e := range value {
				if e, ok := e.(map[string]any); ok {
					prune(e)
				}
			}
		case map[string]any:
			prune(value)
			if len(value) > 0 {
				continue
			}
			switch key {
			case "resources", "spec", "strategy", "updateStrategy":
				delete(m, key)
			}
		}
	}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func labelled(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
}
