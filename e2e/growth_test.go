//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/e2e/lab"
)

// TestGrowth begins with one control plane and no endpoint but its address. A second one joins by a longer document, a
// third one by a key, at its own console.
func TestGrowth(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 4})
	s.document = s.write(t, []string{"h1"}, []string{"h3"}, nil)
	s.init(t)
	s.join(t)
	s.waitAvailable(t)
	s.wantWorkload(t, "h3", "h3")
	lives := s.lives(t)

	s.document = s.write(t, []string{"h1", "h2"}, []string{"h3"}, nil)
	s.join(t, "-v")
	s.wantReady(t, "h1", "h2", "h3")
	s.wantMembers(t, "h1", "h2")
	s.waitAvailable(t)
	t.Run("every API server goes by the name of the endpoint", func(t *testing.T) {
		for _, h := range []string{"h1", "h2"} {
			s.wantOwnEndpoint(t, h)
		}
	})
	t.Run("all go by the endpoint", func(t *testing.T) {
		s.wantEndpoint(t, "h3")
		s.wantThroughBalancer(t, "h3", "h1", "h2")
	})
	t.Run("no pod of the users was touched", func(t *testing.T) {
		after := s.lives(t)
		for name, life := range lives {
			if strings.HasPrefix(name, "default/") && after[name] != life {
				t.Errorf("%s was %s, and is %s", name, life, after[name])
			}
		}
	})
	t.Run("applying the document changes nothing", func(t *testing.T) { s.testApplyAgain(t, "h1", "h2", "h3") })
	t.Run("a third one joins by a key", s.testJoinByKey)
}

// wantOwnEndpoint asks a control plane's own API server, which has to have a certificate for 127.0.0.1.
func (s *site) wantOwnEndpoint(t *testing.T, host string) {
	t.Helper()
	dial := s.dialFrom(t, host)
	eventually(t, 30*time.Second, "an answer of the API server on "+host, func(ctx context.Context) error {
		return s.readyz(ctx, t, func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, s.address(t, host, "6443"))
		}, "127.0.0.1:6443")
	})
}

// wantThroughBalancer waits until nobody on a worker talks to these API servers but its load balancer.
func (s *site) wantThroughBalancer(t *testing.T, worker string, servers ...string) {
	t.Helper()
	eventually(t, 2*time.Minute, "only HAProxy talks to API servers", func(context.Context) error {
		var errs []error
		for _, server := range servers {
			h, err := s.Host(server)
			must(t, err)
			lines := s.output(t, worker, "ss", "-Htnp", "dst", h.Address.String(), "and", "dport", "=", ":6443")
			for line := range strings.Lines(lines) {
				if strings.HasPrefix(line, "ESTAB") && !strings.Contains(line, `"haproxy"`) {
					errs = append(errs, fmt.Errorf("past the load balancer: %s", line))
				}
			}
		}
		return errors.Join(errs...)
	})
}

// wantLearned takes the API servers that a worker's load balancer was told of away from it, and proves that it knows
// another one, a newcomer's: it asks the cluster's DNS.
func (s *site) wantLearned(t *testing.T, worker, newcomer string, told ...string) {
	t.Helper()
	s.awaitKnown(t, worker, newcomer)
	net := s.inNetwork(t, worker)
	net("nft", "add table inet e2e")
	defer net("nft", "delete table inet e2e")
	net("nft", "add chain inet e2e away { type filter hook output priority 0 ; }")
	for _, name := range told {
		h, err := s.Host(name)
		must(t, err)
		net("nft", "add rule inet e2e away ip daddr "+h.Address.String()+" tcp dport 6443 drop")
	}
	began := time.Now()
	dial := s.dialFrom(t, worker)
	eventually(t, 2*time.Minute, "an answer of an API server that nobody told "+worker+" of", func(ctx context.Context) error {
		return s.readyz(ctx, t, dial, endpointOf)
	})
	t.Logf("%s knows an API server that nobody told it of, after %.1f s", worker, time.Since(began).Seconds())
}

// awaitKnown waits until every server of the cluster's DNS, asked from a node, names the API server of a control plane. That
// takes the kubelet's word that its pod is Ready, and a server on the node itself hears of nothing once the API is away.
func (s *site) awaitKnown(t *testing.T, node, server string) {
	t.Helper()
	h, err := s.Host(server)
	must(t, err)
	dial := s.dialFrom(t, node)
	eventually(t, 2*time.Minute, "the API server of "+server+" in DNS", func(ctx context.Context) error {
		pods, err := s.api(t).CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
		if err != nil {
			return err
		}
		if len(pods.Items) == 0 {
			return errors.New("there is no server of DNS")
		}
		var errs []error
		for _, p := range pods.Items {
			resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dial(ctx, "tcp", net.JoinHostPort(p.Status.PodIP, "53"))
			}}
			found, err := resolver.LookupHost(ctx, "kube-apiserver.kube-system.svc.cluster.local.")
			if err == nil && !slices.Contains(found, h.Address.String()) {
				err = fmt.Errorf("%s names only %v", p.Name, found)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// testJoinByKey joins a control plane as a user without SSH between the hosts does: a command at the first one's console,
// and another one at its own.
func (s *site) testJoinByKey(t *testing.T) {
	const program, bundle, document = "/opt/myadm/myadm", "/opt/myadm/bundle", "/opt/myadm/cluster.yaml"
	for _, h := range []string{"h1", "h4"} {
		must(t, s.Copy(t.Context(), h, made.myadm, program))
		s.shell(t, h, "systemctl stop ssh.socket ssh.service 2>/dev/null || systemctl stop ssh; ! pgrep -x sshd")
	}
	must(t, s.Copy(t.Context(), "h4", made.bundle, bundle))
	must(t, s.Copy(t.Context(), "h1", s.alone(t), document))
	key := strings.TrimSpace(s.onHost(t, "h1", nil, program, "init", "phase", "upload-certs", "-f", document).want(t, 0).stdout)
	join := strings.Fields(s.onHost(t, "h1", nil, program, "token", "create", "--print-join-command").want(t, 0).stdout)
	if len(key) != 64 || len(join) < 2 || join[0] != "myadm" {
		t.Fatalf("the key has %d digits, and the command is %q", len(key), join)
	}
	secret, err := s.api(t).CoreV1().Secrets("kube-system").Get(t.Context(), "kubeadm-certs", metav1.GetOptions{})
	must(t, err)
	for name, data := range secret.Data {
		if strings.Contains(string(data), "PRIVATE KEY") {
			t.Errorf("%s of kubeadm-certs is not encrypted", name)
		}
	}

	wrong := strings.Repeat("0", len(key))
	args := append(append([]string{program}, join[1:]...), "--control-plane", "--bundle", bundle, "--certificate-key")
	if r := s.onHost(t, "h4", nil, append(args, wrong)...).want(t, 1); !strings.Contains(r.stderr, "hint: ") || strings.Contains(r.stderr, wrong) {
		t.Errorf("with a wrong key it says: %s", r)
	}
	s.wantMembers(t, "h1", "h2")
	r := s.onHost(t, "h4", nil, append(args, key, "-v")...).want(t, 0)
	if strings.Contains(r.stdout+r.stderr, key) {
		t.Errorf("it tells the key: %s", r)
	}
	s.wantReady(t, "h1", "h2", "h3", "h4")
	s.wantMembers(t, "h1", "h2", "h4")
	s.wantEndpoint(t, "h4")
	s.wantOwnEndpoint(t, "h4")
	s.wantLearned(t, "h3", "h4", "h1", "h2")
	if r := s.onHost(t, "h4", nil, append(args, key)...).want(t, 0); !strings.Contains(r.stdout, "with 0 changes") {
		t.Errorf("joining again has something to do: %s", r)
	}
}

// alone is the document without hosts, for a command on a control plane itself; what it says of the load balancer follows
// from the hosts in the other one.
func (s *site) alone(t *testing.T) string {
	t.Helper()
	return withoutHosts(t, s.write(t, []string{"h1"}, nil, func(spec map[string]any) {
		spec["loadBalancer"] = map[string]any{"type": "node-local"}
	}))
}
