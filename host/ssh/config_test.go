package ssh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const userConfigText = `
Host lab
  HostName 10.0.0.1
  User ops
  Port 2222
  IdentityFile ~/keys/%n
  IdentityFile "/keys/%r@%h:%p"
  ProxyJump jump@bastion:2200,second
  UserKnownHostsFile /lab/known_hosts /lab/more
  ConnectTimeout 3
  StrictHostKeyChecking accept-new
  HostKeyAlias lab-one

Host agent*
  IdentityAgent /run/agent
  IdentitiesOnly yes

Host *.example
  HostName %h.org
  ProxyJump none

Host *
  User nobody
`

func TestResolve(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	t.Setenv("SSH_AUTH_SOCK", "/run/me/agent")
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(userConfigText), 0o600); err != nil {
		t.Fatal(err)
	}
	defaults := []string{"/home/me/.ssh/id_ed25519", "/home/me/.ssh/id_ecdsa", "/home/me/.ssh/id_rsa"}
	known := []string{"/home/me/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"}
	tests := []struct {
		name   string
		target Target
		opts   Options
		want   route
	}{
		{"nothing but an address", Target{Address: "192.0.2.1"}, Options{}, route{
			name: "192.0.2.1", host: "192.0.2.1", user: "nobody", port: 22, address: "192.0.2.1:22", keyAddress: "192.0.2.1:22",
			keyFiles: defaults, agentSocket: "/run/me/agent", knownHosts: known, timeout: defaultConnectTimeout,
		}},
		{"ssh_config", Target{Name: "cp-1", Address: "lab"}, Options{}, route{
			name: "cp-1", host: "10.0.0.1", user: "ops", port: 2222, address: "10.0.0.1:2222", keyAddress: "lab-one:22",
			jumps: []string{"jump@bastion:2200", "second"}, keyFiles: []string{"/home/me/keys/lab", "/keys/ops@10.0.0.1:2222"},
			agentSocket: "/run/me/agent", knownHosts: []string{"/lab/known_hosts", "/lab/more", "/etc/ssh/ssh_known_hosts"},
			acceptNew: true, timeout: 3 * time.Second,
		}},
		{"the target's fields win", Target{
			Address: "lab", User: "root", Port: 22, KeyFile: "~/id", HostKey: "ssh-ed25519 AAAA", Bastion: "other", SudoPasswordFile: "/p",
		}, Options{KnownHostsFiles: []string{"~/known"}, ConnectTimeout: time.Second, AgentSocket: "none"}, route{
			name: "lab", host: "10.0.0.1", user: "root", port: 22, address: "10.0.0.1:22", keyAddress: "lab-one:22", hostKey: "ssh-ed25519 AAAA",
			jumps: []string{"other"}, keyFiles: []string{"/home/me/id"}, keysOnly: true, agentSocket: "none",
			knownHosts: []string{"/home/me/known"}, acceptNew: true, timeout: time.Second, sudoPasswordFile: "/p",
		}},
		{"agent of its own", Target{Address: "agent1"}, Options{}, route{
			name: "agent1", host: "agent1", user: "nobody", port: 22, address: "agent1:22", keyAddress: "agent1:22",
			keyFiles: defaults, keysOnly: true, agentSocket: "/run/agent", knownHosts: known, timeout: defaultConnectTimeout,
		}},
		{"HostName with a token, no jump, IPv6", Target{Address: "x.example", Bastion: "none"}, Options{}, route{
			name: "x.example", host: "x.example.org", user: "nobody", port: 22, address: "x.example.org:22", keyAddress: "x.example.org:22",
			keyFiles: defaults, agentSocket: "/run/me/agent", knownHosts: known, timeout: defaultConnectTimeout,
		}},
		{"IPv6", Target{Address: "2001:db8::1", Port: 2022}, Options{}, route{
			name: "2001:db8::1", host: "2001:db8::1", user: "nobody", port: 2022, address: "[2001:db8::1]:2022", keyAddress: "[2001:db8::1]:2022",
			keyFiles: defaults, agentSocket: "/run/me/agent", knownHosts: known, timeout: defaultConnectTimeout,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := newUserConfig(file).resolve(tt.target, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, *got, cmp.AllowUnexported(route{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResolveFails(t *testing.T) {
	tests := []struct {
		name, config string
		target       Target
		says         string
	}{
		{"no address", "", Target{Name: "cp-1"}, "cp-1: there is no address"},
		{"port", "Port 70000\n", Target{Address: "h"}, `"70000"`},
		{"timeout", "ConnectTimeout soon\n", Target{Address: "h"}, `"soon"`},
		{"no ssh_config", "Host = = =\n Match exec x\n", Target{Address: "h"}, "hint"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(file, []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := newUserConfig(file).resolve(tt.target, Options{}); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := newUserConfig("/nonexistent/config").resolve(Target{Address: "h"}, Options{}); err == nil {
		t.Error("a named ssh_config that is not there is no error")
	}
}

func TestParseJump(t *testing.T) {
	tests := map[string]Target{
		"bastion":               {Name: "bastion bastion", Address: "bastion"},
		"jump@10.0.0.1:2200":    {Name: "bastion 10.0.0.1", Address: "10.0.0.1", User: "jump", Port: 2200},
		" ssh://jump@b ":        {Name: "bastion b", Address: "b", User: "jump"},
		"jump@[2001:db8::1]:22": {Name: "bastion 2001:db8::1", Address: "2001:db8::1", User: "jump", Port: 22},
		"":                      {},
		"jump@":                 {},
		"b:0":                   {},
		"b:99999":               {},
		"b:x":                   {},
		"b/path":                {},
		"two words":             {},
	}
	for hop, want := range tests {
		got, err := parseJump(hop)
		if diff := cmp.Diff(want, got); diff != "" || (err == nil) == (want == Target{}) {
			t.Errorf("%q: %v\n%s", hop, err, diff)
		}
	}
}
