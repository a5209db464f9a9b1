package etcd

import (
	"errors"
	"testing"

	"github.com/myadm/myadm/etcd/etcdtest"
)

// A member can be removed through itself, and the others still be asked.
func TestAddEndpoints(t *testing.T) {
	t.Parallel()
	members := grow(t, etcdtest.New(t), "cp-1", "cp-2")
	c := connect(t, Options{Endpoints: []string{members[0].ClientURL()}})
	c.AddEndpoints(members[1].ClientURL(), members[0].ClientURL(), members[1].ClientURL())
	if got := c.endpoints(); len(got) != 2 || got[0] != members[0].ClientURL() {
		t.Errorf("it asks %q", got)
	}
	err := retry(t.Context(), func(error) bool { return true }, func() error {
		s, err := c.Status(t.Context(), members[1].ClientURL())
		if err == nil && s.Learner {
			err = errors.New("it does not know yet that it votes")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	members[0].Stop()
	if list, err := c.KnownMembers(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}
