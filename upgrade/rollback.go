package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/workflow"
)

// putBackPatience is how long what worked before may take to work again.
const putBackPatience = 2 * time.Minute

// putBack makes a node what it was before, waits until it is that, and returns the reason with what became of it. An etcd
// that is well stays in its new version: what it has been given to keep since is not to be lost.
func putBack(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine, sick *illError, opts Options) error {
	workflow.Tell(ctx, "put back what it ran, because of "+sick.Component)
	want, err := undo(ctx, c, n, m, sick)
	if err != nil {
		return errors.Join(sick, err)
	}
	if want == nil {
		return sick
	}
	opts.Patience = putBackPatience
	if err := arrive(ctx, c, n, m, want, nil, opts); err != nil {
		return errors.Join(sick, fmt.Errorf("put back what ran before, and it is not healthy either: %w", err))
	}
	return fmt.Errorf("%w\nwhat ran before is back and healthy; hint: mend the cause and run the same command again", sick)
}

// undo puts back what a host has kept, and tells the versions that are then to run; nil when there is nothing to put back.
func undo(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine, sick *illError) (map[string]string, error) {
	if hasStackedEtcd(c, n) && sick.Component != manifests.EtcdName && memberMissing(ctx, c, n) == nil {
		if err := forgetEtcd(ctx, c, n); err != nil {
			return nil, err
		}
	}
	e, want, err := kept(ctx, c, n, m)
	if err != nil || len(e.Moves) == 0 {
		return nil, err
	}
	if err := e.Run(ctx, n); err != nil {
		return nil, fmt.Errorf("put back what ran before: %w", err)
	}
	return want, nil
}

// kept is the exchange that puts back what the host has kept, and the versions that are then to run.
func kept(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine) (staticpod.Exchange, map[string]string, error) {
	e := staticpod.Exchange{Folder: folder}
	want := m.wanted(c)
	dir := c.Config.Spec.Etcd.DataDir
	paths := append(m.keeps(), etcdCopy(dir))
	for _, p := range m.pods {
		paths = append(paths, manifests.StaticPodPath(p.name))
	}
	for _, f := range m.pieces {
		paths = append(paths, f.Path)
	}
	infos, err := n.Stat(ctx, paths...)
	if err != nil {
		return e, nil, err
	}
	there := map[string]bool{}
	for _, i := range infos {
		there[i.Path] = i.Exists
	}
	for _, p := range m.pods {
		at := keptPod(p.name)
		if !there[at] {
			if to := manifests.StaticPodPath(p.name); there[to] && there[madePod(p.name)] {
				delete(want, p.name)
				e.End = append(e.End, p.name)
				e.Moves = append(e.Moves, staticpod.Move{From: to, To: folder + "/" + p.name + ".yaml"})
			}
			continue
		}
		old, err := n.ReadFile(ctx, at)
		if err != nil {
			return e, nil, err
		}
		image, err := manifests.PodImage(old)
		if err != nil {
			return e, nil, fmt.Errorf("%s: %w", at, err)
		}
		want[p.name] = staticpod.ImageVersion(image)
		e.End = append(e.End, p.name)
		e.Moves = append(e.Moves, staticpod.Move{From: at, To: manifests.StaticPodPath(p.name), Keep: folder + "/" + p.name + ".yaml"})
		if p.name == manifests.EtcdName && there[etcdCopy(dir)] && m.replaced {
			e.Data, e.CopyFrom = dir+"/member", etcdCopy(dir)
		}
	}
	for _, f := range m.pieces {
		switch {
		case there[f.kept()]:
			e.Moves = append(e.Moves, staticpod.Move{From: f.kept(), To: f.Path, Keep: f.staged()})
		case there[f.made()] && there[f.Path]:
			e.Moves = append(e.Moves, staticpod.Move{From: f.Path, To: f.staged()})
		default:
			continue
		}
		e.End = append(e.End, f.readers...)
	}
	if slices.Contains(e.End, manifests.APIServerName) {
		e.End = append(e.End, leaders...) // as in machine.ends
	}
	slices.Sort(e.End)
	e.End = slices.Compact(e.End)
	for _, b := range m.all {
		if there[b.previous] {
			e.Moves = append(e.Moves, staticpod.Move{From: b.previous, To: b.Target, Keep: b.staged})
			e.Runtime = e.Runtime || b.runtime
			if b.Name == kubelet {
				want[kubelet] = "" // whichever it was
				e.End = nil        // all, as in machine.exchange
				for _, p := range m.pods {
					e.End = append(e.End, p.name)
				}
			}
		}
	}
	return e, want, nil
}

// forgetEtcd removes what would put an etcd back. One that has been well has been given data to keep since, which neither
// the copy has nor an older etcd could read. For the same reason a copy counts only in the run that has made it: what
// happened between two runs nobody knows.
func forgetEtcd(ctx context.Context, c *cluster.Cluster, n *cluster.Node) error {
	if err := n.Remove(ctx, etcdCopy(c.Config.Spec.Etcd.DataDir), keptPod(manifests.EtcdName), madePod(manifests.EtcdName)); err != nil {
		return fmt.Errorf("remove the copy of etcd's data: %w", err)
	}
	return nil
}
