package config

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// UpdateKubeadm writes what c says into a cluster's ClusterConfiguration and keeps what only kubeadm knows of it.
func UpdateKubeadm(have []byte, c *Cluster) ([]byte, error) {
	ours, err := ToKubeadm(c)
	if err != nil {
		return nil, err
	}
	var old, new map[string]any
	if err := yaml.Unmarshal(have, &old); err != nil {
		return nil, fmt.Errorf("read kubeadm's ClusterConfiguration: %w", err)
	}
	if err := yaml.Unmarshal(ours, &new); err != nil {
		return nil, fmt.Errorf("read kubeadm's ClusterConfiguration: %w", err)
	}
	return yaml.Marshal(overlay(old, new))
}

// overlay lays over upon base, mapping by mapping; lists are replaced as a whole.
func overlay(base, over map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range base {
		out[k] = v
	}
	for k, v := range over {
		below, isMap := out[k].(map[string]any)
		above, areMaps := v.(map[string]any)
		if isMap && areMaps {
			v = overlay(below, above)
		}
		out[k] = v
	}
	return out
}
