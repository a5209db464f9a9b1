package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/version"
	kubeproxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// kubeadmKind is a kind of document in the files that `kubeadm --config` takes.
type kubeadmKind struct {
	apiVersion, kind string
	fields           reflect.Type // nil for a kind that says nothing of a cluster
	many             bool         // there may be several
}

var kubeadmKinds = []kubeadmKind{
	{kubeadmVersion, "InitConfiguration", reflect.TypeFor[initConfiguration](), false},
	{kubeadmVersion, "ClusterConfiguration", reflect.TypeFor[clusterConfiguration](), false},
	{kubeadmVersion, "JoinConfiguration", reflect.TypeFor[joinConfiguration](), true},
	{kubeadmVersion, "ResetConfiguration", nil, true},
	{kubeadmVersion, "UpgradeConfiguration", nil, true},
	{kubeletv1beta1.SchemeGroupVersion.String(), "KubeletConfiguration", reflect.TypeFor[kubeletv1beta1.KubeletConfiguration](), false},
	{kubeproxyv1alpha1.SchemeGroupVersion.String(), "KubeProxyConfiguration", reflect.TypeFor[kubeproxyv1alpha1.KubeProxyConfiguration](), false},
}

// kubeadmDocument is one document of a file, checked against its type.
type kubeadmDocument struct {
	kubeadmKind
	line int
	tree map[string]any
	at   map[string]position // by the kind and the path: ClusterConfiguration.networking.podSubnet
}

// kubeadmFile is a whole file, by kinds; what it does not have is nil.
type kubeadmFile struct {
	name                          string
	init, cluster, kubelet, proxy *kubeadmDocument
	joins, others                 []*kubeadmDocument
	initConfig                    initConfiguration
	clusterConfig                 clusterConfiguration
	joinConfigs                   []joinConfiguration
}

// readKubeadmFile reads kubeadm's documents as strictly as Parse does ours: unknown fields, wrong types and other versions
// are Errors.
func readKubeadmFile(name string, data []byte) (*kubeadmFile, error) {
	docs, err := yamlDocuments(name, data)
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, documentError(name, 0, "the file is empty", "`kubeadm config print init-defaults` prints one")
	}
	f := &kubeadmFile{name: name}
	var errs Errors
	for _, doc := range docs {
		var found Errors
		if err := f.add(doc.Content[0]); errors.As(err, &found) {
			errs = append(errs, found...)
		} else if err != nil {
			return nil, err
		}
	}
	return f, errs.err()
}

func (f *kubeadmFile) add(root *yaml.Node) error {
	k, err := kindOf(f.name, root)
	if err != nil {
		return err
	}
	d := &kubeadmDocument{kubeadmKind: k, line: root.Line}
	if k.fields == nil {
		f.others = append(f.others, d)
		return nil
	}
	w := &walker{file: f.name, at: map[string]position{}, budget: maxNodes}
	tree := w.value(root, k.fields, k.kind, 0)
	if len(w.errs) > 0 {
		return w.errs
	}
	d.tree, _ = tree.(map[string]any)
	d.at = w.at
	into := map[string]**kubeadmDocument{
		"InitConfiguration": &f.init, "ClusterConfiguration": &f.cluster,
		"KubeletConfiguration": &f.kubelet, "KubeProxyConfiguration": &f.proxy,
	}[k.kind]
	switch {
	case k.many:
		f.joins = append(f.joins, d)
		f.joinConfigs = append(f.joinConfigs, joinConfiguration{})
		return d.decode(&f.joinConfigs[len(f.joinConfigs)-1])
	case *into != nil:
		return documentError(f.name, root.Line, "a second "+k.kind+" starts here", fmt.Sprintf("keep one; the first is on line %d", (*into).line))
	}
	*into = d
	switch d {
	case f.init:
		return d.decode(&f.initConfig)
	case f.cluster:
		return d.decode(&f.clusterConfig)
	}
	return nil
}

// decode turns the plain values into their type.
func (d *kubeadmDocument) decode(into any) error {
	plain, err := json.Marshal(d.tree)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, into)
}

// kindOf finds what a document is by its first two fields.
func kindOf(name string, root *yaml.Node) (kubeadmKind, error) {
	fail := func(n *yaml.Node, message, hint string) (kubeadmKind, error) {
		return kubeadmKind{}, Errors{{File: name, Line: n.Line, Column: n.Column, Message: message, Hint: hint}}
	}
	if root.Kind != yaml.MappingNode {
		return fail(root, "the document is "+describe(root)+" and not a mapping", "`kubeadm config print init-defaults` prints some")
	}
	apiVersion, kind := child(root, "apiVersion"), child(root, "kind")
	if apiVersion == nil || kind == nil {
		return fail(root, "apiVersion or kind is missing", "write apiVersion: "+kubeadmVersion+", and the kind, such as ClusterConfiguration")
	}
	if i := slices.IndexFunc(kubeadmKinds, func(k kubeadmKind) bool { return k.apiVersion == apiVersion.Value && k.kind == kind.Value }); i >= 0 {
		return kubeadmKinds[i], nil
	}
	group, v, _ := strings.Cut(apiVersion.Value, "/")
	switch {
	case group == kubeadmGroup && apiVersion.Value != kubeadmVersion:
		_, newest, _ := strings.Cut(kubeadmVersion, "/")
		if version.CompareKubeAwareVersionStrings(v, newest) > 0 {
			return fail(apiVersion, fmt.Sprintf("%q is newer than %s, the newest version that this myadm reads", apiVersion.Value, kubeadmVersion), "use a newer myadm")
		}
		return fail(apiVersion, fmt.Sprintf("%q is an older version than %s", apiVersion.Value, kubeadmVersion),
			"run `kubeadm config migrate --old-config "+name+" --new-config NEW`, and give NEW")
	case kind.Value == "ConfigMap":
		return fail(root, "a ConfigMap, and not what it holds", "kubectl -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' prints that")
	case apiVersion.Value == APIVersion && kind.Value == Kind:
		return fail(root, "the document is a Cluster already", "`myadm config validate` checks it")
	}
	var kinds []string
	for _, k := range kubeadmKinds {
		kinds = append(kinds, k.kind)
	}
	hint, _ := among(kind.Value, kinds)
	return fail(kind, fmt.Sprintf("%q of %q is not a document that kubeadm reads", kind.Value, apiVersion.Value), hint)
}
