package cmd

import (
	"testing"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/host/hosttest"
	"github.com/myadm/myadm/manifests"
)

// Hosts that nobody described get what they are there for; those that are in no cluster yet, what a control plane needs.
func TestGuessRoles(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		want  config.Role
	}{
		{"bare", nil, config.RoleControlPlane},
		{"a worker", []string{config.KubeletConf}, config.RoleWorker},
		{"a control plane", []string{config.KubeletConf, manifests.StaticPodPath(manifests.APIServerName)}, config.RoleControlPlane},
		{"an init that was cut", []string{manifests.StaticPodPath(manifests.APIServerName)}, config.RoleControlPlane},
	} {
		f := hosttest.New(t, "h1")
		for _, path := range tt.files {
			f.Put(host.File{Path: path, Mode: 0o600, Data: []byte("x")})
		}
		n := &cluster.Node{Host: f, Spec: config.Host{Roles: []config.Role{config.RoleControlPlane}}}
		if err := guessRoles(t.Context(), []*cluster.Node{n}); err != nil {
			t.Fatal(err)
		}
		if len(n.Spec.Roles) != 1 || n.Spec.Roles[0] != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, n.Spec.Roles, tt.want)
		}
	}
}
