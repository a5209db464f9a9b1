package cmd

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/status"
)

// reports are clusters as status may see them, by the name of their golden file.
func reports() map[string]*status.Report {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	server := func(name string) status.ControlPlane {
		p := status.ControlPlane{Name: name, Certificates: []status.Certificate{
			{Name: "ca", Path: "/etc/kubernetes/pki/ca.crt", Expires: at.AddDate(10, 0, 0)},
			{Name: "apiserver", Path: "/etc/kubernetes/pki/apiserver.crt", Expires: at.AddDate(1, 0, 0)},
		}}
		for _, c := range componentColumns {
			p.Components = append(p.Components, status.Component{Name: c.name, Version: "v1.37.2", Healthy: true})
		}
		return p
	}
	node := func(name, role, address string) status.Node {
		return status.Node{Name: name, Roles: []string{role}, Registered: true, Ready: true, KubeletVersion: "v1.37.2", Address: address, Reached: true}
	}
	member := func(name, id, role string, lag uint64) status.Member {
		return status.Member{
			Name: name, ID: id, Role: role, Healthy: true, Health: "ok", Version: "3.7.0", DBSize: 21 << 20, DBSizeInUse: 9 << 20, Lag: &lag,
			PeerURLs: []string{"https://" + name + ":2380"}, ClientURLs: []string{"https://" + name + ":2379"},
		}
	}

	one := &status.Report{
		Name: "home", KubernetesVersion: "v1.37.2", Time: at, Healthy: true, Warnings: []status.Warning{},
		Endpoint: status.Endpoint{
			Address: "10.0.0.1:6443", NodeAddress: "10.0.0.1:6443", LoadBalancer: "none", Answers: []status.Answer{{Host: "cp-1", OK: true}},
		},
		Nodes:         []status.Node{node("cp-1", "control-plane", "10.0.0.1")},
		ControlPlanes: []status.ControlPlane{server("cp-1")},
		Etcd:          status.Etcd{Quorum: true, Members: []status.Member{member("cp-1", "8e9e05c52164694d", "leader", 0)}},
		Missing:       []status.MissingHost{},
	}

	down := node("cp-3", "control-plane", "10.0.0.3")
	down.Ready, down.Reached, down.Reason = false, false, "Kubelet stopped posting node status."
	cordoned := node("w-1", "worker", "10.0.0.4")
	cordoned.Unschedulable = true
	ill := server("cp-2")
	ill.Components[3] = status.Component{Name: ill.Components[3].Name, Version: "v1.37.2", Reason: "/livez answers 500 Internal Server Error"}
	failing := &status.Report{
		Name: "prod", KubernetesVersion: "v1.37.2", Time: at,
		Endpoint: status.Endpoint{
			Address: "10.0.0.1:6443", NodeAddress: "127.0.0.1:6444", LoadBalancer: "node-local",
			Answers: []status.Answer{{Host: "cp-1", OK: true}, {Host: "cp-2", OK: true}, {Host: "w-1", Error: "connection refused"}},
		},
		Nodes: []status.Node{
			node("cp-1", "control-plane", "10.0.0.1"), node("cp-2", "control-plane", "10.0.0.2"), down,
			cordoned, {Name: "w-2", Roles: []string{"worker"}},
		},
		ControlPlanes: []status.ControlPlane{server("cp-1"), ill},
		Etcd: status.Etcd{Quorum: true, Members: []status.Member{
			member("cp-1", "a1", "leader", 0), member("cp-2", "a2", "member", 12),
			{Name: "cp-3", ID: "a3", Role: "member", Health: "no answer", Error: "no answer within 2s", PeerURLs: []string{"https://cp-3:2380"}},
			{ID: "a4", Role: "learner", Health: "not started", Error: "member https://10.0.0.6:2380 has not been started yet", PeerURLs: []string{"https://10.0.0.6:2380"}},
		}},
		Missing: []status.MissingHost{{Name: "cp-3", ControlPlane: true, Error: "no connection within 3s; hint: is the host up?"}},
	}
	failing.Warnings = status.Judge(failing)

	unknown := &status.Report{
		Name: "prod", Time: at, APIError: "no control plane of the cluster was reached",
		Endpoint: status.Endpoint{Address: "10.0.0.1:6443", NodeAddress: "127.0.0.1:6444", LoadBalancer: "node-local"},
		Nodes:    []status.Node{{Name: "cp-1", Roles: []string{"control-plane"}}},
		Etcd:     status.Etcd{Error: "no control plane of the cluster was reached"},
		Missing:  []status.MissingHost{{Name: "cp-1", ControlPlane: true, Error: "connection refused"}},
	}
	unknown.Warnings = status.Judge(unknown)

	three := *one
	three.Etcd.FaultTolerance = 1
	three.Etcd.Members = []status.Member{member("cp-1", "a1", "leader", 0), member("cp-2", "a2", "member", 0), member("cp-3", "a3", "member", 2)}

	noQuorum := *failing
	noQuorum.Etcd.Quorum = false
	noQuorum.Warnings = status.Judge(&noQuorum)
	return map[string]*status.Report{"one": one, "three": &three, "failing": failing, "unreached": unknown, "noquorum": &noQuorum}
}

// TestStatusOutput compares what people and programs read with testdata/status. -update writes it anew.
func TestStatusOutput(t *testing.T) {
	for name, r := range reports() {
		var text bytes.Buffer
		if err := printStatus(&text, r); err != nil {
			t.Fatal(err)
		}
		golden(t, "status/"+name+".txt", text.Bytes())
	}
	var data bytes.Buffer
	if err := writeJSON(&data, reports()["failing"]); err != nil {
		t.Fatal(err)
	}
	golden(t, "status/failing.json", data.Bytes())
}

// golden compares what a test got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// To be down is an answer: status does not wait for it as long as commands do that need the host.
func TestStatusIsQuickToGiveUpAHost(t *testing.T) {
	for path, want := range map[string]string{"status": "3s", "join": "10s"} {
		c, _, err := NewCommand(Streams{}).Find([]string{path})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Flags().Lookup("connect-timeout"); got.Value.String() != want || got.DefValue != want {
			t.Errorf("%s waits for %s, and says %s; want %s", path, got.Value, got.DefValue, want)
		}
	}
}
