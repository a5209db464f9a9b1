//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/myadm/myadm/e2e/lab"
)

// found is a host as it was before myadm came.
type found struct {
	files  listing
	traces listing
}

func (s *site) look(t *testing.T, host string) found {
	t.Helper()
	return found{s.everything(t, host), s.traces(t, host)}
}

// wantAsFound compares a host with what it was, and waits a moment for the kernel: links and processes go by and by.
func (s *site) wantAsFound(t *testing.T, host string, before found) {
	t.Helper()
	if diff := before.files.difference(s.everything(t, host)); diff != "" {
		t.Errorf("files of %s (-before +after):\n%s", host, diff)
	}
	eventually(t, 10*time.Second, "no trace of Kubernetes on "+host, func(context.Context) error {
		if diff := before.traces.difference(s.traces(t, host)); diff != "" {
			return fmt.Errorf("(-before +after):\n%s", diff)
		}
		return nil
	})
}

// TestReset takes hosts out of a cluster with pods on them, and compares them with what they were.
func TestReset(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 3, HostUsers: map[string]string{"h3": lab.UserSudoWithPwd}})
	before := map[string]found{}
	for _, h := range s.Hosts {
		// The administrator's own rules have to stay.
		net := s.inNetwork(t, h.Name)
		net("nft", "add table inet admin")
		net("nft", "add chain inet admin guard { type filter hook input priority 0 ; }")
		net("nft", "add rule inet admin guard ip saddr 192.0.2.66 drop")
		net("iptables-legacy", "-A", "INPUT", "-s", "192.0.2.67", "-j", "DROP")
		net("iptables-nft", "-A", "INPUT", "-s", "192.0.2.68", "-j", "DROP")
		before[h.Name] = s.look(t, h.Name)
	}
	s.init(t)
	s.join(t)
	s.waitAvailable(t)
	s.wantWorkload(t, "h2", "h3")
	if diff := before["h3"].traces.difference(s.traces(t, "h3")); !strings.Contains(diff, "KUBE-SERVICES") || !strings.Contains(diff, "link flannel.1") {
		t.Fatalf("a node has no traces of Kubernetes, so the test proves nothing: %s", diff)
	}

	t.Run("it asks first", func(t *testing.T) {
		r := s.myadm(t, nil, "reset", "h3", "-f", s.document).want(t, 2)
		if !strings.Contains(r.stderr, "--yes") {
			t.Errorf("it does not say how to go on: %s", r)
		}
		s.wantReady(t, "h1", "h2", "h3")
	})
	t.Run("a worker leaves", func(t *testing.T) {
		s.myadm(t, nil, "reset", "h3", "-f", s.document, "--yes").want(t, 0)
		if _, err := s.api(t).CoreV1().Nodes().Get(t.Context(), "h3", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("its Node is still there: %v", err)
		}
		s.wantAsFound(t, "h3", before["h3"])
		s.wantReady(t, "h1", "h2")
	})
	t.Run("again changes nothing", func(t *testing.T) {
		s.myadm(t, nil, "reset", "h3", "-f", s.document, "--yes").want(t, 0)
		s.wantAsFound(t, "h3", before["h3"])
	})
	t.Run("it joins again", func(t *testing.T) {
		s.join(t)
		s.wantReady(t, "h1", "h2", "h3")
	})
	t.Run("all leave", func(t *testing.T) {
		s.myadm(t, nil, "reset", "--all", "-f", s.document, "--yes").want(t, 0)
		for _, h := range s.Hosts {
			s.wantAsFound(t, h.Name, before[h.Name])
		}
	})
	t.Run("and make a new cluster", func(t *testing.T) {
		s.init(t)
		s.join(t)
		s.wantReady(t, "h1", "h2", "h3")
		s.waitAvailable(t)
	})
}
