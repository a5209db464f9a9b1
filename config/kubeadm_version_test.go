package config_test

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/config"
)

func TestSetKubernetesVersion(t *testing.T) {
	const kind = "kind: ClusterConfiguration\n"
	for _, tt := range []struct{ name, have, want string }{
		{"only the version", "# mine\nzeta: 1 # unknown\n" + kind + "kubernetesVersion: v1.36.3 # held\ndns:\n  kubernetesVersion: v1.36.3\n", "# mine\nzeta: 1 # unknown\n" + kind + "kubernetesVersion: v1.37.2 # held\ndns:\n  kubernetesVersion: v1.36.3\n"},
		{"quotes", kind + "kubernetesVersion: \"v1.36.3\"\r\nx: y\r\n", kind + "kubernetesVersion: v1.37.2\r\nx: y\r\n"},
		{"none yet", "b: 1\n" + kind, "b: 1\n" + kind + "kubernetesVersion: v1.37.2\n"},
		{"JSON", `{"x": {"y": 1}, "kind": "ClusterConfiguration", "kubernetesVersion": "v1.36.3"}`, kind + "kubernetesVersion: v1.37.2\nx:\n  \"y\": 1\n"},
		{"the same line in a text", kind + "kubernetesVersion: v1.36.3\ntext: \"a\nkubernetesVersion: v1.36.3\"\n", kind + "kubernetesVersion: v1.37.2\ntext: 'a kubernetesVersion: v1.36.3'\n"},
		{"it has it", kind + "kubernetesVersion:   \"v1.37.2\"\n", kind + "kubernetesVersion:   \"v1.37.2\"\n"},
	} {
		got, err := config.SetKubernetesVersion([]byte(tt.have), "v1.37.2")
		if diff := cmp.Diff(tt.want, string(got)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
	for _, have := range []string{"", "[", "- a\n", "kind: InitConfiguration\n"} {
		if got, err := config.SetKubernetesVersion([]byte(have), "v1.37.2"); err == nil {
			t.Errorf("%q gives %q", have, got)
		}
	}
}

func FuzzSetKubernetesVersion(f *testing.F) {
	f.Add([]byte("kind: ClusterConfiguration\nkubernetesVersion: v1.36.3\nx: {y: [1, null]}\n"))
	f.Add([]byte("{kind: ClusterConfiguration, kubernetesVersion: 'v1.36.3'}"))
	f.Add([]byte("kind: ClusterConfiguration\nkubernetesVersion: &v v1.36.3\nx: *v\n"))
	f.Fuzz(func(t *testing.T, have []byte) {
		out, err := config.SetKubernetesVersion(have, "v1.37.2")
		if err != nil {
			return
		}
		var want, got map[string]any
		if err := yaml.Unmarshal(have, &want); err != nil {
			t.Fatal(err)
		}
		want["kubernetesVersion"] = "v1.37.2"
		if err := yaml.Unmarshal(out, &got); err != nil || !reflect.DeepEqual(want, got) {
			t.Errorf("more than the version has changed: %v\n%s", err, cmp.Diff(want, got))
		}
	})
}
