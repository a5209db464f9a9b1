package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/Masterminds/semver/v3"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/upgrade"
)

// State is what a document's hosts are at the moment.
type State struct {
	Founder  *cluster.Node   // the control plane that starts the cluster, or one that is in it and has what all others share
	Members  []*cluster.Node // hosts of a running cluster, the founder first; empty: it is still to be made
	Arriving []*cluster.Node // the others

	versions []*semver.Version // that run: of API servers and kubelets
	cordoned bool              // an upgrade that was cut has left a node so
}

// Survey looks at the hosts, and at the cluster if there is one. It changes nothing.
func Survey(ctx context.Context, c *cluster.Cluster) (*State, error) {
	var founder *cluster.Node
	members, versions := make([]bool, len(c.Nodes)), make([]*semver.Version, len(c.Nodes))
	g, looking := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		founder, err = Founder(looking, c)
		return err
	})
	for i, n := range c.Nodes {
		g.Go(func() (err error) {
			if members[i], err = isMember(looking, n); err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
			return nil
		})
		if n.Spec.HasRole(config.RoleControlPlane) {
			g.Go(func() (err error) {
				if versions[i], err = serverVersion(looking, n); err != nil {
					return fmt.Errorf("%s: %w", n.Name(), err)
				}
				return nil
			})
		}
	}
	// The way to the API takes some round trips: it is made while the hosts are looked at. Whether there is one is told later.
	reaching := make(chan struct{})
	go func() {
		defer close(reaching)
		c.Kube(ctx) //nolint:errcheck // likewise
	}()
	err := g.Wait()
	<-reaching
	if err != nil {
		return nil, err
	}
	s := &State{Founder: founder}
	for i := range versions {
		if !members[i] {
			versions[i] = nil
		}
	}
	for i, n := range c.Nodes {
		switch {
		case n == founder && members[i]:
			s.Members = slices.Insert(s.Members, 0, n)
		case members[i]:
			s.Members = append(s.Members, n)
		default:
			s.Arriving = append(s.Arriving, n)
		}
	}
	servers, _ := split(s.Members)
	if len(servers) == 0 {
		return &State{Founder: founder, Arriving: c.Nodes}, nil
	}
	if !slices.Contains(servers, founder) { // it has lost something, and is taken in again by one that has all
		s.Founder = servers[0]
		s.Members = slices.Insert(without(s.Members, s.Founder), 0, s.Founder)
	}
	running, cordoned := kubelets(ctx, c, s.Members)
	s.versions, s.cordoned = append(versions, running...), cordoned
	s.versions = slices.DeleteFunc(s.versions, func(v *semver.Version) bool { return v == nil })
	return s, nil
}

// From is the oldest version that runs in the cluster; empty when there is none.
func (s *State) From() string {
	if len(s.versions) == 0 {
		return ""
	}
	return "v" + slices.MinFunc(s.versions, (*semver.Version).Compare).String()
}

// Upgrades tells whether something runs in another version than that, or an upgrade has not come to its end.
func (s *State) Upgrades(version string) bool {
	return s.cordoned || slices.ContainsFunc(s.versions, func(v *semver.Version) bool { return "v"+v.String() != version })
}

// isMember tells whether a host has been made a node before: it has all that its kubelet and its static pods begin with.
// Where one of them is missing, the phases that a new host goes through bring it.
func isMember(ctx context.Context, n *cluster.Node) (bool, error) {
	paths := []string{config.KubeletConf, config.KubeletConfigFile}
	if n.Spec.HasRole(config.RoleControlPlane) {
		for _, name := range []string{manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName} {
			paths = append(paths, manifests.StaticPodPath(name))
		}
	}
	all := len(paths)
	infos, err := n.Stat(ctx, append(paths, kubeletUnits...)...)
	if err != nil {
		return false, err
	}
	gone := func(i host.Info) bool { return !i.Exists }
	there := func(i host.Info) bool { return i.Exists }
	return !slices.ContainsFunc(infos[:all], gone) && slices.ContainsFunc(infos[all:], there), nil
}

// kubeletUnits are where the kubelet's unit may be: myadm's place, and those of packages.
var kubeletUnits = []string{manifests.KubeletUnitPath, "/usr/lib/systemd/system/kubelet.service", "/lib/systemd/system/kubelet.service"}

// serverVersion is the version of a control plane's API server, as its static pod names it; nil when it names none.
func serverVersion(ctx context.Context, n *cluster.Node) (*semver.Version, error) {
	data, err := n.ReadFile(ctx, manifests.StaticPodPath(manifests.APIServerName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	image, err := manifests.PodImage(data)
	if err != nil {
		return nil, nil // it is written anew
	}
	version, err := semver.NewVersion(staticpod.ImageVersion(image))
	if err != nil {
		return nil, nil // an image of the user's
	}
	return version, nil
}

// kubelets are the versions that the API has of the members' kubelets, and whether an upgrade has left one of their nodes
// cordoned. Without an answer there are none.
func kubelets(ctx context.Context, c *cluster.Cluster, members []*cluster.Node) (versions []*semver.Version, cordoned bool) {
	client, err := c.Kube(ctx)
	if err != nil {
		return nil, false
	}
	asking, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	nodes, err := kube.List[corev1.Node](asking, client, kube.Selector{APIVersion: "v1", Kind: "Node"})
	if err != nil {
		return nil, false
	}
	for _, node := range nodes {
		if !slices.ContainsFunc(members, func(n *cluster.Node) bool { return n.Spec.Name == node.Name }) {
			continue
		}
		cordoned = cordoned || upgrade.Cordoned(node)
		if v, err := semver.NewVersion(node.Status.NodeInfo.KubeletVersion); err == nil {
			versions = append(versions, v)
		}
	}
	return versions, cordoned
}
