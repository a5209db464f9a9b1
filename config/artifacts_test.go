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
		{"signatures", Artifacts{Mirror: "https://m", Signatures: Signatures{Roots: "r.json", Identity: "a@b", Issuer: "https://i", Required: true}}, nil},
		{"signatures of a bundle", Artifacts{Bundle: "k.tar", Signatures: Signatures{Roots: "r.json"}}, []string{"spec.artifacts.signatures.roots: there is no mirror"}},
		{"signatures of nothing", Artifacts{Signatures: Signatures{Required: true}}, []string{"spec.artifacts.signatures.required: there is no mirror"}},
		{"signatures without roots", Artifacts{Mirror: "https://m", Signatures: Signatures{Required: true, Identity: "a@b", Issuer: "https://i"}}, []string{
			"spec.artifacts.signatures.required: it is not said whose", "spec.artifacts.signatures.identity: it", "spec.artifacts.signatures.issuer: it",
		}},
		{"a URL for roots, and none for an issuer", Artifacts{Mirror: "https://m", Signatures: Signatures{Roots: "https://r", Issuer: "i"}}, []string{
			"spec.artifacts.signatures.roots: it is a URL", `spec.artifacts.signatures.issuer: "i" is not who vouches`,
		}},
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
