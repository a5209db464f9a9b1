package phases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/etcd"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// EtcdSource is where the data of a restore comes from: a snapshot or a member, one of the two.
type EtcdSource struct {
	Snapshot *host.Blob // of the operator's; where it comes to stand on a host is not its matter
	Member   string     // name of the control plane whose etcd survives
}

// EtcdRestore replaces the data of a cluster's etcd.
//
// One control plane, the target, gets the data and starts a cluster of etcd of which it is the only member. That cluster
// has an ID of its own: members of the old one that come back later can neither join it nor be taken for part of it. The
// other control planes lose their members and their static pods, and join again as new ones do. So hosts that are gone
// for good are no members afterwards, and one that fails on the way keeps nobody else from coming up.
//
// Nothing is deleted: the old data stays beside the new. What the folder of the restore on the target holds says how far
// it got; see restoreFolder.
type EtcdRestore struct {
	Target *cluster.Node
	Others []*cluster.Node // control planes that were reached and have been such before
	Resume bool            // an earlier run of the same restore has put the data in place

	c      *cluster.Cluster
	source EtcdSource
	pod    etcdPodSpec
	folder restoreFolder
	made   bool // this run has made the data
}

// NewEtcdRestore looks at the control planes and changes nothing. It refuses when the target has no etcd to restore to, and
// when a living member of the cluster is on no host that was reached: it would go on with the old data.
func NewEtcdRestore(ctx context.Context, c *cluster.Cluster, source EtcdSource) (*EtcdRestore, error) {
	if c.Config.Spec.Etcd.External != nil {
		return nil, errors.New("etcd is external; hint: restore it with the tools of whoever runs it")
	}
	r := &EtcdRestore{c: c, source: source}
	var reasons []error
	for _, n := range c.ControlPlanes() {
		was, err := wasControlPlane(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name(), err)
		}
		if !was {
			continue
		}
		r.Others = append(r.Others, n)
		if source.Member != "" && source.Member != n.Spec.Name {
			continue
		}
		candidate, err := r.look(ctx, n)
		if err != nil {
			reasons = append(reasons, fmt.Errorf("%s: %w", n.Name(), err))
			continue
		}
		if r.Target == nil || candidate.Resume && !r.Resume { // where an earlier run has begun is where it is finished
			r.Target, r.pod, r.folder, r.Resume = n, candidate.pod, candidate.folder, candidate.Resume
		}
	}
	r.Others = slices.DeleteFunc(r.Others, func(n *cluster.Node) bool { return n == r.Target })
	if r.Target == nil {
		return nil, noTarget(source, reasons)
	}
	if r.Resume {
		return r, nil
	}
	return r, r.refuseStrangers(ctx)
}

func noTarget(source EtcdSource, reasons []error) error {
	err := errors.New("there is no control plane that could be restored; hint: one must be reached, with its certificates and static pods")
	if source.Member != "" {
		err = fmt.Errorf("there is no control plane %s that could be restored; hint: it must be in the document and be reached", source.Member)
	}
	return errors.Join(append([]error{err}, reasons...)...)
}

// wasControlPlane tells whether a host has anything of a control plane that would have to go, or could join again.
func wasControlPlane(ctx context.Context, r host.Reader) (bool, error) {
	infos, err := r.Stat(ctx, config.PKIDir+"/etcd/ca.crt", manifests.StaticPodPath(manifests.EtcdName), manifests.StaticPodPath(manifests.APIServerName))
	return slices.ContainsFunc(infos, func(i host.Info) bool { return i.Exists }), err
}

// targetFiles are what a member needs to start.
var targetFiles = []string{
	config.PKIDir + "/etcd/ca.crt", config.PKIDir + "/etcd/server.crt", config.PKIDir + "/etcd/server.key",
	config.PKIDir + "/etcd/peer.crt", config.PKIDir + "/etcd/peer.key",
}

// look finds out whether a control plane can be the target, and how far an earlier run got there.
func (r *EtcdRestore) look(ctx context.Context, n *cluster.Node) (EtcdRestore, error) {
	infos, err := n.Stat(ctx, targetFiles...)
	if err != nil {
		return EtcdRestore{}, err
	}
	for _, info := range infos {
		if !info.Exists {
			return EtcdRestore{}, fmt.Errorf("%s is not there", info.Path)
		}
	}
	manifest, err := n.ReadFile(ctx, manifests.StaticPodPath(manifests.EtcdName))
	if err != nil {
		return EtcdRestore{}, err
	}
	pod, err := readEtcdPod(manifest)
	if err != nil {
		return EtcdRestore{}, err
	}
	folder := newRestoreFolder(pod.dataDir, r.source)
	state, err := folder.read(ctx, n)
	if err != nil {
		return EtcdRestore{}, err
	}
	if r.source.Member == n.Spec.Name && !state.database && !state.made {
		return EtcdRestore{}, fmt.Errorf("%s is not there; hint: the member has no data that could be restored", folder.database())
	}
	return EtcdRestore{pod: pod, folder: folder, Resume: state.swapped}, nil
}

// refuseStrangers looks for members that are alive on hosts that were not reached.
func (r *EtcdRestore) refuseStrangers(ctx context.Context) error {
	client, err := r.c.Etcd(ctx)
	if err != nil {
		return err
	}
	members, err := client.KnownMembers(ctx)
	if err != nil {
		return ctx.Err() // no member runs that could tell
	}
	ours := append([]*cluster.Node{r.Target}, r.Others...)
	members = slices.DeleteFunc(members, func(m etcd.Member) bool {
		return slices.ContainsFunc(ours, func(n *cluster.Node) bool { return slices.Contains(m.PeerURLs, nodeOf(n).EtcdPeerURL()) })
	})
	for _, o := range etcd.Observe(ctx, client, members) {
		if o.Err == nil {
			return fmt.Errorf("etcd member %s at %s is alive, and its host was not reached: it would go on with the old data; hint: name its host in "+
				"the document, or stop it and reset it before it comes back", o.Member, strings.Join(o.Member.PeerURLs, ", "))
		}
	}
	return ctx.Err()
}

// Steps replace the data on the target, take it away from the others, and wait until the target is a healthy control plane.
func (r *EtcdRestore) Steps(patience time.Duration) []workflow.Step {
	// What can be made of a snapshot is made before anything stops; a member's database is whole once etcd has closed it.
	before, after := []workflow.Step{r.putSnapshot(), r.makeData()}, []workflow.Step(nil)
	if r.source.Member != "" {
		before, after = nil, []workflow.Step{r.makeData()}
	}
	return slices.Concat(
		before,
		[]workflow.Step{
			r.stop(StopService(r.all(), "stop-kubelet", "kubelet.service")),
			r.stop(stopControlPlane(r.c, r.all())),
		},
		after,
		[]workflow.Step{
			r.setAside(),
			r.swap(),
			startKubelet(r.Target),
			WaitControlPlane(r.c, []*cluster.Node{r.Target}, patience),
		},
	)
}

func (r *EtcdRestore) all() []*cluster.Node { return append([]*cluster.Node{r.Target}, r.Others...) }

// Rejoin tells, once the target is healthy, which of the others are to join again, and which have come back with the old
// data, from being unreachable while an earlier run took theirs away from the rest.
func (r *EtcdRestore) Rejoin(ctx context.Context) (joiners, strangers []*cluster.Node, err error) {
	client, err := r.c.Etcd(ctx)
	if err != nil {
		return nil, nil, err
	}
	members, err := client.Members(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range r.Others {
		infos, err := n.Stat(ctx, manifests.StaticPodPath(manifests.APIServerName))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", n.Name(), err)
		}
		member := slices.ContainsFunc(members, func(m etcd.Member) bool { return slices.Contains(m.PeerURLs, nodeOf(n).EtcdPeerURL()) })
		switch {
		case !infos[0].Exists:
			joiners = append(joiners, n)
		case !member:
			strangers = append(strangers, n)
		}
	}
	return joiners, strangers, nil
}

// Finish ends the restore: another one of the same data starts anew.
func (r *EtcdRestore) Finish() workflow.Step {
	return workflow.Phase{
		Name:  "finish-restore",
		Short: "remove what the restore needed",
		Hosts: cluster.Hosts([]*cluster.Node{r.Target}),
		Check: func(ctx context.Context, reader host.Reader) ([]workflow.Change, error) {
			infos, err := reader.Stat(ctx, r.folder.path)
			if err != nil || !infos[0].Exists {
				return nil, err
			}
			return []workflow.Change{{Action: workflow.Delete, Object: r.folder.path}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error { return h.Remove(ctx, r.folder.path) },
	}
}

// Kept lists the folders with old data, of this and of earlier restores, by the name of their host.
func (r *EtcdRestore) Kept(ctx context.Context) (map[string][]string, error) {
	kept := map[string][]string{}
	for _, n := range r.all() {
		dir := r.dataDir(n)
		out, err := n.Query(ctx, host.Command("find", dir, "-maxdepth", "1", "-name", asidePrefix+"*"))
		if err != nil {
			return nil, fmt.Errorf("%s: list %s: %w", n.Name(), dir, err)
		}
		for line := range strings.Lines(string(out)) {
			kept[n.Spec.Name] = append(kept[n.Spec.Name], strings.TrimSpace(line))
		}
		slices.Sort(kept[n.Spec.Name])
	}
	return kept, nil
}

// dataDir is where a node's etcd has its data: the target's as its static pod says, the others' as the document does.
func (r *EtcdRestore) dataDir(n *cluster.Node) string {
	if n == r.Target {
		return r.pod.dataDir
	}
	return r.c.Config.Spec.Etcd.DataDir
}
