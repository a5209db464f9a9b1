//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/e2e/lab"
)

// TestLocal makes a cluster as kubeadm would: by commands on the hosts themselves, while no host takes a login.
func TestLocal(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 2})
	const program, bundle, document, kubeconfig = "/opt/myadm/myadm", "/opt/myadm/bundle", "/opt/myadm/cluster.yaml", "/root/admin.conf"
	for _, h := range s.Hosts {
		s.shell(t, h.Name, "systemctl stop ssh.socket ssh.service 2>/dev/null || systemctl stop ssh; ! pgrep -x sshd")
		must(t, s.Copy(t.Context(), h.Name, made.myadm, program))
		must(t, s.Copy(t.Context(), h.Name, made.bundle, bundle))
	}
	must(t, s.Copy(t.Context(), "h1", withoutHosts(t, s.document), document))
	before := s.look(t, "h2")

	first := s.onHost(t, "h1", nil, program, "init", "-f", document, "--bundle", bundle, "--kubeconfig-out", kubeconfig, "-o", "json").want(t, 0)
	must(t, os.WriteFile(s.kubeconfig, []byte(s.output(t, "h1", "cat", kubeconfig)), 0o600))
	s.wantReady(t, "h1")

	made := newToken{JoinCommand: decode[initResult](t, first).JoinCommand}
	args := made.joinArgs(t) // join ENDPOINT --token TOKEN --discovery-token-ca-cert-hash HASH
	token, join := args[3], append(args[:2:2], args[4:]...)
	join = append(append([]string{program}, join...), "--bundle", bundle)
	env := []string{"MYADM_TOKEN=" + token} // as in a cloud-init script
	s.onHost(t, "h2", env, join...).want(t, 0)
	s.wantReady(t, "h1", "h2")
	s.waitAvailable(t)
	s.wantWorkload(t, "h2", "h2")

	if r := s.onHost(t, "h1", nil, program, "init", "-f", document, "--bundle", bundle).want(t, 0); !strings.Contains(r.stdout, "with 0 changes") {
		t.Errorf("init again has something to do: %s", r)
	}
	if r := s.onHost(t, "h2", env, join...).want(t, 0); !strings.Contains(r.stdout, "with 0 changes") {
		t.Errorf("join again has something to do: %s", r)
	}
	listed := s.onHost(t, "h1", nil, program, "token", "list").want(t, 0)
	if id, _, _ := strings.Cut(token, "."); !strings.Contains(listed.stdout, id) {
		t.Errorf("on the control plane, token list needs no arguments and has %s: %s", id, listed)
	}

	s.onHost(t, "h2", nil, program, "reset", "--yes").want(t, 0)
	s.wantAsFound(t, "h2", before)
	s.onHost(t, "h2", env, join...).want(t, 0)
	s.wantReady(t, "h1", "h2")
}

// initResult is what init -o json prints.
type initResult struct {
	Cluster           string  `json:"cluster"`
	Endpoint          string  `json:"endpoint"`
	KubernetesVersion string  `json:"kubernetesVersion"`
	Node              string  `json:"node"`
	Changes           int     `json:"changes"`
	Seconds           float64 `json:"seconds"`
	Kubeconfig        string  `json:"kubeconfig"`
	JoinCommand       string  `json:"joinCommand"`
}

// withoutHosts is the document for init on a host itself.
func withoutHosts(t *testing.T, document string) string {
	t.Helper()
	var fields map[string]any
	must(t, yaml.Unmarshal(read(t, document), &fields))
	delete(fields["spec"].(map[string]any), "hosts")
	data, err := yaml.Marshal(fields)
	must(t, err)
	path := filepath.Join(t.TempDir(), "cluster.yaml")
	must(t, os.WriteFile(path, data, 0o644))
	return path
}

// onHost runs a command on a host, at its console.
func (s *site) onHost(t *testing.T, host string, env []string, argv ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	var stdout, stderr strings.Builder
	began := time.Now()
	// The debug log is not among the files that the host is compared by.
	words := slices.Concat([]string{"env", "XDG_STATE_HOME=/dev/shm/state"}, env, argv)
	err := s.Exec(ctx, host, lab.Streams{Out: &stdout, Err: &stderr}, words...)
	r := result{command: host + ": " + strings.Join(argv, " "), stdout: stdout.String(), stderr: stderr.String(), took: time.Since(began)}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	default:
		t.Fatalf("%v: %s", err, r)
	}
	return r
}
