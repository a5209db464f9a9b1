//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/e2e/lab/build"
)

// testKubeadm has the real kubeadm work on the cluster, as an administrator who knows nothing else would.
func (s *site) testKubeadm(t *testing.T) {
	kubeadm, err := build.Kubeadm(t.Context(), artifacts())
	must(t, err)
	const program = "/root/kubeadm"
	must(t, s.Copy(t.Context(), "h1", kubeadm, program))
	defer s.output(t, "h1", "rm", program)

	expiry := s.output(t, "h1", program, "certs", "check-expiration")
	for _, name := range []string{
		"admin.conf", "apiserver", "apiserver-etcd-client", "apiserver-kubelet-client", "controller-manager.conf", "etcd-healthcheck-client",
		"etcd-peer", "etcd-server", "front-proxy-client", "scheduler.conf", "super-admin.conf", "ca", "etcd-ca", "front-proxy-ca",
	} {
		if !strings.Contains(expiry, "\n"+name+" ") {
			t.Errorf("kubeadm certs check-expiration does not list %s: %s", name, expiry)
		}
	}
	if strings.Contains(expiry, "MISSING") || strings.Contains(expiry, "<invalid>") {
		t.Errorf("kubeadm misses certificates: %s", expiry)
	}
	join := s.output(t, "h1", program, "token", "create", "--ttl", "10m", "--print-join-command")
	if !strings.HasPrefix(join, "kubeadm join ") {
		t.Errorf("kubeadm token create --print-join-command printed %q", join)
	}
	// It validates the configuration that it finds in the cluster, all fields known.
	s.shell(t, "h1", "/usr/local/bin/kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system get configmap kubeadm-config "+
		"-o jsonpath='{.data.ClusterConfiguration}' >/root/kubeadm.yaml; "+program+" config validate --config /root/kubeadm.yaml; rm /root/kubeadm.yaml")
	// The certificates that kubeadm renews, with what it finds on the host, are as good as ours: nothing is left to do.
	s.output(t, "h1", program, "certs", "renew", "scheduler.conf")
	if r := s.init(t, "-v"); !strings.Contains(r.stdout, "with 0 changes") {
		t.Errorf("after kubeadm's renewal there is something to do: %s", r)
	}
}

// testKubeadmJoin has kubeadm join a worker, with what it expects to find on a host: runtime, kubelet and images, which
// myadm brings, and the kubelet's units, which are those of the other worker.
func (s *site) testKubeadmJoin(t *testing.T) {
	const host, other, program = "h2", "h3", "/root/kubeadm"
	kubeadm, err := build.Kubeadm(t.Context(), artifacts())
	must(t, err)
	s.myadm(t, nil, "reset", host, "-f", s.document, "--yes").want(t, 0)
	s.join(t, "--only", "kernel,runtime,binaries,images")
	units := t.TempDir()
	s.fetch(t, other, "/etc/systemd/system", units)
	for _, unit := range []string{"kubelet.service", "kubelet.service.d"} {
		must(t, s.Copy(t.Context(), host, filepath.Join(units, unit), "/etc/systemd/system/"+unit))
	}
	s.output(t, host, "systemctl", "daemon-reload")
	must(t, s.Copy(t.Context(), host, kubeadm, program))

	join := strings.Fields(s.createToken(t, "--ttl", "10m").JoinCommand)[1:] // the same words after another program's name
	s.output(t, host, slices.Concat([]string{program}, join, []string{"--ignore-preflight-errors", "all"})...)
	client := s.api(t)
	eventually(t, time.Minute, host+" joined by kubeadm", func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, host, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return ready(*node)
	})

	// It is a node like any other: join finds it done or makes it so, and reset cleans it.
	s.join(t, "-v")
	s.wantReady(t, "h1", "h2", "h3")
	s.output(t, host, "rm", program)
	s.myadm(t, nil, "reset", host, "-f", s.document, "--yes").want(t, 0)
	if left := s.shell(t, host, "ls -d /etc/kubernetes /var/lib/kubelet/* /etc/systemd/system/kubelet* 2>/dev/null || true"); left != "" {
		t.Errorf("reset left %s", left)
	}
	s.wantReady(t, "h1", "h3")
}
