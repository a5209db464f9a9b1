//go:build e2e

package e2e

import (
	"errors"
	"os"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/e2e/lab"
)

// write writes a Cluster document of some of the lab's hosts, in this order: control planes, then workers. change, unless
// nil, changes the rest of its spec. What the lab says of the hosts stays.
func (s *site) write(t *testing.T, controlPlanes, workers []string, change func(spec map[string]any)) string {
	t.Helper()
	var document map[string]any
	must(t, yaml.Unmarshal(read(t, s.Path(lab.ClusterFile)), &document))
	spec := document["spec"].(map[string]any)
	known := map[string]map[string]any{}
	for _, h := range spec["hosts"].([]any) {
		h := h.(map[string]any)
		known[h["name"].(string)] = h
	}
	var hosts []any
	for _, name := range slices.Concat(controlPlanes, workers) {
		h, ok := known[name]
		if !ok {
			t.Fatalf("the lab has no host %s", name)
		}
		h["roles"] = []any{lab.RoleWorker}
		if slices.Contains(controlPlanes, name) {
			h["roles"] = []any{lab.RoleControlPlane}
		}
		hosts = append(hosts, h)
	}
	spec["hosts"] = hosts
	if change != nil {
		change(spec)
	}
	data, err := yaml.Marshal(document)
	must(t, err)
	file, err := os.CreateTemp(s.home, "cluster-*.yaml") // which outlives a subtest
	must(t, err)
	_, err = file.Write(data)
	must(t, errors.Join(err, file.Close()))
	return file.Name()
}
