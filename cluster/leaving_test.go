package cluster

import (
	"testing"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd/etcdtest"
)

// What goes through a control plane that is leaving may end under way: it is asked only when nobody else can be.
func TestLeavingControlPlanesAreAskedLast(t *testing.T) {
	one, first := withAPI(t, "cp-1")
	two, second := withAPI(t, "cp-2")
	for _, tt := range []struct {
		name    string
		leaving []config.Host
		want    string
	}{
		{"nobody leaves", nil, first.Address()},
		{"the first leaves", []config.Host{one.Spec}, second.Address()},
		{"another host of the name leaves", []config.Host{{Name: "cp-1", Address: "192.0.2.9"}}, first.Address()},
		{"both leave", []config.Host{two.Spec, one.Spec}, first.Address()},
	} {
		c := &Cluster{Config: &config.Cluster{}, Nodes: []*Node{one, two}, Leaving: tt.leaving}
		client, err := c.Kube(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		if got := client.Server(); got != "https://"+tt.want {
			t.Errorf("%s: the API is reached at %s, want %s", tt.name, got, tt.want)
		}
	}
}

// A member on no host of ours is reached through a control plane that stays.
func TestEtcdOfALeavingClusterIsReachedThroughThoseThatStay(t *testing.T) {
	members := etcdtest.NewTLS(t)
	strange := members.Start("etcd-1")
	leaving, throughLeaving := etcdHost(t, members.Member("cp-1"), all)
	staying, throughStaying := etcdHost(t, members.Member("cp-2"), all)
	cfg := &config.Cluster{}
	cfg.Spec.Etcd.External = &config.ExternalEtcd{Endpoints: []string{strange.ClientURL()}}
	c := &Cluster{Config: cfg, Nodes: []*Node{leaving, staying}, Leaving: []config.Host{leaving.Spec}}
	t.Cleanup(func() { c.Close() })
	client, err := c.Etcd(t.Context())
	if err == nil {
		err = client.Health(t.Context())
	}
	if err != nil || len(throughLeaving.addresses) != 0 || len(throughStaying.addresses) != 1 {
		t.Errorf("%v, through the one that leaves %q, through the other %q", err, throughLeaving.addresses, throughStaying.addresses)
	}
}
