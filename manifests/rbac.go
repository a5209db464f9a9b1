package manifests

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// The groups and users of the PKI and of bootstrap tokens.
const (
	NodeBootstrapGroup = "system:bootstrappers:kubeadm:default-node-token" // of tokens with which nodes join
	ClusterAdminsGroup = "kubeadm:cluster-admins"                          // of admin.conf

	nodesGroup    = "system:nodes"
	kubeletClient = "kube-apiserver-kubelet-client"
)

// grant is a role and its binding: who may do what, or who gets a role that exists already.
type grant struct {
	name      string
	namespace string              // empty: in the whole cluster
	rules     []rbacv1.PolicyRule // empty: role names one that Kubernetes brings
	role      string              // default: name
	subjects  []rbacv1.Subject
}

// BootstrapRBAC lets a node join with a token: read what discovery shows to everybody, ask for a certificate, have it
// signed without an administrator, renew it later, and see whether another node has its name.
func BootstrapRBAC() ([]*unstructured.Unstructured, error) {
	tokens := []rbacv1.Subject{group(NodeBootstrapGroup)}
	return grants(
		grant{name: "kubeadm:kubelet-bootstrap", role: "system:node-bootstrapper", subjects: tokens},
		grant{name: "kubeadm:node-autoapprove-bootstrap", subjects: tokens,
			role: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"},
		grant{name: "kubeadm:node-autoapprove-certificate-rotation", subjects: []rbacv1.Subject{group(nodesGroup)},
			role: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"},
		grant{name: "kubeadm:get-nodes", subjects: tokens, rules: []rbacv1.PolicyRule{may("nodes", "get")}},
		grant{name: "kubeadm:bootstrap-signer-clusterinfo", namespace: metav1.NamespacePublic,
			rules: []rbacv1.PolicyRule{mayGet("configmaps", ClusterInfoName)}, subjects: []rbacv1.Subject{user("system:anonymous")}},
	)
}

// ConfigRBAC lets joining and joined nodes read the cluster's configuration.
func ConfigRBAC() ([]*unstructured.Unstructured, error) {
	config := func(name, resource, object string, subjects ...rbacv1.Subject) grant {
		return grant{name: name, namespace: metav1.NamespaceSystem, rules: []rbacv1.PolicyRule{mayGet(resource, object)}, subjects: subjects}
	}
	return grants(
		config("kubeadm:nodes-kubeadm-config", "configmaps", KubeadmConfigName, group(NodeBootstrapGroup), group(nodesGroup)),
		config("kubeadm:kubelet-config", "configmaps", KubeletConfigName, group(nodesGroup), group(NodeBootstrapGroup)),
		config("kubeadm:kubeadm-certs", "secrets", KubeadmCertsName, group(NodeBootstrapGroup)),
	)
}

// ClusterAdminBinding gives admin.conf its power. Unlike super-admin.conf's, it can be taken back.
func ClusterAdminBinding() ([]*unstructured.Unstructured, error) {
	return grants(grant{name: "kubeadm:cluster-admins", role: "cluster-admin", subjects: []rbacv1.Subject{group(ClusterAdminsGroup)}})
}

// APIServerKubeletClientBinding lets the API servers ask kubelets for logs and sessions.
func APIServerKubeletClientBinding() ([]*unstructured.Unstructured, error) {
	return grants(grant{name: "kubeadm:apiserver-kubelet-client", role: "system:kubelet-api-admin", subjects: []rbacv1.Subject{user(kubeletClient)}})
}

func grants(list ...grant) ([]*unstructured.Unstructured, error) {
	var all []runtime.Object
	for _, g := range list {
		all = append(all, g.objects()...)
	}
	return objects(all...)
}

func (g grant) objects() (all []runtime.Object) {
	m := meta(g.namespace, g.name)
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: g.name}
	if g.role != "" {
		ref.Name = g.role
	}
	if g.namespace != "" {
		ref.Kind = "Role"
		if g.rules != nil {
			all = append(all, &rbacv1.Role{ObjectMeta: m, Rules: g.rules})
		}
		return append(all, &rbacv1.RoleBinding{ObjectMeta: m, RoleRef: ref, Subjects: g.subjects})
	}
	if g.rules != nil {
		all = append(all, &rbacv1.ClusterRole{ObjectMeta: m, Rules: g.rules})
	}
	return append(all, &rbacv1.ClusterRoleBinding{ObjectMeta: m, RoleRef: ref, Subjects: g.subjects})
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
}

func serviceAccount(m metav1.ObjectMeta) (*corev1.ServiceAccount, rbacv1.Subject) {
	return &corev1.ServiceAccount{ObjectMeta: m}, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: m.Namespace, Name: m.Name}
}

// may allows verbs on a resource of the core group.
func may(resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{""}, Resources: []string{resource}}
}

// mayGet allows to read one object of the core group.
func mayGet(resource, name string) rbacv1.PolicyRule {
	rule := may(resource, "get")
	rule.ResourceNames = []string{name}
	return rule
}

// mayWatch allows to list and watch resources of an API group.
func mayWatch(apiGroup string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{"list", "watch"}, APIGroups: []string{apiGroup}, Resources: resources}
}
