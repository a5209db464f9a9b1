package upgrade

import (
	"context"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/workflow"
)

// folder holds on a host, for the time of an upgrade, what replaces its static pods and what was replaced.
const folder = config.UpgradeDir

// pod is a static pod of a control plane, as its host has it and as it is to be.
type pod struct {
	name     string
	image    string // that it is to have
	from     string // that it has; empty: there is no manifest that could be read
	manifest []byte // as it is to be
	differs  bool   // from what the host has
	made     bool   // the host has none
}

func (p pod) changes() bool { return p.differs }

// moves tells whether it gets another image.
func (p pod) moves() bool { return p.from != p.image && p.from != "" }

// detail says what of it changes.
func (p pod) detail() string {
	if p.moves() {
		return p.from + " to " + p.image
	}
	return "content"
}

// version is that of the program, by the image's tag; empty when the image has none.
func (p pod) version() string { return staticpod.ImageVersion(p.image) }

// machine is what a host has of its share of the new version, or of the document.
type machine struct {
	pods   []pod    // of a control plane
	stale  []binary // that are not in place yet
	all    []binary
	pieces []piece // that its programs are started with; of a change of the version alone there are none

	kubelet     string // why its kubelet is to be started anew, though nothing changes that it reads; empty: it is not
	enable      bool   // the kubelet is not started with its host
	stays       bool   // pods stay on the node meanwhile: nothing changes that they run on
	upgrades    bool   // it is about another version, in which the node has to be, and to which it may have been cordoned
	unready     bool   // the node was not Ready before, so that it need not be after
	replaced    bool   // in this run
	interrupted bool   // an earlier run was cut here, or has failed: whether its kubelet has come back nobody knows yet
}

// look reads a host's static pods and compares its binaries with the bundle's.
func look(ctx context.Context, c *cluster.Cluster, r host.Reader) (machine, error) {
	m := machine{upgrades: true}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		m.pods, err = readPods(ctx, c, r)
		return err
	})
	g.Go(func() (err error) {
		m.all, m.stale, err = lookAtBinaries(ctx, c, r)
		return err
	})
	return m, g.Wait()
}

// lookAtBinaries compares a host's binaries with the bundle's.
func lookAtBinaries(ctx context.Context, c *cluster.Cluster, r host.Reader) (all, differ []binary, err error) {
	if all, err = binaries(ctx, c, r); err != nil || len(all) == 0 {
		return nil, nil, err
	}
	differ, err = stale(ctx, r, all)
	return all, differ, err
}

// readPods reads the static pods of a control plane; of a worker there are none. An external etcd has no pod.
func readPods(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]pod, error) {
	if !c.Node(r).Spec.HasRole(config.RoleControlPlane) {
		return nil, nil
	}
	images, err := config.ImagesOf(c.Config)
	if err != nil {
		return nil, err
	}
	want := map[string]string{
		manifests.EtcdName: images.Etcd, manifests.APIServerName: images.APIServer,
		manifests.ControllerManagerName: images.ControllerManager, manifests.SchedulerName: images.Scheduler,
	}
	found := make([]*pod, len(staticpod.Names))
	g, ctx := errgroup.WithContext(ctx)
	for i, name := range staticpod.Names {
		if want[name] == "" {
			continue
		}
		g.Go(func() error {
			manifest, err := r.ReadFile(ctx, manifests.StaticPodPath(name))
			if err != nil {
				return err
			}
			p, err := target(name, manifest, want[name])
			if err != nil {
				return fmt.Errorf("%s: %w", manifests.StaticPodPath(name), err)
			}
			found[i] = &p
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var pods []pod
	for _, p := range found {
		if p != nil {
			pods = append(pods, *p)
		}
	}
	return pods, nil
}

// target is a static pod with the image that it is to have. An etcd that is newer already stays.
func target(name string, manifest []byte, image string) (pod, error) {
	from, err := manifests.PodImage(manifest)
	if err != nil {
		return pod{}, err
	}
	if name == manifests.EtcdName && from != image {
		move, err := EtcdMove(staticpod.ImageVersion(from), staticpod.ImageVersion(image))
		if err != nil {
			return pod{}, err
		}
		if !move {
			return pod{name: name, image: from, from: from, manifest: manifest}, nil
		}
	}
	changed, _, err := manifests.WithPodImage(manifest, image)
	return pod{name: name, image: image, from: from, manifest: changed, differs: from != image}, err
}

// changes are what the host has still to replace.
func (m machine) changes() []workflow.Change {
	var changes []workflow.Change
	for _, p := range m.pods {
		if p.changes() {
			changes = append(changes, workflow.Change{Action: workflow.Update, Object: manifests.StaticPodPath(p.name), Detail: p.detail()})
		}
	}
	for _, b := range m.stale {
		changes = append(changes, workflow.Change{Action: workflow.Update, Object: b.Target, Detail: b.Version})
	}
	for _, f := range m.pieces {
		if f.differs() {
			changes = append(changes, *f.change)
		}
	}
	if m.kubelet != "" {
		changes = append(changes, workflow.Change{Action: workflow.Run, Object: "unit kubelet.service", Detail: m.kubelet})
	}
	return changes
}

// manifests are the static pods as they are to be.
func (m machine) manifests() []host.File {
	var files []host.File
	for _, p := range m.pods {
		files = append(files, host.File{Path: manifests.StaticPodPath(p.name), Mode: 0o600, Data: p.manifest})
	}
	return files
}

// moves tells whether a static pod is among what changes.
func (m machine) moves(name string) bool {
	for _, p := range m.pods {
		if p.name == name {
			return p.changes()
		}
	}
	return false
}

// exchange is what replaces all that changes, and the files that have to be on the host before.
//
// With another kubelet all static pods end, also those that stay as they are: kubelets of two minors give a manifest two
// UIDs, and the second pod of an etcd would start beside the first one.
func (m machine) exchange() (staticpod.Exchange, []host.File) {
	e := staticpod.Exchange{Folder: folder}
	var files []host.File
	newKubelet := slices.ContainsFunc(m.stale, func(b binary) bool { return b.Name == kubelet })
	ends := m.ends()
	for _, p := range m.pods {
		if p.changes() || newKubelet || slices.Contains(ends, p.name) {
			e.End = append(e.End, p.name)
		}
		if !p.changes() {
			continue
		}
		f := host.File{Path: path.Join(folder, p.name+".yaml"), Mode: 0o600, Data: p.manifest}
		files = append(files, f)
		if p.made {
			files = append(files, host.File{Path: madePod(p.name), Mode: 0o600})
		}
		e.Moves = append(e.Moves, staticpod.Move{From: f.Path, To: manifests.StaticPodPath(p.name), Keep: keptPod(p.name)})
	}
	for _, b := range m.stale {
		e.Moves = append(e.Moves, staticpod.Move{From: b.staged, To: b.Target, Keep: b.previous})
		e.Runtime = e.Runtime || b.runtime
	}
	for _, f := range m.pieces {
		if f.differs() {
			files = append(files, host.File{Path: f.staged(), Mode: f.Mode, Data: f.Data})
			if f.isMade() {
				files = append(files, host.File{Path: f.made(), Mode: 0o600})
			}
			e.Moves = append(e.Moves, staticpod.Move{From: f.staged(), To: f.Path, Keep: f.kept()})
		}
	}
	return e, files
}

// ends are the static pods that read one of the pieces that change, and only when they start; and with an API server what
// cannot do without it.
func (m machine) ends() []string {
	var names []string
	for _, f := range m.pieces {
		if f.differs() {
			names = append(names, f.readers...)
		}
	}
	api := func(p pod) bool { return p.name == manifests.APIServerName && p.changes() }
	if slices.ContainsFunc(m.pods, api) || slices.Contains(names, manifests.APIServerName) {
		// They ask their own API server, lose their leases while it is away, and would end by themselves and be backed off.
		names = append(names, leaders...)
	}
	return names
}

// keeps are the places where the host keeps what it has replaced, and notes where there was nothing.
func (m machine) keeps() []string {
	var paths []string
	for _, p := range m.pods {
		paths = append(paths, keptPod(p.name), madePod(p.name))
	}
	for _, b := range m.all {
		paths = append(paths, b.previous)
	}
	for _, f := range m.pieces {
		paths = append(paths, f.kept(), f.made())
	}
	return paths
}

// keptPod is where the manifest is kept that a newer one has replaced.
func keptPod(name string) string { return path.Join(folder, "previous-"+name+".yaml") }

// madePod is there when the manifest replaces none.
func madePod(name string) string { return path.Join(folder, "made-"+name+".yaml") }

// wanted are the programs that the host is to run, with their versions; an empty one may be any.
func (m machine) wanted(c *cluster.Cluster) map[string]string {
	want := map[string]string{}
	for _, p := range m.pods {
		want[p.name] = p.version()
	}
	for _, b := range m.all {
		if b.Name == kubelet {
			want[kubelet] = c.Config.Spec.KubernetesVersion
		}
	}
	if _, ok := want[kubelet]; !ok && m.stays {
		want[kubelet] = "" // any will do
	}
	return want
}

const kubelet = "kubelet"
