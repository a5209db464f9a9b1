package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/status"
	"github.com/myadm/myadm/workflow"
)

// State is a cluster as it was found before an upgrade: what runs where, and what could stand in the way.
type State struct {
	Report    *status.Report    // nodes, health of control planes and etcd, certificates, hosts that were not reached
	Hosts     []HostState       // that were reached, in the document's order
	Addons    []Addon           // that the cluster has, CoreDNS first
	Budgets   []Budget          // that allow no disruption now, by namespace and name
	Requested []RequestedAPI    // deprecated APIs that somebody asked an API server for, by group, version and resource
	Config    map[string]string // the cluster's configuration, by ConfigMap and key: see configKey
	Rights    []workflow.Change // what roles and bindings lack
	Unknown   []error           // questions that were not answered; what they were about is empty
}

// Version is that of Kubernetes as the cluster's own configuration says, vX.Y.Z. Empty: it does not say.
func (s *State) Version() string { return s.Report.KubernetesVersion }

// Host finds a host by its node's name; nil when there is none.
func (s *State) Host(name string) *HostState {
	i := slices.IndexFunc(s.Hosts, func(h HostState) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Hosts[i]
}

// node is a node's state; nil when the API knows none of that name.
func (s *State) node(name string) *status.Node {
	i := slices.IndexFunc(s.Report.Nodes, func(n status.Node) bool { return n.Name == name && n.Registered })
	if i < 0 {
		return nil
	}
	return &s.Report.Nodes[i]
}

// HostState is a host as it was found.
type HostState struct {
	Name         string
	Arch         string
	ControlPlane bool  // it has the API server's static pod
	Err          error // why it could not be asked; then all below is empty

	Manifests    map[string][]byte // static pods, by the names of their components
	KubeletFlags []byte            // kubeadm-flags.env
	Kubelet      []byte            // the kubelet's configuration
	KubeletPath  string            // of the kubelet's binary; empty: its unit names none
	OwnRuntime   bool              // myadm brought its containerd

	Disks   map[string]space // by folder
	EtcdDir string           // where etcd's data is, or would be
	EtcdDB  int64            // bytes of etcd's database; 0: there is none

	LoadBalancer []workflow.Change // what its load balancer of the API servers lacks

	Artifacts []bundle.Artifact // that the bundle has for the host
	Missing   []bundle.Artifact // those of them that the host has not
	BundleErr error             // the bundle has nothing for the host

	programs staticpod.Programs
	images   map[string]string // digests by name, of those in its containerd; nil: unknown
}

// Version is what a program on the host says of its version, as v1.37.2; of several, the oldest. Empty: none runs.
func (h *HostState) Version(program string) string {
	v := h.programs.Versions[program]
	if v == nil {
		return ""
	}
	return "v" + v.String()
}

// space is the room of a folder.
type space struct {
	mount string // of the filesystem that the folder is on, or would be
	free  int64  // bytes
}

// surveyTimeout bounds what one host or API server is asked. A host runs some programs to learn their versions.
const surveyTimeout = 30 * time.Second

// Survey looks at a cluster before an upgrade and changes nothing, c's document included. Each host is asked once for what
// it runs, all of them at the same time. What does not answer is part of the State; the error is that there is no cluster
// (cluster.ErrNoCluster), or that ctx has ended.
func Survey(ctx context.Context, c *cluster.Cluster) (*State, error) {
	balancers := surveyBalancers(ctx, c)
	c = c.Of(c.Nodes) // Gather puts what the cluster says in place of its document
	report, err := gather(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &State{Report: report, Hosts: make([]HostState, len(c.Nodes))}
	api := &apiAnswers{state: s}
	var wg sync.WaitGroup
	for i, n := range c.Nodes {
		wg.Go(func() { s.Hosts[i] = surveyHost(ctx, c, n).with(balancers[i]) })
		if runsControlPlane(report, n.Spec.Name) {
			wg.Go(func() { api.requested(ctx, c, n) })
		}
	}
	if report.APIError == "" {
		wg.Go(func() { api.ask(ctx, c) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	api.sort()
	return s, nil
}

// gather asks for the cluster's health, and once more if it is ill: one answer that came too late is no illness.
func gather(ctx context.Context, c *cluster.Cluster) (*status.Report, error) {
	report, err := status.Gather(ctx, c)
	if err != nil || report.Healthy {
		return report, err
	}
	return status.Gather(ctx, c)
}

func runsControlPlane(r *status.Report, name string) bool {
	return slices.ContainsFunc(r.ControlPlanes, func(p status.ControlPlane) bool { return p.Name == name })
}

// surveyHost asks a host, and compares it with the bundle.
func surveyHost(ctx context.Context, c *cluster.Cluster, n *cluster.Node) HostState {
	ctx, cancel := context.WithTimeoutCause(ctx, surveyTimeout, errors.New("the host did not answer in time"))
	defer cancel()
	wanted, err := hostArtifacts(c, n)
	h := askHost(ctx, c, n, wanted)
	h.Name, h.Arch, h.EtcdDir, h.Artifacts, h.BundleErr = n.Spec.Name, n.Facts.Arch, c.Config.Spec.Etcd.DataDir, wanted, err
	return h
}

// balancerState is what a host's load balancer lacks, by the document.
type balancerState struct {
	changes []workflow.Change
	err     error
}

// surveyBalancers looks at the load balancers of all nodes, which an upgrade completes.
func surveyBalancers(ctx context.Context, c *cluster.Cluster) []balancerState {
	states := make([]balancerState, len(c.Nodes))
	var wg sync.WaitGroup
	for i, n := range c.Nodes {
		phase := phases.LoadBalancer(c, []*cluster.Node{n})
		if len(phase.Hosts) == 0 {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeoutCause(ctx, surveyTimeout, errors.New("the host did not answer in time"))
			defer cancel()
			states[i].changes, states[i].err = phase.Check(ctx, n)
		})
	}
	wg.Wait()
	return states
}

// with adds a load balancer to what was found on a host.
func (h HostState) with(b balancerState) HostState {
	h.LoadBalancer = b.changes
	if b.err != nil && h.Err == nil {
		h.Err = fmt.Errorf("look at its load balancer: %w", b.err)
	}
	return h
}

// hostArtifacts is what the bundle has for a host. It is nothing without a bundle.
func hostArtifacts(c *cluster.Cluster, n *cluster.Node) ([]bundle.Artifact, error) {
	if c.Bundle == nil {
		return nil, nil
	}
	runtime, others, err := phases.NodeBinaries(c, n)
	if err != nil {
		return nil, err
	}
	images, err := phases.NodeImages(c, n)
	return slices.Concat(runtime, others, images), err
}
