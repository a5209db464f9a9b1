// Package cri talks to a container runtime that is on a host already, through its CRI socket: which runtime it is, whether
// it is ready, which images and pods it has, and that it pulls others and removes them. Fits, which is pure, says which
// runtimes go with a version of Kubernetes.
//
// The socket is reached by a dial function, which host.Host's Dial is. CRI is spoken as v1 alone: the kubelet has known no
// other since Kubernetes 1.26.
package cri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// requestTimeout bounds a request that only looks. The kubelet's is 2 minutes, for hosts under load.
const requestTimeout = 20 * time.Second

// removeTimeout bounds the end of a pod, with its network plugins.
const removeTimeout = 2 * time.Minute

// maxMessage is the largest answer in bytes; the kubelet takes as much, for hosts with very many images.
const maxMessage = 16 << 20

// Dial connects to an address as seen from a host. host.Host's Dial is one.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Client is a connection to one runtime. It may be used by several goroutines at once.
type Client struct {
	socket  string
	conn    *grpc.ClientConn
	runtime runtime.RuntimeServiceClient
	images  runtime.ImageServiceClient
	version Version
}

// Version is what a runtime tells of itself.
type Version struct {
	RuntimeName       string // "containerd", "cri-o"
	RuntimeVersion    string // "v2.4.2", "1.37.0"; distributions add to it: "1.6.20~ds1"
	RuntimeAPIVersion string // "v1"
}

// Open connects to the runtime at a socket of the host, "/run/containerd/containerd.sock" or the same as the kubelet has it,
// "unix:///run/containerd/containerd.sock", and asks for its version.
func Open(ctx context.Context, socket string, dial Dial) (*Client, error) {
	path := strings.TrimPrefix(socket, "unix://")
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("runtime socket %q is not an absolute path; hint: such as /run/containerd/containerd.sock", socket)
	}
	conn, err := grpc.NewClient("passthrough:///localhost",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the socket is for root alone
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, "unix", path) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("runtime at %s: %w", path, err)
	}
	c := &Client{
		socket: path, conn: conn,
		runtime: runtime.NewRuntimeServiceClient(conn), images: runtime.NewImageServiceClient(conn),
	}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *Client) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := c.runtime.Version(ctx, &runtime.VersionRequest{})
	if err != nil {
		return c.failed("version", err)
	}
	c.version = Version{
		RuntimeName: got.GetRuntimeName(), RuntimeVersion: got.GetRuntimeVersion(), RuntimeAPIVersion: got.GetRuntimeApiVersion(),
	}
	if c.version.RuntimeAPIVersion != "v1" {
		return fmt.Errorf("runtime at %s: %s %s speaks CRI %q, and Kubernetes v1; hint: update it",
			c.socket, c.version.RuntimeName, c.version.RuntimeVersion, c.version.RuntimeAPIVersion)
	}
	return nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Version is what the runtime told when it was opened.
func (c *Client) Version() Version { return c.version }

// Condition is one thing that has to hold before a runtime can run pods.
type Condition struct {
	Type            string // "RuntimeReady"; "NetworkReady", which comes with the pod network and not before
	Ready           bool
	Reason, Message string // of one that does not hold
}

// Conditions are the runtime's conditions, in its order.
func (c *Client) Conditions(ctx context.Context) ([]Condition, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := c.runtime.Status(ctx, &runtime.StatusRequest{})
	if err != nil {
		return nil, c.failed("status", err)
	}
	var conditions []Condition
	for _, one := range got.GetStatus().GetConditions() {
		conditions = append(conditions, Condition{one.GetType(), one.GetStatus(), one.GetReason(), one.GetMessage()})
	}
	return conditions, nil
}

// failed names the runtime, and tells what to do about the errors that users meet.
func (c *Client) failed(what string, err error) error {
	hint := ""
	switch status.Code(err) {
	case codes.Unimplemented:
		hint = "; hint: CRI v1 is not served there: the runtime is too old, or its configuration switches CRI off. Docker's " +
			"packages do: take cri out of disabled_plugins in /etc/containerd/config.toml, and restart containerd"
	case codes.Unavailable:
		hint = "; hint: see whether the runtime runs and listens there"
	}
	return fmt.Errorf("runtime at %s: %s: %w%s", c.socket, what, err, hint)
}
