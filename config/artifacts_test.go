package config

import (
	"strings"
	"testing"
)

func TestValidateArtifacts(t *testing.T) {
	for _, tt := range []struct {
		name      string
		artifacts Artifacts
		want      []string // the errors, by their beginnings
	}{
		{"nothing", Artifacts{}, nil},
		{"a bundle", Artifacts{Bundle: "k.tar"}, nil},
		{"a mirror", Artifacts{Mirror: "https://mirror.example.org/k8s", CAFile: "ca.crt", CredentialsFile: "config.json"}, nil},
		{"both", Artifacts{Bundle: "k.tar", Mirror: "https://mirror.example.org"}, []string{"spec.artifacts.mirror: there is a bundle"}},
		{"no URL", Artifacts{Mirror: "mirror.example.org"}, []string{"spec.artifacts.mirror: it begins with neither https:// nor http://"}},
		{"a password", Artifacts{Mirror: "https://a:s3cret@mirror.example.org"}, []string{"spec.artifacts.mirror: it holds a name or a password"}},
		{"files of no mirror", Artifacts{CAFile: "ca.crt", CredentialsFile: "config.json"}, []string{
			"spec.artifacts.caFile: there is no mirror", "spec.artifacts.credentialsFile: there is no mirror",
		}},
		{"no way", Artifacts{Delivery: "pigeon"}, []string{`spec.artifacts.delivery: "pigeon" is no way`}},
		{"a bundle to download", Artifacts{Bundle: "k.tar", Delivery: DeliveryDownload}, []string{"spec.artifacts.delivery: hosts cannot download"}},
		{"a bundle for peers", Artifacts{Bundle: "k.tar", Delivery: DeliveryPeer}, nil},
		{"a URL for a file", Artifacts{Mirror: "https://m", CAFile: "https://m/ca.crt"}, []string{"spec.artifacts.caFile: it is a URL and not a file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Cluster{}
			c.Spec.Artifacts = tt.artifacts
			SetDefaults(c)
			v := &validator{c: c}
			v.artifacts()
			if len(v.errs) != len(tt.want) {
				t.Fatalf("got %v, want %q", v.errs, tt.want)
			}
			for i, err := range v.errs {
				if !strings.HasPrefix(err.Error(), tt.want[i]) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("got %v, want %q", err, tt.want[i])
				}
			}
		})
	}
}
