package phases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// LeaveEndpoint has kubeadm and joining hosts find a cluster at a control plane that stays, where they were told the
// address of one that leaves. What nodes and pods go by is the load balancers' list.
func LeaveEndpoint(l *Leave) workflow.Phase {
	return objectPhase(l.c, "leave-endpoint", "let the cluster be found at a control plane that stays", func(ctx context.Context) ([]*unstructured.Unstructured, error) {
		if !l.movable() {
			return nil, nil
		}
		client, err := l.c.Kube(ctx)
		if err != nil {
			return nil, err
		}
		return together(nil,
			func() ([]*unstructured.Unstructured, error) { return l.movedConfig(ctx, client) },
			func() ([]*unstructured.Unstructured, error) { return l.movedInfo(ctx, client) })
	})
}

// movable tells whether the endpoint is the address of a control plane, and ours to choose.
func (l *Leave) movable() bool {
	t := l.c.Config.Spec.LoadBalancer.Type
	return t == "" || t == config.LoadBalancerNodeLocal
}

// movedConfig is kubeadm's configuration with another endpoint; nothing when the one that it has stays.
func (l *Leave) movedConfig(ctx context.Context, r kube.Reader) ([]*unstructured.Unstructured, error) {
	ref := kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: manifests.KubeadmConfigName}
	have, err := kube.Get[corev1.ConfigMap](ctx, r, ref)
	if err != nil {
		return nil, err
	}
	stored := []byte(have.Data[manifests.KubeadmConfigKey])
	var cluster config.Cluster
	if err := config.FromKubeadm(stored, &cluster); err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if !l.leads(cluster.Spec.ControlPlaneEndpoint) {
		return nil, nil
	}
	data, err := config.UpdateKubeadm(stored, l.c.Config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return manifests.KubeadmConfig(data)
}

// movedInfo is what joining hosts read before they trust anything, likewise.
func (l *Leave) movedInfo(ctx context.Context, r kube.Reader) ([]*unstructured.Unstructured, error) {
	ref := kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-public", Name: manifests.ClusterInfoName}
	have, err := kube.Get[corev1.ConfigMap](ctx, r, ref)
	if kube.NotFound(err) {
		return nil, nil // hosts do not join by token there
	}
	if err != nil {
		return nil, err
	}
	info, err := clientcmd.Load([]byte(have.Data[manifests.ClusterInfoKey]))
	if err != nil || len(info.Clusters) != 1 {
		return nil, fmt.Errorf("%s: key %s is no kubeconfig of one cluster; hint: myadm init phase bootstrap-token writes it anew", ref, manifests.ClusterInfoKey)
	}
	for _, cluster := range info.Clusters {
		if u, err := url.Parse(cluster.Server); err == nil && l.leads(u.Host) {
			return manifests.ClusterInfo(l.c.Config.Endpoint(), cluster.CertificateAuthorityData)
		}
	}
	return nil, nil
}

// moveEndpoint finds another endpoint for a cluster whose own is a control plane that leaves.
func (l *Leave) moveEndpoint(force bool) error {
	endpoint := l.c.Config.Endpoint()
	switch {
	case !l.leads(endpoint) && endpoint != "":
		return nil
	case !l.movable() && !force:
		// Nodes have it in their kubeconfigs, and go on asking there.
		return fmt.Errorf("the cluster's endpoint %s is a control plane that leaves, and the other nodes would lose the API; hint: lead that address to another control plane first", endpoint)
	case !l.movable():
		return nil
	}
	heir, ok := l.heir()
	if !ok {
		return errors.New("no control plane that stays is known; hint: name it in the document")
	}
	l.c.Config.Spec.ControlPlaneEndpoint = heir
	return nil
}

// heir is the host:port of an API server that stays: of a control plane that is known to be in the cluster, if there is one.
func (l *Leave) heir() (endpoint string, ok bool) {
	for _, n := range l.heirs {
		return localEndpoint(l.c, n), true
	}
	for _, server := range l.c.APIServers() {
		return server.String(), true
	}
	return "", false
}

// leads tells whether a host:port is one that leaves.
func (l *Leave) leads(endpoint string) bool {
	name, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return false
	}
	addr, _ := netip.ParseAddr(name)
	return slices.ContainsFunc(l.c.Leaving, func(h config.Host) bool {
		return name == h.Address || addr.IsValid() && addr == addressOf(h)
	})
}

// addressOf is where the other nodes reach a host; the zero Addr when that is not known before the host is reached.
func addressOf(h config.Host) netip.Addr {
	for _, candidate := range []string{h.AdvertiseAddress, h.Address} {
		if addr, err := netip.ParseAddr(candidate); err == nil {
			return addr
		}
	}
	return netip.Addr{}
}

// askNodes tells the hosts by the cluster's Nodes. Of those that are gone it completes the address, by which the cluster's
// lists have them. Those of the document that have not joined are forgotten: leaving adds nobody to the lists.
func (l *Leave) askNodes(ctx context.Context, r kube.Reader) error {
	nodes, err := kube.List[corev1.Node](ctx, r, kube.Selector{APIVersion: "v1", Kind: "Node"})
	if err != nil {
		return err
	}
	addresses := map[string]string{} // by name
	for _, n := range nodes {
		addresses[n.Name] = ""
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP && addresses[n.Name] == "" {
				addresses[n.Name] = a.Address
			}
		}
	}
	for i := range l.c.Leaving {
		h := &l.c.Leaving[i]
		h.AdvertiseAddress = cmp.Or(h.AdvertiseAddress, addresses[h.Name])
	}
	l.c.Config.Spec.Hosts = slices.DeleteFunc(l.c.Config.Spec.Hosts, func(h config.Host) bool {
		_, joined := addresses[h.Name]
		return !joined
	})
	return nil
}
