package kube

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
)

// resource is where the API serves a kind.
type resource struct {
	schema.GroupVersionResource
	namespaced bool
}

// clusterScoped are the kinds of Kubernetes itself that live in no namespace. Together with client-go's scheme, which
// knows all kinds of Kubernetes, they spare a discovery round trip. A test compares them with client-go's typed clients.
var clusterScoped = map[schema.GroupKind]bool{
	{Kind: "ComponentStatus"}:  true,
	{Kind: "Namespace"}:        true,
	{Kind: "Node"}:             true,
	{Kind: "PersistentVolume"}: true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicy"}:          true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicyBinding"}:   true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:     true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}:        true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}:   true,
	{Group: "authentication.k8s.io", Kind: "SelfSubjectReview"}:                       true,
	{Group: "authentication.k8s.io", Kind: "TokenReview"}:                             true,
	{Group: "authorization.k8s.io", Kind: "SelfSubjectAccessReview"}:                  true,
	{Group: "authorization.k8s.io", Kind: "SelfSubjectRulesReview"}:                   true,
	{Group: "authorization.k8s.io", Kind: "SubjectAccessReview"}:                      true,
	{Group: "certificates.k8s.io", Kind: "CertificateSigningRequest"}:                 true,
	{Group: "certificates.k8s.io", Kind: "ClusterTrustBundle"}:                        true,
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "FlowSchema"}:                       true,
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "PriorityLevelConfiguration"}:       true,
	{Group: "internal.apiserver.k8s.io", Kind: "StorageVersion"}:                      true,
	{Group: "networking.k8s.io", Kind: "IPAddress"}:                                   true,
	{Group: "networking.k8s.io", Kind: "IngressClass"}:                                true,
	{Group: "networking.k8s.io", Kind: "ServiceCIDR"}:                                 true,
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:                                      true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:                         true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}:                  true,
	{Group: "resource.k8s.io", Kind: "DeviceClass"}:                                   true,
	{Group: "resource.k8s.io", Kind: "DeviceTaintRule"}:                               true,
	{Group: "resource.k8s.io", Kind: "ResourcePoolStatusRequest"}:                     true,
	{Group: "resource.k8s.io", Kind: "ResourceSlice"}:                                 true,
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:                               true,
	{Group: "storage.k8s.io", Kind: "CSIDriver"}:                                      true,
	{Group: "storage.k8s.io", Kind: "CSINode"}:                                        true,
	{Group: "storage.k8s.io", Kind: "StorageClass"}:                                   true,
	{Group: "storage.k8s.io", Kind: "VolumeAttachment"}:                               true,
	{Group: "storage.k8s.io", Kind: "VolumeAttributesClass"}:                          true,
	{Group: "storagemigration.k8s.io", Kind: "StorageVersionMigration"}:               true,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:                 true,
	{Group: "apiregistration.k8s.io", Kind: "APIService"}:                             true,
}

// resourceFor finds the resource of a kind: from what client-go knows of Kubernetes, else by asking the API server for
// the kinds of that one group and version. A kind that is not served gives a *meta.NoKindMatchError, and is asked for
// again the next time, since its CustomResourceDefinition may be seconds old.
func (c *Client) resourceFor(ctx context.Context, gvk schema.GroupVersionKind) (resource, error) {
	cluster := clusterScoped[gvk.GroupKind()]
	if cluster || scheme.Scheme.Recognizes(gvk) {
		plural, _ := meta.UnsafeGuessKindToResource(gvk)
		return resource{plural, !cluster}, nil
	}
	c.mu.Lock()
	found, ok := c.served[gvk]
	c.mu.Unlock()
	if ok {
		return found, nil
	}
	path := "/apis/" + gvk.GroupVersion().String()
	if gvk.Group == "" {
		path = "/api/" + gvk.Version
	}
	var list metav1.APIResourceList
	err := c.Typed.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Into(&list)
	if err != nil && !apierrors.IsNotFound(err) {
		return resource{}, fmt.Errorf("list the kinds of %s: %w", gvk.GroupVersion(), err)
	}
	for _, r := range list.APIResources {
		if r.Kind == gvk.Kind && !strings.Contains(r.Name, "/") { // a slash: a subresource
			found := resource{gvk.GroupVersion().WithResource(r.Name), r.Namespaced}
			c.mu.Lock()
			c.served[gvk] = found
			c.mu.Unlock()
			return found, nil
		}
	}
	return resource{}, &meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}}
}

// at is the dynamic client for a kind in a namespace; the namespace of a kind that has none is ignored, and "default"
// stands in for one that is missing, as kubectl does it. An empty namespace with all set means every namespace.
func (c *Client) at(ctx context.Context, gvk schema.GroupVersionKind, namespace string, all bool) (dynamic.ResourceInterface, error) {
	r, err := c.resourceFor(ctx, gvk)
	if err != nil {
		return nil, err
	}
	kind := c.Dynamic.Resource(r.GroupVersionResource)
	switch {
	case !r.namespaced || namespace == "" && all:
		return kind, nil
	case namespace == "":
		namespace = metav1.NamespaceDefault
	}
	return kind.Namespace(namespace), nil
}
