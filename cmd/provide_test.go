package cmd

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host/hosttest"
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

// Nobody is asked for phases that send nothing, and what cannot be had is told before anything is done.
func TestProvide(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	c := &cluster.Cluster{Config: &config.Cluster{}, Nodes: []*cluster.Node{{Facts: cluster.Facts{Arch: "amd64"}}}}
	config.SetDefaults(c.Config)
	var flags target
	var out bytes.Buffer
	c.Config.Spec.Artifacts.Mirror = "http://127.0.0.1:1/k8s" // nobody listens there
	release, err := flags.provide(t.Context(), Streams{Err: &out}, c, 1, false)
	if err != nil || c.Bundle != nil {
		t.Errorf("for phases that send nothing: %v, %v", c.Bundle, err)
	}
	release()
	c.Nodes[0].Facts.Arch = "riscv64"
	if _, err := flags.provide(t.Context(), Streams{Err: &out}, c, 1, true); err == nil || !strings.Contains(err.Error(), "riscv64") {
		t.Errorf("for processors that nobody builds for: %v", err)
	}
}

// A host that has a kubelet of the version and a runtime lacks nothing, and so nobody is asked.
func TestLacking(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(*hosttest.Rule)
		want   bool
	}{
		{"bare", func(r *hosttest.Rule) { r.Fail(1, "") }, true},
		{"another version", func(r *hosttest.Rule) { r.Return("Kubernetes v1.36.3\n") }, true},
		{"prepared", func(r *hosttest.Rule) { r.Return("Kubernetes v1.37.2\n") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := hosttest.New(t, "h1")
			tt.answer(f.On("sh", "-c", "test -x /usr/local/bin/containerd && exec /usr/local/bin/kubelet --version"))
			c := &cluster.Cluster{Config: &config.Cluster{Spec: config.Spec{KubernetesVersion: "v1.37.2"}}, Nodes: []*cluster.Node{{Host: f}}}
			if got, err := lacking(t.Context(), c); got != tt.want || err != nil {
				t.Errorf("%t, %v", got, err)
			}
		})
	}
}
