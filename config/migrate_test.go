package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// The chain has no holes, and ends at the version that the types are.
func TestStepsAreAChain(t *testing.T) {
	for i, s := range steps {
		to := APIVersion
		if i+1 < len(steps) {
			to = steps[i+1].from
		}
		if s.to != to || s.from == s.to || s.rewrite == nil {
			t.Errorf("step %d is from %s to %s, and the next one begins at %s", i, s.from, s.to, to)
		}
	}
}

// invented are versions that never were: v1alpha0 called hosts machines, v0alpha1 had the version beside the spec.
var invented = []step{
	{"myadm.dev/v0alpha1", "myadm.dev/v1alpha0", func(root *yaml.Node) error {
		spec := child(root, "spec")
		if spec == nil {
			return errors.New("there is no spec")
		}
		for i := 0; i+1 < len(root.Content); i += 2 {
			if root.Content[i].Value == "version" {
				root.Content[i].Value = "kubernetesVersion"
				spec.Content = append(spec.Content, root.Content[i], root.Content[i+1])
				root.Content = append(root.Content[:i], root.Content[i+2:]...)
				break
			}
		}
		return nil
	}},
	{"myadm.dev/v1alpha0", APIVersion, func(root *yaml.Node) error {
		if spec := child(root, "spec"); spec != nil {
			for i := 0; i+1 < len(spec.Content); i += 2 {
				if spec.Content[i].Value == "machines" {
					spec.Content[i].Value = "hosts"
				}
			}
		}
		return nil
	}},
}

const oldDocument = `# our cluster
apiVersion: myadm.dev/v0alpha1 # old
kind: Cluster

# held until spring
version: "v1.36.3" # held
spec:
  # the racks
  machines: # two
  # the first
  - {name: cp-1, address: 192.0.2.1, roles: [control-plane]} # north
  - name: w-1 # south
    address: 192.0.2.2
  dns: {replicas: 3}
# the end
`

func TestMigrateKeepsCommentsAndOrder(t *testing.T) {
	got, from, err := migrate(invented, APIVersion, "c.yaml", []byte(oldDocument))
	if err != nil || from != "myadm.dev/v0alpha1" {
		t.Fatalf("from %s: %v", from, err)
	}
	want := `# our cluster
apiVersion: myadm.dev/v1alpha1 # old
kind: Cluster
spec:
  # the racks
  hosts: # two
    # the first
    - {name: cp-1, address: 192.0.2.1, roles: [control-plane]} # north
    - name: w-1 # south
      address: 192.0.2.2
  dns: {replicas: 3}
  # held until spring
  kubernetesVersion: "v1.36.3" # held
# the end
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	c := mustParse(t, string(got))
	if c.Spec.KubernetesVersion != "v1.36.3" || len(c.Spec.Hosts) != 2 {
		t.Errorf("it says %+v", c.Spec)
	}
	// From the middle of the chain, and from its end.
	middle := strings.Replace(string(got), "v1alpha1", "v1alpha0", 1)
	if got, _, err := migrate(invented, APIVersion, "c.yaml", []byte(strings.Replace(middle, "hosts:", "machines:", 1))); err != nil || string(got) != want {
		t.Errorf("from v1alpha0: %v\n%s", err, cmp.Diff(want, string(got)))
	}
	const untouched = head + "\n\n\nspec:    {dns:   {}}  # mine\n"
	if got, from, err := Migrate("c.yaml", []byte(untouched)); err != nil || from != APIVersion || string(got) != untouched {
		t.Errorf("of the newest version: %v, from %s\n%s", err, from, got)
	}
}

func TestMigrateRefuses(t *testing.T) {
	for document, want := range map[string]string{
		"":                "c.yaml: the document is empty; hint: `myadm config defaults` prints a whole one",
		"kind: Cluster\n": "c.yaml:1:1: apiVersion is missing; hint: write apiVersion: myadm.dev/v1alpha1",
		"kind: Cluster\napiVersion: myadm.dev/v1beta1\n":                             `c.yaml:2:1: apiVersion: "myadm.dev/v1beta1" is not a version that myadm knows; hint: use a newer myadm: this one writes myadm.dev/v1alpha1`,
		"kind: Cluster\napiVersion: myadm.dev/v1alpha12\n":                           `c.yaml:2:1: apiVersion: "myadm.dev/v1alpha12" is not a version that myadm knows; hint: use a newer myadm: this one writes myadm.dev/v1alpha1`,
		"kind: Cluster\napiVersion: myadm.dev/1alpha\n":                              `c.yaml:2:1: apiVersion: "myadm.dev/1alpha" is not a version that myadm knows; hint: this myadm knows versions up to myadm.dev/v1alpha1; is it misspelt?`,
		"kind: Cluster\napiVersion: k0sctl.k0sproject.io/v1beta1\n":                  `c.yaml:2:1: apiVersion: "k0sctl.k0sproject.io/v1beta1" is not a version that myadm knows; hint: ` + "`myadm config defaults` prints a whole document",
		"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n":           "c.yaml:1:1: the document is not a Cluster; hint: `myadm config from-kubeadm` reads kubeadm's files",
		"apiVersion: myadm.dev/v0alpha1\nkind: Cluster\n":                            "c.yaml: from myadm.dev/v0alpha1 to myadm.dev/v1alpha0: there is no spec",
		"apiVersion: myadm.dev/v1alpha0\nkind: Cluster\n---\napiVersion: x\nkind: y": "c.yaml:4:1: a second document starts here; hint: keep one Cluster in a file",
	} {
		if got, _, err := migrate(invented, APIVersion, "c.yaml", []byte(document)); err == nil || err.Error() != want {
			t.Errorf("migrate(%q):\n got %v %s\nwant %s", document, err, got, want)
		}
	}
}

func FuzzMigrate(f *testing.F) {
	f.Add([]byte(oldDocument))
	f.Add([]byte("apiVersion: myadm.dev/v1alpha0\nkind: Cluster\nspec: &a {machines: [], x: *a}\n"))
	f.Add([]byte("{kind: Cluster, apiVersion: &v myadm.dev/v1alpha0, x: *v}"))
	f.Fuzz(func(t *testing.T, document []byte) {
		out, from, err := migrate(invented, APIVersion, "c.yaml", document)
		if err != nil {
			return
		}
		again, now, err := migrate(invented, APIVersion, "c.yaml", out)
		if err != nil || now != APIVersion || string(again) != string(out) {
			t.Errorf("from %s, and migrated again from %s: %v\n%s", from, now, err, again)
		}
	})
}
