package status

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// well is a cluster of three control planes and a worker with nothing wrong.
func well() *Report {
	r := &Report{
		Time:     now,
		Endpoint: Endpoint{Address: "10.0.0.1:6443", NodeAddress: "127.0.0.1:6444", LoadBalancer: "node-local"},
		Etcd:     Etcd{Quorum: true, FaultTolerance: 1},
	}
	for i, name := range []string{"cp-1", "cp-2", "cp-3", "w-1"} {
		n := Node{Name: name, Roles: []string{"control-plane"}, Registered: true, Ready: true, Reached: true}
		r.Endpoint.Answers = append(r.Endpoint.Answers, Answer{Host: name, OK: true})
		if name == "w-1" {
			n.Roles = []string{"worker"}
			r.Nodes = append(r.Nodes, n)
			continue
		}
		r.Nodes = append(r.Nodes, n)
		r.ControlPlanes = append(r.ControlPlanes, ControlPlane{
			Name:       name,
			Components: []Component{{Name: "etcd", Healthy: true}, {Name: "kube-apiserver", Healthy: true}},
			Certificates: []Certificate{
				{Name: "ca", Expires: now.Add(3650 * 24 * time.Hour)},
				{Name: "apiserver", Expires: now.Add(364 * 24 * time.Hour)},
				{Name: "admin.conf", Expires: now.Add(364*24*time.Hour + time.Second)},
			},
		})
		role := voter
		if i == 0 {
			role = leader
		}
		r.Etcd.Members = append(r.Etcd.Members, Member{Name: name, ID: "a", Role: role, Healthy: true, Health: "ok", Lag: new(uint64(3))})
	}
	return r
}

func TestJudge(t *testing.T) {
	// alone leaves one control plane.
	alone := func(r *Report) {
		r.Nodes, r.ControlPlanes, r.Etcd.Members = r.Nodes[:1], r.ControlPlanes[:1], r.Etcd.Members[:1]
		r.Etcd.FaultTolerance = 0
	}
	for _, tt := range []struct {
		name string
		edit func(*Report)
		want []Warning
	}{
		{"well", func(*Report) {}, nil},
		{"one control plane", alone, nil},
		{"cordoned", func(r *Report) { r.Nodes[3].Unschedulable = true }, nil},
		{"host that is not reached", func(r *Report) {
			r.Missing = []MissingHost{{Name: "cp-3", ControlPlane: true, Error: "cp-3: no route to host; hint: is it up?"}}
			r.Nodes[2].Reached = false
			r.ControlPlanes = r.ControlPlanes[:2]
		}, []Warning{{"host cp-3", "was not reached: cp-3: no route to host", "is it up?"}}},
		{"API that does not answer", func(r *Report) {
			r.APIError = "list Nodes:\n no answer"
			for i := range r.Nodes {
				r.Nodes[i] = Node{Name: r.Nodes[i].Name, Roles: r.Nodes[i].Roles, Reached: true}
			}
		}, []Warning{{"API", "does not answer: list Nodes: no answer", ""}}},
		{"node that is not Ready", func(r *Report) { r.Nodes[3].Ready, r.Nodes[3].Reason = false, "Kubelet stopped posting node status." },
			[]Warning{{"node w-1", "is not Ready: Kubelet stopped posting node status.", ""}}},
		{"host that is no node", func(r *Report) { r.Nodes[3].Registered, r.Nodes[3].Ready = false, false },
			[]Warning{{"node w-1", "is in the document, and no node of the cluster", "myadm apply -f, or myadm join -f, makes it one"}}},
		{"control plane without static pods", func(r *Report) { r.ControlPlanes = r.ControlPlanes[1:] },
			[]Warning{{"control plane cp-1", "has no static pod of its own on its host", ""}}},
		{"component that is ill", func(r *Report) {
			r.ControlPlanes[1].Components[1] = Component{Name: "kube-apiserver", Reason: "/readyz: not ok yet: etcd"}
		}, []Warning{{"control plane cp-2", "kube-apiserver is not healthy: /readyz: not ok yet: etcd", ""}}},
		{"certificate that ends in a month", func(r *Report) { r.ControlPlanes[0].Certificates[1].Expires = now.Add(30 * 24 * time.Hour) }, nil},
		{"certificate that ends soon", func(r *Report) { r.ControlPlanes[0].Certificates[1].Expires = now.Add(30*24*time.Hour - time.Second) },
			[]Warning{{"control plane cp-1", "certificate apiserver ends on 2026-12-22", ""}}},
		{"certificates that end soon", func(r *Report) {
			r.ControlPlanes[0].Certificates[1].Expires = now.Add(49 * time.Hour)
			r.ControlPlanes[0].Certificates[2].Expires = now.Add(48 * time.Hour)
		}, []Warning{{"control plane cp-1", "certificate admin.conf ends on 2026-11-24, and 1 more within 30 days", ""}}},
		{"certificate that has ended", func(r *Report) { r.ControlPlanes[0].Certificates[1].Expires = now.Add(-time.Second) },
			[]Warning{{"control plane cp-1", "certificate apiserver has expired on 2026-11-22", ""}}},
		{"certificate that is none", func(r *Report) {
			r.ControlPlanes[0].CertificateError = "/etc/kubernetes/admin.conf: not a kubeconfig; hint: remove it"
		}, []Warning{{"control plane cp-1", "certificates cannot be read: /etc/kubernetes/admin.conf: not a kubeconfig", "remove it"}}},
		{"etcd that cannot be asked", func(r *Report) { r.Etcd = Etcd{Error: "no answer"} }, []Warning{{"etcd", "no answer", ""}}},
		{"member that is down", func(r *Report) {
			r.Etcd.Members[2] = Member{Name: "cp-3", Role: voter, Health: "no answer", Error: "connection refused"}
			r.Etcd.FaultTolerance = 0
		}, []Warning{
			{"etcd member cp-3", "no answer: connection refused", ""},
			{"etcd", "one more failure stops the cluster: 2 of 3 voting members work, 2 have to", "bring back the members that are down, or replace them"},
		}},
		{"member with an alarm", func(r *Report) { r.Etcd.Members[1].Healthy, r.Etcd.Members[1].Health = false, "NOSPACE" },
			[]Warning{{"etcd member cp-2", "NOSPACE", ""}}},
		{"member that was never started", func(r *Report) {
			r.Etcd.Members = append(r.Etcd.Members, Member{ID: "7", Role: learner, PeerURLs: []string{"https://10.0.0.9:2380"}, Health: "not started"})
		}, []Warning{{"etcd member https://10.0.0.9:2380", "was added and never started", "myadm apply -f, or myadm join -f, goes on with it or clears it"}}},
		{"learner", func(r *Report) {
			r.Etcd.Members = append(r.Etcd.Members, Member{Name: "cp-4", Role: learner, Healthy: true, Health: "ok"})
		}, []Warning{{"etcd member cp-4", "is a learner, and does not vote yet", "myadm apply -f, or myadm join -f, promotes it"}}},
		{"member that lags a little", func(r *Report) { r.Etcd.Members[1].Lag = new(uint64(farBehind)) }, nil},
		{"member that lags", func(r *Report) { r.Etcd.Members[1].Lag = new(uint64(farBehind + 1)) },
			[]Warning{{"etcd member cp-2", "is 5001 entries behind the leader", ""}}},
		{"two members", func(r *Report) { r.Etcd.Members, r.Etcd.FaultTolerance = r.Etcd.Members[:2], 0 },
			[]Warning{{"etcd", "one more failure stops the cluster: 2 of 2 voting members work, 2 have to", "a third control plane lets one fail; of two, none may"}}},
		{"no quorum", func(r *Report) {
			r.Etcd.Quorum, r.Etcd.FaultTolerance = false, 0
			for i := range r.Etcd.Members[:2] {
				r.Etcd.Members[i].Healthy, r.Etcd.Members[i].Health, r.Etcd.Members[i].Error = false, "no answer", "refused"
			}
			r.Etcd.Members[2].Healthy, r.Etcd.Members[2].Health = false, "no leader"
		}, []Warning{
			{"etcd member cp-1", "no answer: refused", ""},
			{"etcd member cp-2", "no answer: refused", ""},
			{"etcd member cp-3", "no leader", ""},
			{"etcd", "has no quorum: nothing can be written", "start the members that are down; myadm etcd restore is for those that are gone for good"},
		}},
		{"endpoint that a host does not reach", func(r *Report) { r.Endpoint.Answers[3] = Answer{Host: "w-1", Error: "connection refused"} },
			[]Warning{{"endpoint 127.0.0.1:6444", "does not answer on w-1: connection refused", ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := well()
			tt.edit(r)
			if diff := cmp.Diff(append([]Warning{}, tt.want...), Judge(r)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSoonest(t *testing.T) {
	c, ok := well().ControlPlanes[0].Soonest()
	if !ok || c.Name != "apiserver" {
		t.Errorf("%+v, %t", c, ok)
	}
	if c, ok := (ControlPlane{}).Soonest(); ok {
		t.Errorf("of no certificates %+v", c)
	}
}
