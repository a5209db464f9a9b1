//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// passing are the resources whose objects come and go by themselves.
var passing = []string{"events", "leases", "pods", "endpointslices"}

// identities are the UIDs of the cluster's objects, by resource, namespace and name.
func (s *site) identities(t *testing.T) listing {
	t.Helper()
	return s.listObjects(t, passing, func(_ string, o unstructured.Unstructured) string { return string(o.GetUID()) })
}

// wantIdentities fails the test unless all these objects are there, and are the same.
func (s *site) wantIdentities(t *testing.T, before listing) {
	t.Helper()
	after := s.identities(t)
	for name := range after {
		if _, known := before[name]; !known {
			delete(after, name)
		}
	}
	if diff := before.difference(after); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
}

// testQuorumLoss loses two of three control planes at once, with their disks, and goes on with what the third one has.
func (s *site) testQuorumLoss(t *testing.T) {
	before := s.identities(t)
	must(t, s.Wipe(t.Context(), "h3"))
	must(t, s.Wipe(t.Context(), "h6"))
	t.Run("the member list tells it", func(t *testing.T) {
		if list := s.listMembers(t); list.Quorum || list.of("h2") == "leader" || len(list.Members) != 3 {
			t.Errorf("%+v", list)
		}
	})
	s.myadm(t, nil, "etcd", "restore", "--from-member", "h2", "-f", s.document, "--yes", "-v").want(t, 0)
	s.wantMembers(t, "h2")
	s.wantIdentities(t, before)

	must(t, s.Start(t.Context(), "h3"))
	must(t, s.Start(t.Context(), "h6"))
	s.awaitNeighbours(t, []string{"h2", "h4", "h5"}, "h3", "h6")
	s.join(t, "-v")
	s.wantReady(t, "h2", "h3", "h4", "h5", "h6")
	s.wantMembers(t, "h2", "h3", "h6")
	s.wantIdentities(t, before)
	s.wantControllersAtWork(t)
}

// awaitNeighbours waits until hosts reach others that have just come up: for some seconds a kernel remembers that nobody
// answered for an address.
func (s *site) awaitNeighbours(t *testing.T, hosts []string, others ...string) {
	t.Helper()
	for _, from := range hosts {
		dial := s.dialFrom(t, from)
		for _, to := range others {
			eventually(t, 30*time.Second, from+" reaches "+to, func(ctx context.Context) error {
				conn, err := dial(ctx, "tcp", s.address(t, to, "22"))
				if err != nil {
					return err
				}
				return conn.Close()
			})
		}
	}
}

// testBackup goes back in time with all members alive.
func (s *site) testBackup(t *testing.T) {
	maps := s.api(t).CoreV1().ConfigMaps("default")
	_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "before"}}, metav1.CreateOptions{})
	must(t, err)
	file := filepath.Join(t.TempDir(), "etcd.db")
	s.myadm(t, nil, "etcd", "backup", file, "-f", s.document).want(t, 0)
	wantMode(t, file, 0o600)
	before := s.identities(t)
	_, err = maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "after"}}, metav1.CreateOptions{})
	must(t, err)
	must(t, maps.Delete(t.Context(), "before", metav1.DeleteOptions{}))

	s.myadm(t, nil, "etcd", "restore", file, "-f", s.document, "--yes", "-v").want(t, 0)
	s.wantMembers(t, "h2", "h3", "h6")
	s.wantIdentities(t, before)
	if _, err := s.api(t).CoreV1().ConfigMaps("default").Get(t.Context(), "after", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what came after the backup is still there: %v", err)
	}
	s.wantControllersAtWork(t)
	s.wantReady(t, "h2", "h3", "h4", "h5", "h6")
}

// wantControllersAtWork takes a pod of the workload away and waits for another in its place: what a controller, the
// scheduler and a kubelet do, each by its watch.
func (s *site) wantControllersAtWork(t *testing.T) {
	t.Helper()
	client := s.api(t)
	pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	must(t, err)
	if len(pods.Items) != 1 {
		t.Fatalf("the workload has %d pods", len(pods.Items))
	}
	old := pods.Items[0].UID
	must(t, client.CoreV1().Pods("default").Delete(t.Context(), pods.Items[0].Name, metav1.DeleteOptions{}))
	eventually(t, time.Minute, "another pod of the workload", func(ctx context.Context) error {
		pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err
		}
		for _, p := range pods.Items {
			if p.UID != old && p.Status.Phase == corev1.PodRunning {
				return nil
			}
		}
		return fmt.Errorf("there are %d pods", len(pods.Items))
	})
}

// memberList is what etcd members -o json prints, as far as the tests look at it.
type memberList struct {
	Quorum  bool
	Members []struct {
		Name    string
		Role    string
		Healthy bool
	}
}

func (s *site) listMembers(t *testing.T) memberList {
	t.Helper()
	var list memberList
	r := s.myadm(t, nil, "etcd", "members", "-f", s.document, "-o", "json").want(t, 0)
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	return list
}

// of is the role of a member, empty when there is none of that name.
func (l memberList) of(name string) string {
	for _, m := range l.Members {
		if m.Name == name {
			return m.Role
		}
	}
	return ""
}

// wantListed fails the test unless etcd members lists these as healthy voters, one of them as the leader.
func (s *site) wantListed(t *testing.T, names ...string) {
	t.Helper()
	list := s.listMembers(t)
	leaders := 0
	for _, m := range list.Members {
		if !m.Healthy || m.Role == "learner" || !slices.Contains(names, m.Name) {
			t.Errorf("member %+v", m)
		}
		if m.Role == "leader" {
			leaders++
		}
	}
	if !list.Quorum || leaders != 1 || len(list.Members) != len(names) {
		t.Errorf("quorum %t, %d leaders, %d members; want %v", list.Quorum, leaders, len(list.Members), names)
	}
}
