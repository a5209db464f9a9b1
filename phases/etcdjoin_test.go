package phases

import (
	"context"
	"testing"

	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/etcd/etcdtest"
)

// etcdClient is a client of a member.
func etcdClient(t testing.TB, m *etcdtest.Member) *etcd.Client {
	t.Helper()
	client, err := etcd.Connect(etcd.Options{Endpoints: []string{m.ClientURL()}, TLS: m.ClientTLS()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// promoted makes a member a voting one, beside those that there are.
func promoted(t testing.TB, one, m *etcdtest.Member, others ...*etcdtest.Member) {
	t.Helper()
	client := etcdClient(t, one)
	added, err := client.AddLearner(context.Background(), m.PeerURL())
	if err != nil {
		t.Fatal(err)
	}
	m.Start(append(others, one)...)
	if err := client.Promote(context.Background(), added.ID); err != nil {
		t.Fatal(err)
	}
}
