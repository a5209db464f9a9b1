package cmd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/phases"
)

// prune prepares to take hosts out of the cluster that the document does not name any more, and that --prune names. Their
// addresses are those of their Nodes; they are logged in to as the document's first host is, with a host key that
// known_hosts has. A name that no Node has is done with. Nodes that are in neither are told, and stay.
func (f *documentFlags) prune(ctx context.Context, streams Streams, a *application) error {
	for _, name := range f.pruned {
		if slices.ContainsFunc(a.c.Config.Spec.Hosts, func(h config.Host) bool { return h.Name == name }) {
			return usageError{fmt.Errorf("--prune %s: the document names this host; hint: take it out of the document as well, since it would join again", name)}
		}
	}
	if len(a.state.Members) == 0 {
		if len(f.pruned) > 0 {
			return errors.New("--prune: no control plane of the document is in a cluster that somebody could be taken out of; hint: myadm reset cleans hosts")
		}
		return nil
	}
	client, err := a.c.Kube(ctx)
	if err != nil {
		return err
	}
	nodes, err := kube.List[corev1.Node](ctx, client, kube.Selector{APIVersion: "v1", Kind: "Node"})
	if err != nil {
		if len(f.pruned) > 0 || ctx.Err() != nil {
			return fmt.Errorf("--prune: %w", err)
		}
		return nil // what does not answer is brought up first
	}
	var leaving []config.Host
	for _, node := range nodes {
		switch {
		case slices.ContainsFunc(a.c.Config.Spec.Hosts, func(h config.Host) bool { return h.Name == node.Name }):
		case slices.Contains(f.pruned, node.Name):
			leaving = append(leaving, f.hostOf(node, a.c.Config.Spec.Hosts[0].SSH))
		default:
			fmt.Fprintf(streams.Err, "node %s is not in the document, and stays\n  hint: --prune %s takes it out of the cluster\n", node.Name, node.Name)
		}
	}
	for _, name := range f.pruned {
		if slices.ContainsFunc(leaving, func(h config.Host) bool { return h.Name == name }) {
			continue
		}
		if h, ok := f.memberOf(ctx, a, name); ok {
			leaving = append(leaving, h)
			continue
		}
		fmt.Fprintf(streams.Err, "there is no node %s\n  hint: if a run that was to take it out was cut, `myadm reset --host ADDRESS` cleans the host\n", name)
	}
	if len(leaving) == 0 {
		return nil
	}
	asked := *a.c.Config
	asked.Spec.Hosts = leaving
	gone, unreached := f.open(ctx, &asked, nil, streams)
	a.pruned = gone
	if len(gone.Missing) > 0 || len(gone.Nodes) < len(leaving) {
		return fmt.Errorf("--prune: %w; hint: if it is gone for good, put it back into the document and run myadm reset NAME --unreachable -f %s", unreached, f.file)
	}
	for i, n := range gone.Nodes {
		leaving[i] = n.Spec
	}
	all := a.c.Of(append(slices.Clone(a.c.Nodes), gone.Nodes...))
	leave, err := phases.NewLeave(ctx, all, leaving, false)
	if err != nil {
		return err
	}
	for _, w := range leave.Warnings {
		fmt.Fprintf(streams.Err, "warning: %s\n", strings.ReplaceAll(w, "; hint: ", "\n  hint: "))
	}
	a.c.Leaving, a.leave = leaving, leave
	return nil
}

// memberOf is a control plane whose Node is gone, but not its member of etcd: a run that was to take it out was cut.
func (f *documentFlags) memberOf(ctx context.Context, a *application, name string) (config.Host, bool) {
	if a.c.Config.Spec.Etcd.External != nil {
		return config.Host{}, false
	}
	client, err := a.c.Etcd(ctx)
	if err != nil {
		return config.Host{}, false
	}
	members, err := client.KnownMembers(ctx)
	if err != nil {
		return config.Host{}, false
	}
	for _, m := range members {
		if m.Name != name || len(m.PeerURLs) == 0 {
			continue
		}
		u, err := url.Parse(m.PeerURLs[0])
		if err != nil || u.Hostname() == "" {
			continue
		}
		login := a.c.Config.Spec.Hosts[0].SSH
		login.HostKey = ""
		return config.Host{Name: name, Roles: []config.Role{config.RoleControlPlane}, SSH: login, Address: u.Hostname(), AdvertiseAddress: u.Hostname()}, true
	}
	return config.Host{}, false
}

// hostOf is a host as its Node tells of it.
func (f *documentFlags) hostOf(node *corev1.Node, login config.SSH) config.Host {
	login.HostKey = "" // is another's
	h := config.Host{Name: node.Name, Roles: []config.Role{config.RoleWorker}, SSH: login}
	if _, ok := node.Labels["node-role.kubernetes.io/control-plane"]; ok {
		h.Roles = []config.Role{config.RoleControlPlane}
	}
	for _, at := range node.Status.Addresses {
		if at.Type == corev1.NodeInternalIP {
			h.Address, h.AdvertiseAddress = at.Address, at.Address
			break
		}
	}
	return h
}

// close closes the connections to the document's hosts, and to those that leave.
func (a *application) close() {
	_ = a.c.Close() // all is done, or has failed for a reason of its own
	if a.pruned != nil {
		_ = a.pruned.Close()
	}
}
