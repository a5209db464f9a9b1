// Package etcd manages the membership and the data of an etcd cluster: its members, learners that become voters, removal
// that keeps quorum, and snapshots.
//
// Client talks to etcd through connections that the caller opens (in general through the SSH connection of a control
// plane) and asks one endpoint after the other; Reader is the part of it that changes nothing, and what a phase's Check is
// given. What is to happen for a host to become a voting member is decided by Plan, which is pure.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// DefaultTimeout bounds a single request. The slowest that is sound, a write while a leader is elected, ends before.
const DefaultTimeout = 5 * time.Second

// A snapshot's stream has no time limit: its connection has to notice a peer that is gone. etcd closes connections that
// ping more often than every 5 s.
const (
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)

// Reader asks etcd and changes nothing.
type Reader interface {
	// Members are all members, by a linearizable read: without quorum it fails.
	Members(ctx context.Context) ([]Member, error)
	// KnownMembers are the members that the first endpoint that answers knows of; it needs no quorum.
	KnownMembers(ctx context.Context) ([]Member, error)
	// Status is what the member at a client URL tells of itself; it needs no quorum. The URL need not be one of
	// Options.Endpoints.
	Status(ctx context.Context, endpoint string) (Status, error)
	// Health is a linearizable read: nil says that there is a quorum, and that writes work unless an alarm is raised.
	Health(ctx context.Context) error
}

var _ Reader = (*Client)(nil)

// Options of Connect. Endpoints must be given.
type Options struct {
	Endpoints []string      // client URLs, such as https://10.0.0.1:2379, in the order in which they are asked
	TLS       *tls.Config   // nil: only for http URLs
	Timeout   time.Duration // of a single request to a single endpoint; 0: DefaultTimeout

	// Dial connects to the address of a client URL. host.Host's Dial is one. nil: by the operating system.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client is a connection to one etcd cluster. It may be used by several goroutines at once.
//
// A request that one endpoint cannot serve goes to the next; what a cluster refuses is not asked again. A connection is
// made for the first request that needs it, and is given up when a request fails on it: so nothing dials in the
// background, and an etcd that has just come up is reached by the next request.
type Client struct {
	opts Options

	mu    sync.Mutex
	order []string         // Options.Endpoints, those that answered last at the front
	conns map[string]*conn // by endpoint
}

// conn is a connection to one endpoint. It is closed when it is given up and its last user is done.
type conn struct {
	*clientv3.Client
	users   int
	retired bool
}

// Connect makes a client. It sends nothing yet.
func Connect(opts Options) (*Client, error) {
	if len(opts.Endpoints) == 0 {
		return nil, errors.New("etcd: there is no endpoint")
	}
	for _, endpoint := range opts.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			return nil, fmt.Errorf("etcd: endpoint %q is not a URL such as https://10.0.0.1:2379", endpoint)
		}
	}
	if opts.Timeout == 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.Dial == nil {
		opts.Dial = new(net.Dialer).DialContext
	}
	return &Client{opts: opts, order: slices.Clone(opts.Endpoints), conns: map[string]*conn{}}, nil
}

// Close ends the connections. Requests under way fail.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	clear(c.conns)
}

// call makes a request to the first endpoint that can serve it.
func (c *Client) call(ctx context.Context, request func(context.Context, *clientv3.Client) error) error {
	var errs []error
	for _, endpoint := range c.endpoints() {
		err := c.at(ctx, endpoint, request)
		if err == nil {
			c.prefer(endpoint)
			return nil
		}
		if !servedElsewhere(err) {
			return err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// at makes a request to one endpoint.
func (c *Client) at(ctx context.Context, endpoint string, request func(context.Context, *clientv3.Client) error) error {
	conn, err := c.acquire(endpoint)
	if err != nil {
		return fmt.Errorf("etcd at %s: %w", endpoint, err)
	}
	bounded, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	err = request(bounded, conn.Client)
	c.release(endpoint, conn, err)
	if timedOut(err) {
		<-bounded.Done() // gRPC's clock may be a moment ahead
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("etcd at %s: %w", endpoint, context.Cause(ctx))
	case bounded.Err() != nil:
		return fmt.Errorf("etcd at %s: no answer within %s: %w", endpoint, c.opts.Timeout, err)
	}
	return fmt.Errorf("etcd at %s: %w", endpoint, err)
}

func (c *Client) endpoints() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.order)
}

// prefer puts an endpoint to the front: the next request need not wait for those that do not answer.
func (c *Client) prefer(endpoint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.order, endpoint); i > 0 {
		c.order = slices.Insert(slices.Delete(c.order, i, i+1), 0, endpoint)
	}
}

func (c *Client) acquire(endpoint string) (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn, ok := c.conns[endpoint]; ok {
		conn.users++
		return conn, nil
	}
	client, err := c.dial(endpoint)
	if err != nil {
		return nil, err
	}
	conn := &conn{Client: client, users: 1}
	c.conns[endpoint] = conn
	return conn, nil
}

// release gives a connection back, and up if a request has failed for want of it.
func (c *Client) release(endpoint string, conn *conn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.users--
	if err != nil && (timedOut(err) || conn.ActiveConnection().GetState() != connectivity.Ready) {
		conn.retired = true
		if c.conns[endpoint] == conn {
			delete(c.conns, endpoint)
		}
	}
	if conn.retired && conn.users == 0 {
		conn.Close()
	}
}

func (c *Client) dial(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:            []string{endpoint},
		TLS:                  c.opts.TLS,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		MaxUnaryRetries:      1,            // attempts: call goes on to the next endpoint instead
		Logger:               zap.NewNop(), // what fails is told by errors; gRPC itself logs nothing of a client's unless a variable tells it to
		DialOptions: []grpc.DialOption{
			grpc.WithNoProxy(),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				return c.opts.Dial(ctx, "tcp", address)
			}),
			grpc.WithChainUnaryInterceptor(failFast),
			grpc.WithChainStreamInterceptor(failFastStream),
		},
	})
}

// failFast lets a request fail when there is no connection. etcd's client would dial again and again until ctx ends.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

func failFastStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(ctx, desc, cc, method, append(opts, grpc.WaitForReady(false))...)
}
