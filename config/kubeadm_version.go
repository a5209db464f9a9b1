package config

import (
	"errors"
	"reflect"
	"regexp"

	"sigs.k8s.io/yaml"
)

// versionLine is the field in the layout in which kubeadm and editors write it.
var versionLine = regexp.MustCompile(`(?m)^(kubernetesVersion:[ \t]*)[^\s#]+`)

// SetKubernetesVersion writes a version, as v1.37.2, into kubeadm's ClusterConfiguration. Everything else stays, fields
// that only another release of kubeadm knows and, where the field has a line of its own, comments and order, too.
func SetKubernetesVersion(have []byte, version string) ([]byte, error) {
	var want map[string]any
	if err := yaml.Unmarshal(have, &want); err != nil || want["kind"] != "ClusterConfiguration" {
		return nil, errors.New("not kubeadm's ClusterConfiguration; hint: it is in the ConfigMap kube-system/kubeadm-config")
	}
	if want["kubernetesVersion"] == version {
		return have, nil
	}
	want["kubernetesVersion"] = version
	out := versionLine.ReplaceAll(have, []byte("${1}"+version))
	var got map[string]any
	if err := yaml.Unmarshal(out, &got); err == nil && reflect.DeepEqual(want, got) {
		return out, nil
	}
	return yaml.Marshal(want)
}
