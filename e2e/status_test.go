//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myadm/myadm/e2e/lab"
)

// TestStatus looks at a cluster of three control planes and a worker: from the operator's desk, by one host, and on a
// host itself; while all is well, while a component is not, and while a control plane has no power.
func TestStatus(t *testing.T) {
	s := newSite(t, lab.Options{Hosts: 4, ControlPlanes: 3})
	servers := []string{"h1", "h2", "h3"}
	s.document = s.write(t, servers, []string{"h4"}, nil)
	s.follow(t, servers...)
	s.apply(t)

	t.Run("all is well", func(t *testing.T) {
		eventually(t, time.Minute, "a cluster that is well", func(context.Context) error { return s.status(t, -1).wrong() })
		seen := s.status(t, 0)
		if len(seen.Nodes) != 4 || len(seen.ControlPlanes) != 3 || len(seen.Etcd.Members) != 3 || seen.Etcd.FaultTolerance != 1 {
			t.Errorf("status %+v", seen)
		}
		for _, p := range seen.ControlPlanes {
			if len(p.Components) != 4 || len(p.Certificates) < 13 {
				t.Errorf("control plane %+v", p)
			}
		}
		if seen.Endpoint.NodeAddress != endpointOf || len(seen.Endpoint.Answers) != 4 {
			t.Errorf("endpoint %+v", seen.Endpoint)
		}
		r := s.myadm(t, nil, "status", "-f", s.document).want(t, 0)
		if !strings.Contains(r.stdout, "\nAll is well.\n") {
			t.Errorf("got %s", r)
		}
		s.wantNoSecretIn(t, r)
	})
	t.Run("by one host", func(t *testing.T) {
		for _, host := range servers[1:] {
			r := s.myadm(t, nil, append([]string{"status", "-o", "json"}, s.reach(t, host, "root")...)...).want(t, 0)
			if seen := parseStatus(t, r); len(seen.Nodes) != 4 || len(seen.ControlPlanes) != 1 || len(seen.Etcd.Members) != 3 || seen.Endpoint.NodeAddress != endpointOf {
				t.Errorf("by %s: %s", host, r)
			}
		}
	})
	t.Run("on a control plane", func(t *testing.T) {
		const program = "/opt/myadm"
		must(t, s.Copy(t.Context(), "h2", made.myadm, program))
		r := s.onHost(t, "h2", nil, program, "status").want(t, 0)
		if !strings.Contains(r.stdout, "\nAll is well.\n") {
			t.Errorf("got %s", r)
		}
	})
	t.Run("a component is down", func(t *testing.T) {
		const manifest, aside = "/etc/kubernetes/manifests/kube-scheduler.yaml", "/root/kube-scheduler.yaml"
		s.shell(t, "h2", "mv "+manifest+" "+aside)
		eventually(t, time.Minute, "a warning of the scheduler", func(context.Context) error {
			return s.status(t, -1).wantWarnings("control plane h2: kube-scheduler is not healthy")
		})
		s.shell(t, "h2", "mv "+aside+" "+manifest)
		eventually(t, time.Minute, "a cluster that is well", func(context.Context) error { return s.status(t, -1).wrong() })
	})
	t.Run("a control plane has no power", func(t *testing.T) {
		must(t, s.Kill(t.Context(), "h1"))
		eventually(t, 2*time.Minute, "warnings of what is lost", func(context.Context) error {
			return s.status(t, 1).wantWarnings("host h1: was not reached", "node h1: is not Ready", "etcd member h1: no answer", "etcd: one more failure stops the cluster")
		})
		seen := s.status(t, 1)
		if !seen.Etcd.Quorum || len(seen.ControlPlanes) != 2 || len(seen.Nodes) != 4 || len(seen.Endpoint.Answers) != 3 {
			t.Errorf("status %+v", seen)
		}
		must(t, s.Start(t.Context(), "h1"))
		eventually(t, 2*time.Minute, "a cluster that is well", func(context.Context) error { return s.status(t, -1).wrong() })
	})
}

// statusLimit is how long status may take, also when a host gives no answer to anything.
const statusLimit = 10 * time.Second

// seen is what status -o json prints, as far as the tests look at it.
type seen struct {
	Healthy  bool
	Warnings []struct{ Object, Message string }
	Endpoint struct {
		NodeAddress string
		Answers     []struct{ Host string }
	}
	Nodes         []struct{ Name string }
	ControlPlanes []struct {
		Name         string
		Components   []struct{ Name string }
		Certificates []struct{ Expires time.Time }
	}
	Etcd struct {
		Quorum         bool
		FaultTolerance int
		Members        []struct{ Name string }
	}
}

// status asks for the status of the document's cluster; code is the exit code that it has to end with, or -1.
func (s *site) status(t *testing.T, code int) seen {
	t.Helper()
	r := s.myadm(t, nil, "status", "-f", s.document, "-o", "json")
	if code >= 0 {
		r.want(t, code)
	}
	if r.took > statusLimit {
		t.Errorf("it took too long: %s", r)
	}
	found := parseStatus(t, r)
	if found.Healthy != (r.code == 0) {
		t.Errorf("exit code and report contradict each other: %s", r)
	}
	return found
}

func parseStatus(t *testing.T, r result) seen {
	t.Helper()
	var found seen
	if err := json.Unmarshal([]byte(r.stdout), &found); err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	return found
}

// wrong is an error unless the cluster is well.
func (f seen) wrong() error {
	if !f.Healthy {
		return fmt.Errorf("warnings %+v", f.Warnings)
	}
	return nil
}

// wantWarnings is an error unless there are warnings that begin with each of these.
func (f seen) wantWarnings(starts ...string) error {
	for _, start := range starts {
		told := slices.ContainsFunc(f.Warnings, func(w struct{ Object, Message string }) bool {
			return strings.HasPrefix(w.Object+": "+w.Message, start)
		})
		if !told {
			return fmt.Errorf("no warning %q among %+v", start, f.Warnings)
		}
	}
	return nil
}
