//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/e2e/lab"
)

// TestControlPlanes follows a cluster of three control planes from bare hosts through everything that may happen to one
// of them, under a steady load: one after the other without power, without network, and gone for good. Then two are gone.
func TestControlPlanes(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 6, ControlPlanes: 3})
	servers, workers := []string{"h1", "h2", "h3"}, []string{"h4", "h5"}
	s.document = s.write(t, servers, workers, nil)
	s.follow(t, "h1", "h2", "h3", "h6")

	applied := s.apply(t, "-v")
	s.wantReady(t, "h1", "h2", "h3", "h4", "h5") // when the command returns
	s.wantMembers(t, servers...)
	s.wantListed(t, servers...)
	s.waitAvailable(t)
	t.Run("the output tells no secret", func(t *testing.T) { s.wantNoSecretIn(t, applied) })
	t.Run("the endpoint answers on every node", func(t *testing.T) {
		for _, h := range s.Hosts[:5] {
			s.wantEndpoint(t, h.Name)
		}
	})
	t.Run("pods find each other, and the API", func(t *testing.T) { s.wantWorkload(t, "h4", "h5") })
	t.Run("applying again changes nothing", func(t *testing.T) { s.testApplyAgain(t, "h1", "h2", "h3", "h4", "h5") })

	l := s.startLoads(t, "h5")
	etcd := s.etcd(t, servers...)
	leader, err := etcd.leader(t.Context())
	must(t, err)
	left := others(servers, leader)
	t.Run("the leader of etcd loses its power", func(t *testing.T) { s.testPowerLoss(t, l, servers, leader) })
	t.Run("another one loses its power", func(t *testing.T) { s.testPowerLoss(t, l, servers, left[0]) })
	t.Run("the third one loses its network", func(t *testing.T) { s.testCut(t, l, servers, left[1]) })
	t.Run("the first one is gone for good", func(t *testing.T) { s.testReplacement(t, l) })
	l.stop(t)

	t.Run("two are gone for good", s.testQuorumLoss)
	t.Run("etcd goes back to a backup", s.testBackup)
}

// wantNoSecretIn looks for keys and tokens in what a command told that prints no join command.
func (s *site) wantNoSecretIn(t *testing.T, r result) {
	t.Helper()
	for _, secret := range []string{"PRIVATE KEY", "client-key-data"} {
		if strings.Contains(r.stdout+r.stderr, secret) {
			t.Errorf("it tells %q: %s", secret, r)
		}
	}
	if found := tokenForm.FindString(r.stdout + r.stderr); found != "" {
		t.Errorf("it tells a token, %s: %s", found, r)
	}
}

// endpointOf is where a node's own programs reach the API.
const endpointOf = "127.0.0.1:6444"

// wantEndpoint asks the load balancer of a node, from there, and checks with whom it speaks.
func (s *site) wantEndpoint(t *testing.T, host string) {
	t.Helper()
	eventually(t, 30*time.Second, "an answer of "+endpointOf+" on "+host, func(ctx context.Context) error {
		return s.readyz(ctx, t, s.dialFrom(t, host), endpointOf)
	})
}

// readyz asks an API server, or whatever stands in front of some, whether it is ready.
func (s *site) readyz(ctx context.Context, t *testing.T, dial func(ctx context.Context, network, address string) (net.Conn, error), address string) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.restConfig(t).CAData)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || string(body) != "ok") {
		err = fmt.Errorf("%s answers %s: %s", address, response.Status, body)
	}
	return err
}

// testApplyAgain runs apply again and compares all that a run could have touched.
func (s *site) testApplyAgain(t *testing.T, hosts ...string) {
	s.waitPods(t)
	objects, lives := s.restingObjects(t), s.lives(t)
	files := map[string]listing{}
	for _, h := range hosts {
		files[h] = s.touched(t, h)
	}
	r := s.apply(t, "-v", "-o", "json")
	var told struct{ Changes *int }
	must(t, json.Unmarshal([]byte(r.stdout), &told))
	if told.Changes == nil || *told.Changes != 0 {
		t.Errorf("want 0 changes: %s", r)
	}
	if r.took > again {
		t.Errorf("it took %s, want at most %s", r.took, again)
	}
	for _, h := range hosts {
		if diff := files[h].difference(s.touched(t, h)); diff != "" {
			t.Errorf("files of %s (-before +after):\n%s", h, diff)
		}
	}
	if diff := objects.difference(s.objects(t)); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
	if diff := lives.difference(s.lives(t)); diff != "" {
		t.Errorf("containers (-before +after):\n%s", diff)
	}
}

// testPowerLoss powers a control plane off, and on again once the others do its work.
func (s *site) testPowerLoss(t *testing.T, l *loads, servers []string, name string) {
	must(t, s.Kill(t.Context(), name))
	l.awaitCalm(t)
	on := time.Now()
	must(t, s.Start(t.Context(), name))
	s.awaitReturn(t, name, on)
	s.wantMembers(t, servers...)
	l.awaitCalm(t)
	l.report(t, "power loss of "+name)
}

// testCut takes a control plane's network away until its own etcd and API server have noticed.
func (s *site) testCut(t *testing.T, l *loads, servers []string, name string) {
	must(t, s.Cut(t.Context(), name))
	l.awaitCalm(t)
	dial, address := s.dialFrom(t, name), s.address(t, name, "6443")
	eventually(t, time.Minute, name+" alone is not ready", func(ctx context.Context) error {
		if err := s.readyz(ctx, t, dial, address); err != nil {
			return nil
		}
		return fmt.Errorf("%s says that it is ready", name)
	})
	on := time.Now()
	must(t, s.Heal(t.Context(), name))
	s.awaitReturn(t, name, on)
	s.wantMembers(t, servers...)
	l.awaitCalm(t)
	l.report(t, "network loss of "+name)
}

// awaitReturn waits until a control plane that nobody has helped is a Ready node again, with an API server that is ready.
// since is when it came back: what the cluster knew of it before does not count.
func (s *site) awaitReturn(t *testing.T, name string, since time.Time) {
	t.Helper()
	dialer := impatient(2 * time.Second)
	eventually(t, 2*time.Minute, name+" as before", func(ctx context.Context) error {
		client := s.api(t)
		lease, err := client.CoordinationV1().Leases("kube-node-lease").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.RenewTime.Time.Before(since) {
			return fmt.Errorf("the kubelet was last heard of at %s", lease.Spec.RenewTime)
		}
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := ready(*node); err != nil {
			return err
		}
		return s.readyz(ctx, t, dialer.DialContext, s.address(t, name, "6443"))
	})
	t.Logf("%s was back after %.1f s", name, time.Since(since).Seconds())
}

// testReplacement loses the first control plane, with which the cluster began and to which the kubeconfig points, and
// puts another host in its place by two commands.
func (s *site) testReplacement(t *testing.T, l *loads) {
	must(t, s.Kill(t.Context(), "h1"))
	l.awaitCalm(t)
	s.myadm(t, nil, "reset", "h1", "--unreachable", "-f", s.document, "--yes").want(t, 0)
	s.wantMembers(t, "h2", "h3")
	if _, err := s.api(t).CoreV1().Nodes().Get(t.Context(), "h1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its Node is still there: %v", err)
	}
	s.document = s.write(t, []string{"h2", "h3", "h6"}, []string{"h4", "h5"}, nil)
	s.join(t, "-v")
	s.wantReady(t, "h2", "h3", "h4", "h5", "h6")
	s.wantMembers(t, "h2", "h3", "h6")
	s.wantEndpoint(t, "h6")
	l.awaitCalm(t)
	l.report(t, "replacement of h1 by h6")
	s.myadm(t, nil, "kubeconfig", "-f", s.document, "--out", s.kubeconfig).want(t, 0)
	if r := s.join(t); !strings.Contains(r.stdout, "with 0 changes") {
		t.Errorf("there is still something to do: %s", r)
	}
}
