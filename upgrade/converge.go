package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/workflow"
)

// A document that was edited, and a host that was, are brought together in the way of an upgrade: what a host is to run
// with is placed and its programs are started anew in one go, one control plane at a time, and what does not become
// healthy is put back. Only the pods of users stay where they are, since nothing changes that they run on.

// piece is a file that a host's programs are started with.
type piece struct {
	host.File
	change  *workflow.Change // nil: it is as it should be
	readers []string         // static pods that read it only when they start
	kubelet bool             // the kubelet reads it
}

func (p piece) differs() bool { return p.change != nil }

// The folders of what pieces replace, and of marks for those that replace nothing.
const (
	previousFiles = folder + "/previous-files"
	madeFiles     = folder + "/made-files"
)

// staged is where it waits to take its place, and kept where the one that it replaces is kept.
func (p piece) staged() string { return path.Join(folder, "files", p.Path) }
func (p piece) kept() string   { return path.Join(previousFiles, p.Path) }

// made is there when it replaces nothing: what puts its host back is to take it away.
func (p piece) made() string { return path.Join(madeFiles, p.Path) }

func (p piece) isMade() bool { return p.differs() && p.change.Action == workflow.Create }

// still tells whether all that changes are files that nothing has to be started anew for.
func (m machine) still() bool {
	return m.stays && m.kubelet == "" &&
		!slices.ContainsFunc(m.pods, pod.changes) &&
		!slices.ContainsFunc(m.pieces, func(p piece) bool { return p.differs() && (p.kubelet || len(p.readers) > 0) })
}

// forget removes what an earlier run has kept of a host that is well with what it has: it is not what a rollback of this run
// is to bring.
func forget(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine) error {
	has := map[string]string{kubelet: ""}
	for _, p := range m.pods {
		has[p.name] = staticpod.ImageVersion(p.from)
	}
	found, err := ill(ctx, c, n, has)
	if err != nil || len(found) > 0 {
		return err
	}
	if err := n.Remove(ctx, append(m.keeps(), previousFiles, madeFiles)...); err != nil {
		return fmt.Errorf("remove what an earlier run kept: %w", err)
	}
	return nil
}

// write places what differs while all programs run on.
func (m machine) write(ctx context.Context, h host.Host) error {
	var files []host.File
	for _, p := range m.pieces {
		if p.differs() {
			files = append(files, p.File)
		}
	}
	return h.WriteFiles(ctx, files...)
}

// started is when the kubelet was started whose word for its Node is to be waited for. In an upgrade that is known by its
// version.
func (m machine) started(ctx context.Context, n *cluster.Node) (time.Time, error) {
	if !m.stays || !m.replaced && !m.interrupted {
		return time.Time{}, nil
	}
	return phases.KubeletStarted(ctx, n)
}

// ConvergeControlPlanes makes the control planes of a running cluster what its document wants, one at a time. The first of
// them is the one that all others have their PKI from. What they run is of the document's version already.
func ConvergeControlPlanes(c *cluster.Cluster, nodes []*cluster.Node, opts Options) workflow.Phase {
	p := replacing(c, nodes, opts, byDocument(c, nodes, nodes[0]))
	p.Name, p.Short, p.Parallel = "converge-control-planes", "have the control planes run as the document says", 1
	return p
}

// ConvergeWorkers does the same for workers, as many at a time as may be unavailable.
func ConvergeWorkers(c *cluster.Cluster, nodes []*cluster.Node, opts Options) workflow.Phase {
	p := replacing(c, nodes, opts, byDocument(c, nodes, nil))
	p.Name, p.Short, p.Parallel = "converge-workers", "have the workers run as the document says", opts.atOnce(len(nodes))
	return p
}

// surveyor looks at what a host has of what it is to have.
type surveyor func(ctx context.Context, r host.Reader) (machine, error)

// byDocument compares hosts with all that the document says of them. first is the one that all others have their PKI from;
// workers need none.
func byDocument(c *cluster.Cluster, nodes []*cluster.Node, first *cluster.Node) surveyor {
	var shared, others phases.PKI
	if first != nil {
		shared = phases.SharedPKI(c, first)
		if len(nodes) > 1 {
			others = phases.SharedPKI(c, nodes[1])
		}
	}
	return func(ctx context.Context, r host.Reader) (machine, error) {
		n := c.Node(r)
		pki := shared
		if n == first { // it has what it has lost from another one
			pki = others
		}
		return compare(ctx, c, n, pki)
	}
}

// withBinaries adds what a bundle has of another version, which pods must not see come.
func withBinaries(c *cluster.Cluster, look surveyor) surveyor {
	return func(ctx context.Context, r host.Reader) (machine, error) {
		m, err := look(ctx, r)
		if err != nil {
			return m, err
		}
		m.upgrades = true
		m.all, m.stale, err = lookAtBinaries(ctx, c, r)
		m.stays = len(m.stale) == 0 && !slices.ContainsFunc(m.pods, pod.moves)
		return m, err
	}
}

// compare looks at what a host has of what the document wants.
func compare(ctx context.Context, c *cluster.Cluster, n *cluster.Node, shared phases.PKI) (machine, error) {
	m := machine{stays: true}
	if _, err := askKubelet(ctx, n); err != nil {
		return m, err
	}
	server := n.Spec.HasRole(config.RoleControlPlane)
	var pki, started []piece
	g, looking := errgroup.WithContext(ctx)
	g.Go(func() error {
		files, start, err := phases.MemberKubelet(looking, c, n)
		m.kubelet, m.enable, started = start, start != "", pieces(files)
		return err
	})
	g.Go(func() error {
		infos, err := n.Stat(looking, folder)
		m.interrupted = err == nil && infos[0].Exists
		return err
	})
	read := make([][]piece, len(staticpod.Names))
	if server {
		for i, name := range staticpod.Names {
			g.Go(func() error {
				files, err := phases.MemberExtraFiles(looking, c, n, name)
				read[i] = pieces(files)
				for j := range read[i] {
					read[i][j].readers = []string{name}
				}
				return err
			})
		}
		g.Go(func() (err error) {
			m.pods, err = comparePods(looking, c, n)
			return err
		})
		g.Go(func() error {
			files, err := phases.MemberPKI(looking, c, n, shared)
			pki = append(pieces(files), otherPKI(files)...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return m, err
	}
	m.pieces = slices.Concat(pki, slices.Concat(read...), started)
	if slices.ContainsFunc(started, piece.differs) {
		m.kubelet = "" // it is started anew in any case
	}
	return m, nil
}

// pieces are files with what reads them.
func pieces(files phases.MemberFiles) []piece {
	var all []piece
	for _, f := range files.Files {
		p := piece{File: f, readers: readersOf(f.Path), kubelet: isKubelets(f.Path)}
		i := slices.IndexFunc(files.Changes, func(c workflow.Change) bool { return c.Object == f.Path })
		if i >= 0 {
			p.change = &files.Changes[i]
			if strings.HasPrefix(p.change.Detail, "mode ") {
				p.readers, p.kubelet = nil, false // what is in it is known to those who read it
			}
		}
		all = append(all, p)
	}
	return all
}

// otherPKI are the files of the PKI in which nothing is to change: an earlier run may have kept what they have replaced.
func otherPKI(files phases.MemberFiles) []piece {
	var others []piece
	for _, path := range certs.Paths() {
		kubelets := path == config.KubeletConf || path == config.KubeletClientCert
		if !kubelets && !slices.ContainsFunc(files.Files, func(f host.File) bool { return f.Path == path }) {
			others = append(others, piece{File: host.File{Path: path}, readers: readersOf(path)})
		}
	}
	return others
}

// isKubelets tells whether the kubelet is started with a file.
func isKubelets(path string) bool {
	switch path {
	case config.KubeletConfigFile, config.KubeletFlagsEnv, manifests.KubeletUnitPath, manifests.KubeletDropInPath, config.KubeletInstanceConfig:
		return true
	}
	return false
}

// readersOf are the static pods that read a file of the PKI, or a kubeconfig. A server takes a new certificate of its own
// without being started anew, sooner or later; here it is to be known when.
func readersOf(path string) []string {
	api, manager, scheduler, etcd := manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName, manifests.EtcdName
	name, inPKI := strings.CutPrefix(path, config.PKIDir+"/")
	switch {
	case path == config.ControllerManagerConf:
		return []string{manager}
	case path == config.SchedulerConf:
		return []string{scheduler}
	case !inPKI || strings.HasPrefix(name, "etcd/healthcheck"):
		return nil
	case strings.HasPrefix(name, "etcd/ca"):
		return []string{etcd, api}
	case strings.HasPrefix(name, "etcd/"):
		return []string{etcd}
	case strings.HasPrefix(name, "apiserver"):
		return []string{api}
	}
	return []string{api, manager} // the authorities, and the key of service accounts
}

// comparePods compares the static pods that the document wants with those that a control plane has.
func comparePods(ctx context.Context, c *cluster.Cluster, n *cluster.Node) ([]pod, error) {
	files, err := phases.StaticPodFiles(ctx, c, n)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.Path
	}
	infos, err := n.Stat(ctx, paths...)
	if err != nil {
		return nil, err
	}
	pods := make([]pod, len(files))
	g, ctx := errgroup.WithContext(ctx)
	for i, f := range files {
		g.Go(func() error {
			have, err := n.ReadFile(ctx, f.Path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			p, err := comparePod(strings.TrimSuffix(path.Base(f.Path), ".yaml"), have, f.Data)
			if err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
			p.differs = p.differs || infos[i].Mode.Perm() != f.Mode
			p.made = !infos[i].Exists
			pods[i] = p
			return nil
		})
	}
	return pods, g.Wait()
}

// comparePod is a static pod as it is wanted, beside the one that there is. An etcd that is newer than the document's
// version asks for stays so: it could not read its data any more.
func comparePod(name string, have, want []byte) (pod, error) {
	image, err := manifests.PodImage(want)
	if err != nil {
		return pod{}, err
	}
	p := pod{name: name, image: image, manifest: want}
	if p.from, err = manifests.PodImage(have); err != nil {
		p.differs = true // it is no pod, or not there
		return p, nil
	}
	if name == manifests.EtcdName && staticpod.ImageVersion(p.from) != staticpod.ImageVersion(image) {
		move, err := EtcdMove(staticpod.ImageVersion(p.from), staticpod.ImageVersion(image))
		if err != nil {
			return pod{}, err
		}
		if !move {
			p.image = p.from
			if p.manifest, _, err = manifests.WithPodImage(want, p.from); err != nil {
				return pod{}, err
			}
		}
	}
	p.differs = !bytes.Equal(have, p.manifest)
	return p, nil
}

// mute tells whether an earlier run was cut before the kubelet that it has started anew told the API of itself, as far as
// anybody knows.
func mute(ctx context.Context, c *cluster.Cluster, n *cluster.Node, m machine) (bool, error) {
	if !m.interrupted {
		return false, nil
	}
	since, err := phases.KubeletStarted(ctx, n)
	if err != nil {
		return false, err
	}
	client, err := c.Kube(ctx)
	if err != nil {
		return false, err
	}
	reported, err := phases.Reported(ctx, client, n.Spec.Name, since)
	return !reported, err
}

// wasReady tells whether a node is Ready, as far as anybody knows.
func wasReady(ctx context.Context, c *cluster.Cluster, n *cluster.Node) bool {
	client, err := c.Kube(ctx)
	if err != nil {
		return false
	}
	node, err := kube.Get[corev1.Node](ctx, client, nodeRef(n.Spec.Name))
	if err != nil {
		return false
	}
	ready, _ := kube.NodeReady(node)
	return ready
}
