package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
)

// answerTimeout bounds each question. What has not answered by then is down for whoever asks for the state of a cluster.
const answerTimeout = 2 * time.Second

var errNoAnswer = fmt.Errorf("no answer within %s", answerTimeout)

// Gather asks everything that can be reached, at the same time, and judges what it saw. What does not answer is part of
// the Report. It is an error if there is no cluster (cluster.ErrNoCluster), or when ctx ends. What the cluster says of
// itself takes the place of what c.Config says of it.
func Gather(ctx context.Context, c *cluster.Cluster) (*Report, error) {
	r := &Report{Time: c.Now().UTC(), Nodes: []Node{}, ControlPlanes: []ControlPlane{}, Missing: []MissingHost{}}
	for _, m := range c.Missing {
		r.Missing = append(r.Missing, missingHost(m))
	}

	// First what the rest is asked by: which hosts are control planes, and what the endpoint is.
	var api apiAnswer
	hosts := make([]hostAnswer, len(c.Nodes))
	var wg sync.WaitGroup
	wg.Go(func() { api = askAPI(ctx, c) })
	for i, n := range c.Nodes {
		wg.Go(func() { hosts[i] = lookAt(ctx, n, r.Time) })
	}
	wg.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(api.err, cluster.ErrNoCluster):
		return nil, api.err
	}
	r.APIError = text(api.err)
	c.Config = cmp.Or(api.config, c.Config)

	r.Endpoint = endpoint(c.Config)
	r.Endpoint.Answers = make([]Answer, len(c.Nodes))
	for i, n := range c.Nodes {
		wg.Go(func() { r.Endpoint.Answers[i] = askEndpoint(ctx, n, r.Endpoint.NodeAddress) })
		if hosts[i].controlPlane {
			wg.Go(func() { hosts[i].components = askComponents(ctx, c, n, hosts[i].pods) })
		}
	}
	wg.Go(func() { r.Etcd = askEtcd(ctx, c) })
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}

	r.Name, r.KubernetesVersion = c.Config.Metadata.Name, api.version
	for i, n := range c.Nodes {
		if hosts[i].controlPlane {
			r.ControlPlanes = append(r.ControlPlanes, hosts[i].report(n.Spec.Name))
		}
	}
	r.Nodes = nodes(api, c)
	r.Warnings = Judge(r)
	r.Healthy = len(r.Warnings) == 0
	return r, nil
}

// errUnreached takes the place of cluster.ErrNoCluster where a control plane is missing: there may well be a cluster.
var errUnreached = errors.New("no control plane of the cluster was reached")

// reached is the error of a client that is made with what stands on a control plane.
func reached(ctx context.Context, c *cluster.Cluster, err error) error {
	missing := slices.ContainsFunc(c.Missing, func(m cluster.Missing) bool { return m.Spec.HasRole(config.RoleControlPlane) })
	if missing && errors.Is(err, cluster.ErrNoCluster) {
		return errUnreached
	}
	return cause(ctx, err)
}

func missingHost(m cluster.Missing) MissingHost {
	name := cmp.Or(m.Spec.Name, m.Spec.Address)
	return MissingHost{
		Name: name, ControlPlane: m.Spec.HasRole(config.RoleControlPlane),
		Error: strings.TrimPrefix(m.Err.Error(), name+": "), // transports name the host as well
	}
}

// endpoint is what a document with its defaults says of the way to the API.
func endpoint(cfg *config.Cluster) Endpoint {
	return Endpoint{
		Address: cfg.Endpoint(), NodeAddress: cfg.NodeEndpoint(), LoadBalancer: cmp.Or(cfg.Spec.LoadBalancer.Type, "none"),
	}
}

// nodes are the API's nodes and the document's hosts: control planes first, each by name.
func nodes(api apiAnswer, c *cluster.Cluster) []Node {
	list := append([]Node{}, api.nodes...)
	for _, h := range c.Config.Spec.Hosts {
		i := slices.IndexFunc(list, func(n Node) bool { return n.Name == h.Name })
		reached := slices.ContainsFunc(c.Nodes, func(n *cluster.Node) bool { return n.Spec.Name == h.Name })
		switch {
		case h.Name == "": // a host that was not reached; the API may know it by a name that nobody here does
		case i >= 0:
			list[i].Reached = reached
		default:
			list = append(list, Node{Name: h.Name, Roles: rolesOf(h), Address: h.AdvertiseAddress, Reached: reached})
		}
	}
	slices.SortStableFunc(list, func(a, b Node) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Name, b.Name))
	})
	return list
}

func rank(n Node) int {
	if slices.Contains(n.Roles, string(config.RoleControlPlane)) {
		return 0
	}
	return 1
}

func rolesOf(h config.Host) []string {
	roles := make([]string, len(h.Roles))
	for i, r := range h.Roles {
		roles[i] = string(r)
	}
	return roles
}
