package kube_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/kube/kubetest"
)

// An API server that lost its power between the two writes of a Service keeps its address for nobody.
func TestApplyFreesTheAddressOfAServiceThatIsNotThere(t *testing.T) {
	kept := kube.Ref{APIVersion: "networking.k8s.io/v1", Kind: "IPAddress", Name: "10.96.0.10"}
	for _, tt := range []struct {
		name, owner string
		freed       bool
	}{
		{"its own", "kube-dns", true},
		{"another Service's", "web", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := kubetest.NewServer(t)
			s.Put(t, &networkingv1.IPAddress{
				TypeMeta:   metav1.TypeMeta{APIVersion: kept.APIVersion, Kind: kept.Kind},
				ObjectMeta: metav1.ObjectMeta{Name: kept.Name},
				Spec:       networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: "kube-system", Name: tt.owner}},
			})
			s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPatch || s.Object(kept) == nil {
					return false
				}
				kubetest.Fail(w, apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "kube-dns",
					field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs"), []string{kept.Name}, addressTaken)}))
				return true
			}
			service := manifests(t, `
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, ports: [{name: dns, port: 53, protocol: UDP}]}
`)
			err := s.Client(t, kube.Options{Patience: 16 * time.Second}).Apply(t.Context(), service)
			if tt.freed && (err != nil || s.Object(kept) != nil) {
				t.Errorf("it is not freed: %v", err)
			}
			if !tt.freed && (err == nil || !strings.Contains(err.Error(), addressTaken) || s.Object(kept) == nil) {
				t.Errorf("what is another's was taken: %v", err)
			}
		})
	}
}
