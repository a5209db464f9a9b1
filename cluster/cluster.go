// Package cluster is what a phase is built from: the Cluster document, the hosts that it names, open and asked who they
// are, the bundle, and clients of the API that are made when they are first needed.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/delivery"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
)

// Node is a host of the cluster, connected.
type Node struct {
	host.Host
	Spec  config.Host // with Name and AdvertiseAddress filled in
	Facts Facts
}

// AdvertiseAddress is the IP that the other nodes use.
func (n *Node) AdvertiseAddress() netip.Addr {
	addr, _ := netip.ParseAddr(n.Spec.AdvertiseAddress) // set by resolve, which parsed it
	return addr
}

// Cluster is the document with its hosts, open.
type Cluster struct {
	Config  *config.Cluster
	Nodes   []*Node        // in the document's order
	Missing []Missing      // the document's other hosts, likewise
	Bundle  *bundle.Bundle // nil: nothing is to be sent
	Now     func() time.Time
	Rand    io.Reader
	Version string // of myadm, for the API's user agent

	// Learned are the API servers that the cluster itself names, once it was asked. Not all of them need be in the document.
	Learned []netip.AddrPort

	// Leaving are the hosts that are being taken out of the cluster. The document does not name them any more.
	Leaving []config.Host

	mu      sync.Mutex // never held while a host or the API is asked
	deliver *delivery.Delivery
	client  *kube.Client
	aside   *Node // a control plane that is at work on itself; nil: none
	parts   []*Cluster

	connecting sync.Mutex             // held while Kube looks for an API server
	clients    map[*Node]*kube.Client // of each control plane that has a kubeconfig

	etcd etcdClient
}

// Missing is a host of the document that Open could not use.
type Missing struct {
	Spec config.Host
	Err  error
}

// Opener connects to a host of the document.
type Opener func(ctx context.Context, spec config.Host) (host.Host, error)

// Options are what Open needs besides the document.
type Options struct {
	Open    Opener
	Bundle  *bundle.Bundle
	Now     func() time.Time
	Rand    io.Reader
	Version string

	Concurrency int // to how many hosts connections are made at once; zero: to all
}

// Open connects to all hosts of the document at once, or as many as opts allow, and asks them for their facts. A host that fails is among Missing
// instead of Nodes, and its error among the errors that are joined; the caller decides whether the rest is enough. Close
// closes the connections, also after an error.
func Open(ctx context.Context, cfg *config.Cluster, opts Options) (*Cluster, error) {
	c := &Cluster{Config: cfg, Bundle: opts.Bundle, Now: opts.Now, Rand: opts.Rand, Version: opts.Version}
	nodes := make([]*Node, len(cfg.Spec.Hosts))
	errs := make([]error, len(cfg.Spec.Hosts))
	var all errgroup.Group
	if opts.Concurrency > 0 {
		all.SetLimit(opts.Concurrency)
	}
	for i, spec := range cfg.Spec.Hosts {
		all.Go(func() error {
			nodes[i], errs[i] = open(ctx, spec, opts)
			return nil
		})
	}
	all.Wait() //nolint:errcheck // the errors are in errs
	for i, n := range nodes {
		if n == nil {
			c.Missing = append(c.Missing, Missing{cfg.Spec.Hosts[i], errs[i]})
			continue
		}
		c.Nodes = append(c.Nodes, n)
		cfg.Spec.Hosts[i] = n.Spec
	}
	errs = append(errs, unique(c.Nodes))
	return c, errors.Join(errs...)
}

func open(ctx context.Context, spec config.Host, opts Options) (*Node, error) {
	h, err := opts.Open(ctx, spec)
	if err != nil {
		return nil, err // the transports name the host and the way to it
	}
	n := &Node{Host: h, Spec: spec}
	if n.Facts, err = ReadFacts(ctx, h, opts.Now); err == nil {
		err = n.resolve()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", h.Name(), err), h.Close())
	}
	return n, nil
}

// Delivery is the node as artifacts are delivered to it.
func (n *Node) Delivery() delivery.Host {
	return delivery.Host{Host: n.Host, Arch: n.Facts.Arch, Address: n.AdvertiseAddress()}
}

// resolve fills in what the document leaves to the host.
func (n *Node) resolve() error {
	if n.Spec.Name == "" {
		n.Spec.Name = strings.ToLower(n.Facts.Hostname)
	}
	if n.Spec.AdvertiseAddress == "" {
		addr, ok := n.ownAddress()
		if !ok {
			return fmt.Errorf("found no address that other nodes could use; hint: set advertiseAddress of host %s", n.Spec.Name)
		}
		n.Spec.AdvertiseAddress = addr.String()
	}
	if _, err := netip.ParseAddr(n.Spec.AdvertiseAddress); err != nil {
		return fmt.Errorf("advertiseAddress of host %s: %w", n.Spec.Name, err)
	}
	return nil
}

// ownAddress is where SSH reaches the host when that is an address of its own and not one that is translated on the
// way; else the source of its default route, else its first address.
func (n *Node) ownAddress() (netip.Addr, bool) {
	if at, err := netip.ParseAddr(n.Spec.Address); err == nil {
		for _, a := range n.Facts.Addresses {
			if a == at {
				return a, true
			}
		}
	}
	if n.Facts.RouteSource.IsValid() {
		return n.Facts.RouteSource, true
	}
	if len(n.Facts.Addresses) > 0 {
		return n.Facts.Addresses[0], true
	}
	return netip.Addr{}, false
}

// unique refuses what would let two hosts be taken for one: a node name, an address or a machine-id that is there twice.
func unique(nodes []*Node) error {
	var errs []error
	seen := map[string]*Node{}
	for _, n := range nodes {
		for _, id := range []struct{ what, value, hint string }{
			{"node name", n.Spec.Name, "set name of one of them"},
			{"address", n.Spec.AdvertiseAddress, "set advertiseAddress of one of them"},
			{"machine-id", n.Facts.MachineID, "the hosts are clones; remove /etc/machine-id on one and run systemd-machine-id-setup"},
		} {
			if id.value == "" {
				continue
			}
			key := id.what + " " + id.value
			if other, ok := seen[key]; ok {
				errs = append(errs, fmt.Errorf("%s and %s both have the %s %s; hint: %s", other.Name(), n.Name(), id.what, id.value, id.hint))
				continue
			}
			seen[key] = n
		}
	}
	return errors.Join(errs...)
}

// Close closes every connection.
func (c *Cluster) Close() error {
	c.etcd.close()
	for _, part := range c.parts {
		part.etcd.close()
	}
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Host.Close())
	}
	return errors.Join(errs...)
}

// Of is the cluster as if it had no other hosts than these, which c goes on to own. Clients of the API are its own.
func (c *Cluster) Of(nodes []*Node) *Cluster {
	document := *c.Config
	document.Spec.Hosts = nil
	for _, n := range nodes {
		document.Spec.Hosts = append(document.Spec.Hosts, n.Spec)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	part := &Cluster{
		Config: &document, Nodes: nodes, Bundle: c.Bundle, Now: c.Now, Rand: c.Rand, Version: c.Version, Learned: c.Learned, deliver: c.deliver,
		Leaving: c.Leaving, Missing: c.Missing,
	}
	c.parts = append(c.parts, part)
	return part
}

// WithRole returns the nodes that have the role.
func (c *Cluster) WithRole(role config.Role) []*Node {
	var nodes []*Node
	for _, n := range c.Nodes {
		if n.Spec.HasRole(role) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// ControlPlanes returns the nodes that run the control plane.
func (c *Cluster) ControlPlanes() []*Node { return c.WithRole(config.RoleControlPlane) }

// SetAside has the cluster be reached through other control planes than n, and n's API server be left out of APIServers,
// until TakeBack: what runs there is about to be replaced. A cluster's only control plane is never set aside.
func (c *Cluster) SetAside(n *Node) {
	if len(c.ControlPlanes()) < 2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aside, c.client = n, nil
}

// TakeBack undoes SetAside.
func (c *Cluster) TakeBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aside, c.client = nil, nil
}

func (c *Cluster) isAside(n *Node) bool { return n == c.aside }

// stayingFirst are the control planes in the order in which the cluster is to be reached: what goes through one that is
// leaving, or set aside, may end under way. c.mu is held.
func (c *Cluster) stayingFirst() []*Node {
	var staying, leaving []*Node
	for _, n := range c.ControlPlanes() {
		if c.IsLeaving(n.Spec) || c.isAside(n) {
			leaving = append(leaving, n)
		} else {
			staying = append(staying, n)
		}
	}
	return append(staying, leaving...)
}

// IsLeaving tells whether a host is one of those that are being taken out of the cluster.
func (c *Cluster) IsLeaving(h config.Host) bool {
	return slices.ContainsFunc(c.Leaving, func(l config.Host) bool { return l.Name == h.Name && l.Address == h.Address })
}

// Workers returns the nodes that only run workloads.
func (c *Cluster) Workers() []*Node {
	var nodes []*Node
	for _, n := range c.Nodes {
		if !n.Spec.HasRole(config.RoleControlPlane) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// APIServers are all API servers of the cluster, in order of address: those of the document, reached or not, and those
// that the cluster names, without those that are leaving or set aside.
func (c *Cluster) APIServers() []netip.AddrPort {
	servers := slices.Clone(c.Learned)
	for _, h := range c.Config.Spec.Hosts {
		if at, ok := c.apiServer(h); ok && h.HasRole(config.RoleControlPlane) {
			servers = append(servers, at)
		}
	}
	servers = slices.DeleteFunc(servers, func(s netip.AddrPort) bool {
		return slices.ContainsFunc(c.Leaving, func(h config.Host) bool {
			at, ok := c.apiServer(h)
			return ok && at == s
		})
	})
	c.mu.Lock()
	aside := c.aside
	c.mu.Unlock()
	if aside != nil {
		at, _ := c.apiServer(aside.Spec)
		servers = slices.DeleteFunc(servers, func(s netip.AddrPort) bool { return s == at })
	}
	slices.SortFunc(servers, netip.AddrPort.Compare)
	return slices.Compact(servers)
}

// apiServer is where a host's API server is, unless that is not known before the host is reached.
func (c *Cluster) apiServer(h config.Host) (netip.AddrPort, bool) {
	for _, candidate := range []string{h.AdvertiseAddress, h.Address} {
		if addr, err := netip.ParseAddr(candidate); err == nil {
			return netip.AddrPortFrom(addr, uint16(c.Config.Spec.APIServerPort)), true
		}
	}
	return netip.AddrPort{}, false
}

// Deliver says how the bundle's artifacts reach the hosts. The caller closes d.
func (c *Cluster) Deliver(d *delivery.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deliver = d
}

// Delivery is what Deliver was given or, without it, sends the bundle's artifacts from here.
func (c *Cluster) Delivery() *delivery.Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deliver == nil {
		return delivery.New(delivery.Options{Way: delivery.Upload, Bundle: c.Bundle, Now: c.Now})
	}
	return c.deliver
}

// Hosts are the seams of the nodes, for a phase. It is never nil, which would be a phase on the cluster itself.
func Hosts(nodes []*Node) []host.Host {
	hosts := make([]host.Host, len(nodes))
	for i, n := range nodes {
		hosts[i] = n
	}
	return hosts
}

// Node finds the node that a phase's Reader belongs to.
func (c *Cluster) Node(r host.Reader) *Node {
	if n, ok := r.(*Node); ok {
		return n
	}
	for _, n := range c.Nodes {
		if n.Name() == r.Name() {
			return n
		}
	}
	return nil
}
