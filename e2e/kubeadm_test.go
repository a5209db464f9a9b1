//go:build e2e

package e2e

import (
	"strings"
	"testing"

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
