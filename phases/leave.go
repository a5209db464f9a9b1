package phases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// Leave takes hosts out of a cluster that goes on without them, and cleans those of them that are reached.
//
// First the ways to the API stop leading to them, then their Nodes go, then their etcd members. So whatever is asked of
// the API meanwhile is answered by a control plane that is whole, and little time passes between the end of a member and
// that of the API server beside it. Nothing is done before etcd is known to keep its quorum.
type Leave struct {
	Warnings []string // what the user should know before it begins

	c         *cluster.Cluster
	nodes     []*cluster.Node // those that leave and are reached
	servers   bool            // control planes leave, and not only workers
	followers []*cluster.Node // those that stay, and have a load balancer which is to follow
	heirs     []*cluster.Node // control planes of the cluster that stay

	api  bool            // there is an API that can be told
	ours bool            // and what myadm keeps there for itself
	etcd bool            // there are members of etcd to be removed
	kept map[uint64]bool // members that stay all the same, by force
}

// NewLeave asks the cluster, and changes nothing on it or on a host. leaving are hosts that c has reached, with what it
// knows of them, and hosts that are gone for good. From then on the document does not name them.
//
// The error is an *etcd.QuorumError when etcd could not go on without them, or cannot agree on anything as it is. With
// force, hosts that are reached are cleaned whatever the cluster says, and Warnings tell what it keeps of them. Hosts that
// are the whole of a document may be the last of their cluster.
func NewLeave(ctx context.Context, c *cluster.Cluster, leaving []config.Host, force bool) (*Leave, error) {
	l := &Leave{c: c, kept: map[uint64]bool{}}
	c.Leaving = slices.Clone(leaving)
	c.Config.Spec.Hosts = slices.DeleteFunc(slices.Clone(c.Config.Spec.Hosts), c.IsLeaving)
	alone := len(c.Config.Spec.Hosts) == 0
	if err := l.look(ctx); err != nil {
		return nil, err
	}
	if alone && !l.servers {
		return l, nil // nobody is there who could delete its Node
	}
	err := l.ask(ctx, alone, force)
	if err == nil || ctx.Err() != nil {
		return l, err
	}
	if len(l.nodes) == 0 || !force {
		return nil, l.refusal(err)
	}
	if !l.api {
		l.warn("the cluster keeps what it has of %s: %v; hint: once it answers, reset --unreachable takes that away", l, err)
	}
	return l, nil
}

// refusal says how to go on all the same, if there is anything that could be gone on with.
func (l *Leave) refusal(err error) error {
	if len(l.nodes) == 0 {
		return err
	}
	or := "; hint: "
	if strings.Contains(err.Error(), or) {
		or = ", or: "
	}
	return fmt.Errorf("%w%s--force cleans %s whatever becomes of the cluster", err, or, l)
}

// String names the hosts.
func (l *Leave) String() string {
	names := make([]string, len(l.c.Leaving))
	for i, h := range l.c.Leaving {
		names[i] = cmp.Or(h.Name, h.Address, "this machine")
	}
	return strings.Join(names, ", ")
}

func (l *Leave) warn(format string, args ...any) {
	l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...))
}

// look tells the hosts apart by what they have.
func (l *Leave) look(ctx context.Context) error {
	server, balancer := make([]bool, len(l.c.Nodes)), make([]bool, len(l.c.Nodes))
	g, looking := errgroup.WithContext(ctx)
	for i, n := range l.c.Nodes {
		g.Go(func() error {
			infos, err := n.Stat(looking, manifests.StaticPodPath(manifests.HAProxyName))
			if err == nil {
				balancer[i] = infos[0].Exists
				server[i], err = wasControlPlane(looking, n)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	l.servers = slices.ContainsFunc(l.c.Leaving, func(h config.Host) bool { return h.HasRole(config.RoleControlPlane) })
	for i, n := range l.c.Nodes {
		switch {
		case l.c.IsLeaving(n.Spec):
			l.nodes = append(l.nodes, n)
			if server[i] && !n.Spec.HasRole(config.RoleControlPlane) { // named by --host, which gives no role
				n.Spec.Roles = append(slices.Clone(n.Spec.Roles), config.RoleControlPlane)
			}
			l.servers = l.servers || server[i]
			continue
		case balancer[i]:
			l.followers = append(l.followers, n)
		}
		if server[i] && n.Spec.HasRole(config.RoleControlPlane) {
			l.heirs = append(l.heirs, n)
		}
	}
	return nil
}

// learnPatience is how long the API may take to say what cluster it is.
const learnPatience = 10 * time.Second

// ask learns of the cluster what has to be known before it is changed.
func (l *Leave) ask(ctx context.Context, alone, force bool) error {
	client, err := l.c.Kube(ctx)
	if errors.Is(err, cluster.ErrNoCluster) {
		return l.noCluster(err)
	}
	if err == nil {
		asking, cancel := context.WithTimeout(ctx, learnPatience)
		defer cancel()
		l.ours, err = l.c.Learn(asking, client)
	}
	if l.servers && l.c.Config.Spec.Etcd.External == nil {
		ends, quorumErr := l.askEtcd(ctx, alone, force)
		if ends {
			return nil
		}
		if l.etcd = quorumErr == nil; !l.etcd {
			return quorumErr // which is why the API does not answer either, if it does not
		}
	}
	if err != nil {
		return err
	}
	if err := l.askNodes(ctx, client); err != nil {
		return err
	}
	if alone && len(l.c.APIServers()) == 0 && l.c.Config.Spec.Etcd.External != nil {
		return nil // nobody else serves what is in that etcd
	}
	if l.servers {
		if err := l.moveEndpoint(force); err != nil {
			return err
		}
	}
	l.api = true
	l.warnUnreached()
	return nil
}

// noCluster judges that no host which was reached is a control plane of a cluster.
func (l *Leave) noCluster(err error) error {
	var unknown []error
	for _, m := range l.c.Missing {
		if m.Spec.HasRole(config.RoleControlPlane) {
			unknown = append(unknown, m.Err)
		}
	}
	switch {
	case len(unknown) > 0:
		return fmt.Errorf("no control plane that was reached is in a cluster, and others may be: %w", errors.Join(unknown...))
	case len(l.nodes) == 0:
		return err
	}
	return nil
}

// warnUnreached tells of hosts that stay and cannot be told.
func (l *Leave) warnUnreached() {
	for _, m := range l.c.Missing {
		reason, _, _ := strings.Cut(m.Err.Error(), "; hint: ")
		told := ""
		if l.servers && l.c.Config.Spec.LoadBalancer.Type == config.LoadBalancerNodeLocal {
			told = fmt.Sprintf("; hint: its load balancer goes on asking for %s until myadm join -f reaches it", l)
		}
		l.warn("not reached: %s%s", reason, told)
	}
}

// Steps are what takes the hosts out. Where there is no cluster that could be told, they are only cleaned.
func (l *Leave) Steps() []workflow.Step {
	var steps []workflow.Step
	if l.api && l.servers {
		steps = append(steps, LoadBalancer(l.c, l.followers), LeaveEndpoint(l))
	}
	if l.api && l.ours {
		steps = append(steps, Endpoint(l.c)) // for a worker too: pods were led to its load balancer
	}
	steps = append(steps, quiet(l.nodes)) // a kubelet that is started anew would register its Node again
	if l.api {
		steps = append(steps, DeleteNodes(l.c))
	}
	if l.etcd {
		steps = append(steps, LeaveEtcd(l))
	}
	return append(steps, clean(l.c, l.nodes))
}

// DeleteNodes takes the Nodes of the hosts that leave out of the cluster.
func DeleteNodes(c *cluster.Cluster) workflow.Phase {
	return workflow.Phase{
		Name:  "delete-node",
		Short: "take the nodes out of the cluster",
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			client, err := c.Kube(ctx)
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			for _, h := range c.Leaving {
				ref := nodeRef(h.Name)
				if _, err := client.Get(ctx, ref); err == nil {
					changes = append(changes, workflow.Change{Action: workflow.Delete, Object: ref.String()})
				} else if !kube.NotFound(err) {
					return nil, err
				}
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
			client, err := c.Kube(ctx)
			if err != nil {
				return err
			}
			for _, h := range c.Leaving {
				if err := client.DeleteNode(ctx, h.Name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
