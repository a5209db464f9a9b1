package cmd

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
)

// Only phases that send something need what there is to send.
func TestSelectionSends(t *testing.T) {
	for _, tt := range []struct {
		s    selection
		want bool
	}{
		{selection{}, true}, {selection{only: []string{"certs"}}, false}, {selection{only: []string{"certs", "images"}}, true},
		{selection{skip: []string{"runtime", "images"}}, true}, {selection{skip: []string{"runtime", "images", "binaries"}}, false},
	} {
		if got := tt.s.sends(); got != tt.want {
			t.Errorf("%+v: %t", tt.s, got)
		}
	}
}

// A flag that says where all of it comes from counts alone; those that say how add to the document.
func TestSourceFlags(t *testing.T) {
	bundled := config.Artifacts{Bundle: "k.tar"}
	mirrored := config.Artifacts{Mirror: "https://m", CAFile: "ca", CredentialsFile: "login"}
	for _, tt := range []struct {
		name     string
		flags    target
		document config.Artifacts
		want     config.Artifacts
	}{
		{"none", target{}, mirrored, mirrored},
		{"a bundle instead of a bundle", target{bundle: "b"}, bundled, config.Artifacts{Bundle: "b"}},
		{"a bundle instead of a mirror", target{bundle: "b"}, mirrored, config.Artifacts{Bundle: "b"}},
		{"a mirror instead of a bundle", target{mirror: "https://n"}, bundled, config.Artifacts{Mirror: "https://n"}},
		{"another login", target{mirrorLogin: "l"}, mirrored, config.Artifacts{Mirror: "https://m", CAFile: "ca", CredentialsFile: "l"}},
		{"signatures", target{signatureRoots: "r.json", verifySignatures: true}, mirrored, config.Artifacts{
			Mirror: "https://m", CAFile: "ca", CredentialsFile: "login", Signatures: config.Signatures{Roots: "r.json", Required: true}}},
		{"both, which validation refuses", target{bundle: "b", mirror: "https://n"}, config.Artifacts{}, config.Artifacts{Bundle: "b", Mirror: "https://n"}},
	} {
		cfg := &config.Cluster{}
		cfg.Spec.Artifacts = tt.document
		tt.flags.overrideSource(cfg)
		if diff := cmp.Diff(tt.want, cfg.Spec.Artifacts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// Nobody is asked where there is no mirror, or a bundle, and what the mirror says is told.
func TestProvide(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	c := &cluster.Cluster{Config: &config.Cluster{}, Nodes: []*cluster.Node{{Facts: cluster.Facts{Arch: "amd64"}}}}
	config.SetDefaults(c.Config)
	var flags target
	var out bytes.Buffer
	release, err := flags.provide(t.Context(), Streams{Err: &out}, c, true)
	if err != nil || c.Bundle != nil {
		t.Errorf("without a mirror: %v, %v", c.Bundle, err)
	}
	release()
	c.Config.Spec.Artifacts.Mirror = "http://127.0.0.1:1/k8s" // nobody listens there
	release, err = flags.provide(t.Context(), Streams{Err: &out}, c, false)
	if err != nil || c.Bundle != nil {
		t.Errorf("for phases that send nothing: %v, %v", c.Bundle, err)
	}
	release()
	c.Nodes[0].Facts.Arch = "riscv64"
	if _, err := flags.provide(t.Context(), Streams{Err: &out}, c, true); err == nil || !strings.Contains(err.Error(), "riscv64") {
		t.Errorf("for processors that nobody builds for: %v", err)
	}
}
