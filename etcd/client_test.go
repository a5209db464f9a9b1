package etcd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myadm/myadm/etcd/etcdtest"
)

func connect(t *testing.T, opts Options) *Client {
	t.Helper()
	c, err := Connect(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// grow makes a cluster of voting members.
func grow(t *testing.T, c *etcdtest.Cluster, names ...string) []*etcdtest.Member {
	t.Helper()
	members := []*etcdtest.Member{c.Start(names[0])}
	client := connect(t, Options{Endpoints: []string{members[0].ClientURL()}, TLS: members[0].ClientTLS()})
	for _, name := range names[1:] {
		m := c.Member(name)
		added, err := client.AddLearner(t.Context(), m.PeerURL())
		if err != nil {
			t.Fatal(err)
		}
		m.Start(members...)
		if err := client.Promote(t.Context(), added.ID); err != nil {
			t.Fatal(err)
		}
		members = append(members, m)
	}
	return members
}

func TestALearnerBecomesAVoterAndGoes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		cluster func(testing.TB) *etcdtest.Cluster
	}{{"without TLS", etcdtest.New}, {"with TLS", etcdtest.NewTLS}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // most of the time, etcd waits to see that its members stay connected
			ctx := t.Context()
			cluster := tt.cluster(t)
			one, two := cluster.Start("cp-1"), cluster.Member("cp-2")
			dialled := atomic.Int32{}
			c := connect(t, Options{Endpoints: []string{one.ClientURL()}, TLS: one.ClientTLS(),
				Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					dialled.Add(1)
					return new(net.Dialer).DialContext(ctx, network, address)
				}})
			added, err := c.AddLearner(ctx, two.PeerURL())
			if err != nil {
				t.Fatal(err)
			}
			if added.Started() || !added.Learner || !slices.Equal(added.PeerURLs, []string{two.PeerURL()}) {
				t.Errorf("added %+v", added)
			}
			if again, err := c.AddLearner(ctx, two.PeerURL()); err != nil || again.ID != added.ID {
				t.Errorf("added once more: %+v, %v, want the same learner", again, err)
			}
			var many *TooManyLearnersError
			if _, err := c.AddLearner(ctx, "http://127.0.0.1:1"); !errors.As(err, &many) {
				t.Errorf("a second learner: %v", err)
			}
			two.Start(one)
			if err := c.Promote(ctx, added.ID); err != nil {
				t.Fatal(err)
			}
			if err := c.Promote(ctx, added.ID); err != nil {
				t.Errorf("promoted twice: %v", err)
			}
			members, err := c.Members(ctx)
			if err != nil || len(members) != 2 {
				t.Fatalf("%+v, %v", members, err)
			}
			observed := Observe(ctx, c, members)
			for _, o := range observed {
				if !o.Alive() || o.Member.Learner || o.Status.ID != o.Member.ID || o.Status.Leader != one.ID() || o.Status.DBSize == 0 ||
					o.Status.Version == "" || o.Status.RaftIndex == 0 || o.Status.AppliedIndex == 0 {
					t.Errorf("%+v", o)
				}
			}
			if err := CanRemove(members, Alive(observed), added.ID); err != nil {
				t.Error(err)
			}
			if err := c.MoveLeader(ctx, added.ID); err != nil {
				t.Error(err)
			}
			if s, err := c.Status(ctx, two.ClientURL()); err != nil || s.Leader != added.ID {
				t.Errorf("the leader is %x, %v", s.Leader, err)
			}
			if err := c.MoveLeader(ctx, added.ID); err != nil {
				t.Errorf("to who leads already: %v", err)
			}
			if err := c.Health(ctx); err != nil {
				t.Error(err)
			}
			if err := c.MoveLeader(ctx, one.ID()); err != nil {
				t.Error(err)
			}
			if err := c.Remove(ctx, added.ID); err != nil {
				t.Error(err)
			}
			if err := c.Remove(ctx, added.ID); err != nil {
				t.Errorf("removed twice: %v", err)
			}
			if members, err := c.Members(ctx); err != nil || len(members) != 1 || members[0].Name != "cp-1" {
				t.Errorf("%+v, %v", members, err)
			}
			if dialled.Load() != 2 {
				t.Errorf("%d connections to two members", dialled.Load())
			}
		})
	}
}

// A learner cannot vote before it has caught up: Promote waits for it, and for the one that is started late.
func TestPromoteWaitsForTheLearner(t *testing.T) {
	cluster := etcdtest.New(t)
	one, two := cluster.Start("cp-1"), cluster.Member("cp-2")
	c := connect(t, Options{Endpoints: []string{one.ClientURL()}})
	added, err := c.AddLearner(t.Context(), two.PeerURL())
	if err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Promote(soon, added.ID); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "in sync with leader") {
		t.Errorf("promoted before it runs: %v", err)
	}
	promoted := make(chan error, 1)
	go func() { promoted <- c.Promote(t.Context(), added.ID) }()
	two.Start(one)
	if err := <-promoted; err != nil {
		t.Error(err)
	}
	members, err := c.Members(t.Context())
	if err != nil || slices.ContainsFunc(members, func(m Member) bool { return m.Learner }) {
		t.Errorf("%+v, %v", members, err)
	}
}

func TestWhatOneEndpointCannotServeGoesToTheNext(t *testing.T) {
	cluster := etcdtest.New(t)
	one, learner, dead := cluster.Start("cp-1"), cluster.Member("cp-2"), cluster.Member("cp-3")
	c := connect(t, Options{Endpoints: []string{one.ClientURL()}})
	if _, err := c.AddLearner(t.Context(), learner.PeerURL()); err != nil {
		t.Fatal(err)
	}
	learner.Start(one)
	for _, first := range []*etcdtest.Member{learner, dead} {
		c := connect(t, Options{Endpoints: []string{first.ClientURL(), one.ClientURL()}})
		if members, err := c.Members(t.Context()); err != nil || len(members) != 2 {
			t.Errorf("asked %s first: %+v, %v", first.Name, members, err)
		}
		if order := c.endpoints(); order[0] != one.ClientURL() {
			t.Errorf("the next request goes to %s first", order[0])
		}
		c = connect(t, Options{Endpoints: []string{first.ClientURL(), one.ClientURL()}})
		var w bytes.Buffer
		if info, err := c.Snapshot(t.Context(), &w, nil); err != nil || info.Member != one.ClientURL() {
			t.Errorf("snapshot, asked %s first: %+v, %v", first.Name, info, err)
		}
	}
	// All have failed: each says why.
	c = connect(t, Options{Endpoints: []string{dead.ClientURL(), learner.ClientURL()}})
	_, err := c.Members(t.Context())
	for _, part := range []string{"etcd at " + dead.ClientURL(), "connection refused", "etcd at " + learner.ClientURL(), "not supported for learner"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not hold %q", err, part)
		}
	}
}

func TestAnEtcdThatComesUpIsReachedByTheNextRequest(t *testing.T) {
	m := etcdtest.New(t).Member("cp-1")
	c := connect(t, Options{Endpoints: []string{m.ClientURL()}})
	for range 3 {
		if err := c.Health(t.Context()); err == nil {
			t.Fatal("healthy before it runs")
		}
	}
	m.Start()
	if err := c.Health(t.Context()); err != nil {
		t.Errorf("up: %v", err)
	}
	m.Stop()
	if err := c.Health(t.Context()); err == nil {
		t.Error("healthy when stopped")
	}
	m.Start()
	if err := c.Health(t.Context()); err != nil {
		t.Errorf("up again: %v", err)
	}
}

// mute accepts connections and says nothing.
func mute(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

func TestRequestsEndInTime(t *testing.T) {
	one := etcdtest.New(t).Start("cp-1")
	silent := mute(t)
	t.Run("when ctx ends", func(t *testing.T) {
		c := connect(t, Options{Endpoints: []string{silent, silent, silent}, Timeout: time.Hour})
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
		start := time.Now()
		if err := c.Health(ctx); !errors.Is(err, cause) || time.Since(start) > 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
	t.Run("when an endpoint says nothing", func(t *testing.T) {
		c := connect(t, Options{Endpoints: []string{silent, one.ClientURL()}, Timeout: 200 * time.Millisecond})
		if err := c.Health(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := c.Status(t.Context(), silent); err == nil || !strings.Contains(err.Error(), "no answer within 200ms") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWithoutQuorum(t *testing.T) {
	members := grow(t, etcdtest.New(t), "cp-1", "cp-2")
	c := connect(t, Options{Endpoints: []string{members[0].ClientURL()}, Timeout: time.Second})
	members[1].Stop()
	if err := c.Health(t.Context()); err == nil {
		t.Error("healthy with one of two members")
	}
	if _, err := c.Members(t.Context()); err == nil {
		t.Error("members are told without quorum")
	}
	known, err := c.KnownMembers(t.Context())
	if err != nil || len(known) != 2 {
		t.Fatalf("%+v, %v", known, err)
	}
	observed := Observe(t.Context(), c, known)
	alive := Alive(observed)
	for _, o := range observed {
		if alive[o.Member.ID] {
			t.Errorf("%s counts as alive: %+v", o.Member, o.Status)
		}
		if (o.Err == nil) != (o.Member.Name == "cp-1") {
			t.Errorf("%s: %v", o.Member, o.Err)
		}
	}
}

// Another member that answers at the address of one is not that one.
func TestObserveTellsAStranger(t *testing.T) {
	one := etcdtest.New(t).Start("cp-1")
	c := connect(t, Options{Endpoints: []string{one.ClientURL()}})
	o := Observe(t.Context(), c, []Member{{ID: 7, Name: "cp-9", ClientURLs: []string{one.ClientURL()}}, {ID: 8, PeerURLs: []string{"http://a"}}})
	if o[0].Alive() || !strings.Contains(o[0].Err.Error(), "not 7") {
		t.Errorf("%+v", o[0])
	}
	if o[1].Alive() || !strings.Contains(o[1].Err.Error(), "http://a has not been started") {
		t.Errorf("%+v", o[1])
	}
}

func TestConnectRefusesWhatIsNoURL(t *testing.T) {
	for _, endpoints := range [][]string{nil, {"10.0.0.1:2379"}, {"tcp://10.0.0.1"}, {"https://"}, {"https://10.0.0.1:2379", "%"}} {
		if _, err := Connect(Options{Endpoints: endpoints}); err == nil {
			t.Errorf("%q is taken", endpoints)
		}
	}
}
