package cmd

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
)

func TestParseHost(t *testing.T) {
	tests := []struct {
		in            string
		user, address string
		port          int
		refused       bool
	}{
		{in: "10.0.0.1", address: "10.0.0.1"},
		{in: "root@10.0.0.1", user: "root", address: "10.0.0.1"},
		{in: "root@10.0.0.1:2222", user: "root", address: "10.0.0.1", port: 2222},
		{in: "web.example.org:22", address: "web.example.org", port: 22},
		{in: "jane@corp.example@10.0.0.1", user: "jane@corp.example", address: "10.0.0.1"},
		{in: "alias-of-ssh-config", address: "alias-of-ssh-config"},
		{in: "fd00::1", address: "fd00::1"},
		{in: "[fd00::1]", address: "fd00::1"},
		{in: "ops@[fd00::1]:2222", user: "ops", address: "fd00::1", port: 2222},
		{in: "", refused: true},
		{in: "root@", refused: true},
		{in: "root@:22", refused: true},
		{in: "10.0.0.1:0", refused: true},
		{in: "10.0.0.1:65536", refused: true},
		{in: "10.0.0.1:ssh", refused: true},
		{in: "-oProxyCommand=x", refused: true},
		{in: "root@-oProxyCommand=x", refused: true},
		{in: "a b", refused: true},
		{in: "10.0.0.1/24", refused: true},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			h, err := parseHost(tt.in)
			if tt.refused {
				if err == nil || !strings.Contains(err.Error(), "--host "+tt.in) {
					t.Errorf("got %+v, %v", h, err)
				}
				return
			}
			want := config.Host{Address: tt.address, SSH: config.SSH{User: tt.user, Port: tt.port}}
			if diff := cmp.Diff(want, h); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"root@10.0.0.1:22", "[fd00::1]:22", "fd00::1", "@", "a@b@c", "[]:22", "-x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHost(s)
		if err != nil {
			return
		}
		if h.Address == "" || strings.HasPrefix(h.Address, "-") || strings.ContainsAny(h.Address, " \t/[]@") || h.SSH.Port < 0 || h.SSH.Port > 65535 {
			t.Errorf("%q was taken for %+v", s, h)
		}
	})
}

// Flags win over the document, and hosts named by flags are the only ones.
func TestFlagsWinOverTheDocument(t *testing.T) {
	document := t.TempDir() + "/cluster.yaml"
	write(t, document, `apiVersion: myadm.dev/v1alpha1
kind: Cluster
spec:
  kubernetesVersion: v1.36.3
  artifacts: {bundle: theirs}
  hosts:
  - {name: cp-1, address: 10.0.0.1, roles: [control-plane], ssh: {keyFile: /theirs, bastion: theirs}}
  - {name: w-1, address: 10.0.0.2}
`)
	control, worker := []config.Role{config.RoleControlPlane}, []config.Role{config.RoleWorker}
	tests := []struct {
		name  string
		flags target
		hosts []config.Host
	}{
		{"the document alone", target{file: document}, []config.Host{
			{Name: "cp-1", Address: "10.0.0.1", Roles: control, SSH: config.SSH{KeyFile: "/theirs", Bastion: "theirs"}},
			{Name: "w-1", Address: "10.0.0.2"},
		}},
		{"ways to the hosts", target{file: document, sshKey: "/ours", bastion: "ours", sudoPasswordFile: "/pw"}, []config.Host{
			{Name: "cp-1", Address: "10.0.0.1", Roles: control, SSH: config.SSH{KeyFile: "/ours", Bastion: "ours", SudoPasswordFile: "/pw"}},
			{Name: "w-1", Address: "10.0.0.2", SSH: config.SSH{KeyFile: "/ours", Bastion: "ours", SudoPasswordFile: "/pw"}},
		}},
		{"other hosts", target{file: document, hosts: []string{"root@10.0.0.9:2222"}}, []config.Host{
			{Address: "10.0.0.9", Roles: worker, SSH: config.SSH{User: "root", Port: 2222}},
		}},
		{"this machine", target{}, []config.Host{{Roles: worker}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := tt.flags.load(config.RoleWorker)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.hosts, cfg.Spec.Hosts); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	cfg, err := (&target{file: document, bundle: "ours", version: "v1.37.2"}).load(config.RoleWorker)
	if err != nil || cfg.Spec.KubernetesVersion != "v1.37.2" || cfg.Spec.Artifacts.Bundle != "ours" {
		t.Errorf("version %s, bundle %s, %v", cfg.Spec.KubernetesVersion, cfg.Spec.Artifacts.Bundle, err)
	}
}

// Without a word on the version, it is that of the bundle.
func TestVersionComesFromTheBundle(t *testing.T) {
	dir := t.TempDir()
	if err := makeBundle(dir, "v1.36.3"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ document, want string }{{"", "v1.36.3"}, {"v1.36.3", "v1.36.3"}, {"v1.37.2", ""}} {
		cfg := &config.Cluster{}
		cfg.Spec.KubernetesVersion, cfg.Spec.Artifacts.Bundle = tt.document, dir
		b, err := openBundle(cfg)
		if err == nil {
			b.Close()
		}
		if (err == nil) != (tt.want != "") || err == nil && cfg.Spec.KubernetesVersion != tt.want {
			t.Errorf("%q: version %s, %v", tt.document, cfg.Spec.KubernetesVersion, err)
		}
	}
	if b, err := openBundle(&config.Cluster{}); b != nil || err != nil {
		t.Errorf("without a bundle: %v, %v", b, err)
	}
}
