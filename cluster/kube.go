package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
)

// ErrNoCluster says that no control plane has a kubeconfig of an administrator: there is no cluster yet.
var ErrNoCluster = errors.New("there is no cluster on the control plane yet; hint: run myadm init first")

// aliveTimeout is how long a control plane may take to say that its API server is ready, when there are others to ask.
const aliveTimeout = 2 * time.Second

// Kube is the API as an administrator, reached through the connection to a control plane, so that the operator needs
// no route to it. Of several control planes it is the first whose API server is ready; those that are leaving come last.
// The client is then kept, for as long as that control plane is there; with one control plane, or none that is ready, it is
// no sign that the API answers.
func (c *Cluster) Kube(ctx context.Context) (*kube.Client, error) {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	c.mu.Lock()
	kept, aside, nodes := c.client, c.aside, c.stayingFirst()
	c.mu.Unlock()
	if kept != nil && !c.gone(kept) {
		return kept, nil
	}
	slices.SortStableFunc(nodes, func(a, b *Node) int { return cmp.Compare(ended(a), ended(b)) })
	var candidates []*kube.Client
	var errs []error
	kubeconfigs := make([]func() ([]byte, error), len(nodes))
	for i, n := range nodes {
		kubeconfigs[i] = func() ([]byte, error) { return nil, nil }
		if c.clients[n] == nil {
			kubeconfigs[i] = begin(func() ([]byte, error) { return AdminKubeconfig(ctx, n) })
		}
	}
	for i, n := range nodes {
		client, err := c.through(n, kubeconfigs[i])
		switch {
		case err == nil:
			candidates = append(candidates, client)
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
		}
	}
	switch len(candidates) {
	case 0:
		return nil, cmp.Or(errors.Join(errs...), ErrNoCluster)
	case 1:
		if len(c.ControlPlanes()) == 1 {
			c.keep(candidates[0], aside)
		}
		return candidates[0], nil
	}
	alive, err := firstAlive(ctx, candidates)
	if err != nil {
		return nil, err
	}
	if alive == nil {
		return candidates[0], nil
	}
	c.keep(alive, aside)
	return alive, nil
}

// gone tells whether the control plane that a client goes through is. c.connecting is held.
func (c *Cluster) gone(client *kube.Client) bool {
	for n, through := range c.clients {
		if through == client {
			return ended(n) == 1
		}
	}
	return false
}

// ended is 1 for a host that is gone, and 0 for others.
func ended(n *Node) int {
	if n.Alive().Err() != nil {
		return 1
	}
	return 0
}

// keep has Kube give a client from now on, unless another control plane has been set aside since that one was chosen.
func (c *Cluster) keep(client *kube.Client, aside *Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aside == aside {
		c.client = client
	}
}

// FreshKube is Kube by a connection of its own, which the caller closes. Nothing is kept of it: it can be asked for while a
// cluster is being made, whose kubeconfigs and API servers come one after the other. It waits for nobody who uses Kube.
func (c *Cluster) FreshKube(ctx context.Context) (*kube.Client, error) {
	c.mu.Lock()
	order := c.stayingFirst()
	c.mu.Unlock()
	clients := make([]*kube.Client, len(order))
	errs := make([]error, len(order))
	var wg sync.WaitGroup
	for i, n := range order {
		wg.Go(func() { clients[i], errs[i] = c.connect(n, func() ([]byte, error) { return AdminKubeconfig(ctx, n) }) })
	}
	wg.Wait()
	clients = slices.DeleteFunc(clients, func(client *kube.Client) bool { return client == nil })
	if len(clients) == 0 {
		errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, fs.ErrNotExist) })
		return nil, cmp.Or(errors.Join(errs...), ErrNoCluster)
	}
	chosen := clients[0]
	if len(clients) > 1 {
		alive, err := firstAlive(ctx, clients)
		if err != nil {
			chosen = nil
		} else if alive != nil {
			chosen = alive
		}
	}
	for _, client := range clients {
		if client != chosen {
			client.Close()
		}
	}
	if chosen == nil {
		return nil, context.Cause(ctx)
	}
	return chosen, nil
}

// firstAlive is the first of the clients whose API server says that it is ready; nil when none does in time.
func firstAlive(ctx context.Context, clients []*kube.Client) (*kube.Client, error) {
	asking, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	answers := make([]chan bool, len(clients))
	for i, client := range clients {
		answers[i] = make(chan bool, 1)
		go func() { answers[i] <- client.Health(asking, "/readyz") == nil }()
	}
	for i, client := range clients {
		if <-answers[i] {
			return client, nil
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, nil
}

// begin starts a call; what it returns waits for the result.
func begin[T any](call func() (T, error)) func() (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := call()
		done <- result{value, err}
	}()
	return func() (T, error) {
		r := <-done
		return r.value, r.err
	}
}

// through is the API as the administrator of one control plane, who has this kubeconfig, reaches it. c.connecting is held.
func (c *Cluster) through(n *Node, kubeconfig func() ([]byte, error)) (*kube.Client, error) {
	if client, ok := c.clients[n]; ok {
		return client, nil
	}
	client, err := c.connect(n, kubeconfig)
	if err != nil {
		return nil, err
	}
	if c.clients == nil {
		c.clients = map[*Node]*kube.Client{}
	}
	c.clients[n] = client
	return client, nil
}

// connect makes a client of a control plane's kubeconfig.
func (c *Cluster) connect(n *Node, kubeconfig func() ([]byte, error)) (*kube.Client, error) {
	data, err := kubeconfig()
	if err != nil {
		return nil, err
	}
	switch c.Config.Spec.LoadBalancer.Type {
	case config.LoadBalancerExternal, config.LoadBalancerKeepalived:
		// The endpoint may be moving just now, or send this to another control plane.
		if data, _, err = certs.PointAt(data, "https://"+c.ownServer(n)); err != nil {
			return nil, err
		}
	}
	return kube.Connect(data, n.dialAPI, kube.Options{Version: c.Version})
}

// dialAPI is Dial, which tells when no further attempt can succeed since the host is gone.
func (n *Node) dialAPI(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := n.Dial(ctx, network, address)
	if err != nil && n.Alive().Err() != nil {
		return nil, fmt.Errorf("%w: %w", kube.ErrGone, err)
	}
	return conn, err
}

// ownServer is the API server of a control plane itself.
func (c *Cluster) ownServer(n *Node) string {
	return net.JoinHostPort(n.Spec.AdvertiseAddress, strconv.Itoa(int(c.Config.Spec.APIServerPort)))
}

// AdminKubeconfig reads a control plane's strongest kubeconfig: super-admin.conf, which works before there is any RBAC
// and which init leaves on the first control plane, else admin.conf.
func AdminKubeconfig(ctx context.Context, r host.Reader) ([]byte, error) {
	admin := begin(func() ([]byte, error) { return r.ReadFile(ctx, config.AdminConf) })
	data, err := r.ReadFile(ctx, config.SuperAdminConf)
	if errors.Is(err, fs.ErrNotExist) {
		return admin()
	}
	return data, err
}
