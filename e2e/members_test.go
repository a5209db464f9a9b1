//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// members talks to the etcd of control planes as etcd's own tools do, with a certificate from one of their disks.
type members struct {
	*clientv3.Client
}

// etcd opens a client of the members on these control planes; the first one has to be on.
func (s *site) etcd(t *testing.T, controlPlanes ...string) members {
	t.Helper()
	file := func(name string) []byte { return []byte(s.output(t, controlPlanes[0], "cat", pki+name)) }
	pair, err := tls.X509KeyPair(file("etcd/healthcheck-client.crt"), file("etcd/healthcheck-client.key"))
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(file("etcd/ca.crt")) {
		t.Fatalf("no CA of etcd on %s", controlPlanes[0])
	}
	config := clientv3.Config{
		TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots},
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) {
			return impatient(time.Second).DialContext(ctx, "tcp", a)
		})},
	}
	for _, name := range controlPlanes {
		config.Endpoints = append(config.Endpoints, "https://"+s.address(t, name, "2379"))
	}
	client, err := clientv3.New(config)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return members{client}
}

// list is the member list, asked of whoever answers, who asks the leader.
func (m members) list(ctx context.Context) ([]*etcdserverpb.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	found, err := m.MemberList(ctx)
	if err != nil {
		return nil, err
	}
	return found.Members, nil
}

// whole tells in what the member list differs from these voters, each with a name, in agreement about the leader, and
// with all that the leader has.
func (m members) whole(ctx context.Context, names ...string) error {
	list, err := m.list(ctx)
	if err != nil {
		return err
	}
	var got []string
	var errs []error
	leaders := map[uint64]bool{}
	for _, member := range list {
		name := member.Name
		switch {
		case name == "":
			name = fmt.Sprintf("%x (not started, %v)", member.ID, member.PeerURLs)
		case member.IsLearner:
			name += " (a learner)"
		}
		got = append(got, name)
		if len(member.ClientURLs) == 0 {
			continue
		}
		status, err := m.status(ctx, member.ClientURLs[0])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		leaders[status.Leader] = true
		if len(status.Errors) > 0 || status.RaftIndex > status.RaftAppliedIndex+100 {
			errs = append(errs, fmt.Errorf("%s: errors %q, index %d, of which %d applied", name, status.Errors, status.RaftIndex, status.RaftAppliedIndex))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, slices.Sorted(slices.Values(names))) {
		errs = append(errs, fmt.Errorf("the members are %s; want %s", strings.Join(got, ", "), strings.Join(names, ", ")))
	}
	if len(leaders) > 1 || leaders[0] {
		errs = append(errs, fmt.Errorf("the members disagree about the leader: %v", leaders))
	}
	return errors.Join(errs...)
}

func (m members) status(ctx context.Context, endpoint string) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return m.Status(ctx, endpoint)
}

// leader is the name of the leading member.
func (m members) leader(ctx context.Context) (string, error) {
	list, err := m.list(ctx)
	if err != nil {
		return "", err
	}
	for _, member := range list {
		if len(member.ClientURLs) == 0 {
			continue
		}
		if status, err := m.status(ctx, member.ClientURLs[0]); err == nil && status.Leader == member.ID {
			return member.Name, nil
		}
	}
	return "", errors.New("no member says that it leads")
}

// wantMembers fails the test unless these control planes, and no others, are healthy voting members by and by.
func (s *site) wantMembers(t *testing.T, names ...string) {
	t.Helper()
	client := s.etcd(t, names...)
	eventually(t, time.Minute, "the members of etcd", func(ctx context.Context) error { return client.whole(ctx, names...) })
}
