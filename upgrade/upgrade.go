// Package upgrade takes a running cluster to another version of Kubernetes. It decides which versions may meet in a
// cluster (policy.go, reachable.go), looks at what runs where (survey.go), and lists the phases that change it.
//
// Their order follows from what may be older than what: etcd, then the API server, its controller manager and its scheduler,
// and that node's kubelet, one control plane after the other; CoreDNS and kube-proxy once no older API server is left;
// the workers' kubelets last.
// Source: https://kubernetes.io/releases/version-skew-policy/#supported-component-upgrade-order
//
// It edits and does not render: in a static pod only the image changes, in an addon too, in kubeadm's configuration the
// version. So what users have changed stays, and a cluster that kubeadm made is upgraded like one of myadm's. Only apply,
// whose document says all of it, has a host take what else has changed along with the version (Options.Document): what it
// drops may be what the new version refuses, and everything is started anew once.
//
// What a host replaces, it replaces in one go, with its kubelet stopped (package staticpod); what does not become healthy
// afterwards is put back (node.go). A document that was edited reaches hosts in the same way (converge.go); there it is
// rendered anew, since the document says all of it.
package upgrade

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
	"github.com/myadm/myadm/staticpod"
	"github.com/myadm/myadm/workflow"
)

// Options are the user's word on an upgrade.
type Options struct {
	From            string // version of the cluster, as its ConfigMap has it
	IgnorePreflight []string
	Document        bool          // hosts follow the document in all that they run with, and not in the version alone
	Force           bool          // an older patch release is allowed
	Settle          time.Duration // how long a cluster that is not well may take to become so before anything begins
	Patience        time.Duration // for each component to become healthy, and for each node to become Ready
	MaxUnavailable  string        // of the workers: a number, or a percentage of them; empty: one
	Drain           DrainOptions
}

// DefaultMaxUnavailable is one worker at a time.
const DefaultMaxUnavailable = "1"

// CheckMaxUnavailable refuses what is neither a number above zero nor a percentage.
func CheckMaxUnavailable(s string) error {
	number, percent := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || percent && n > 100 {
		return fmt.Errorf("%q is neither a number of workers nor a percentage of them; hint: such as 2 or 25%%", s)
	}
	return nil
}

// atOnce is how many of so many workers may be unavailable, at least one: the percentage is rounded down, as it is a limit.
func (o Options) atOnce(workers int) int {
	number, percent := strings.CutSuffix(o.MaxUnavailable, "%")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 1
	}
	if percent {
		n = workers * n / 100
	}
	return max(n, 1)
}

// Steps are what takes c to the version of its document. Its hosts are those to upgrade, control planes in any case all.
func Steps(c *cluster.Cluster, opts Options) []workflow.Step {
	servers, workers := c.ControlPlanes(), c.Workers()
	return []workflow.Step{
		Preflight(c, PreflightOptions{Target: c.Config.Spec.KubernetesVersion, Force: opts.Force, Document: opts.Document, Settle: opts.Settle, Ignore: opts.IgnorePreflight}),
		bring(c, servers, workers),
		phases.LoadBalancer(c, c.Nodes), // an upgrade that was cut may have left an API server out
		Snapshot(c, opts.From),
		ControlPlanes(c, servers, opts),
		UploadConfig(c),
		Addons(c, opts.Patience),
		Workers(c, workers, opts),
		Tidy(c, c.Nodes),
	}
}

// bring has images and binaries on all hosts before anything stops: on workers all at the same time, and on control planes
// one after the other. Unpacking slows the etcd beside it, and a cluster can bear that of one member as long as the others
// keep up.
func bring(c *cluster.Cluster, servers, workers []*cluster.Node) workflow.Step {
	to := func(nodes []*cluster.Node) workflow.Step {
		return workflow.Pipeline(workflow.Parallel(phases.Images(c, nodes), Stage(c, nodes)))
	}
	var inTurn []workflow.Step
	for _, n := range servers {
		inTurn = append(inTurn, to([]*cluster.Node{n}))
	}
	return workflow.Parallel(to(workers), workflow.Sequence(inTurn...))
}

// NodeSteps are what takes single hosts of c to the version of its document.
func NodeSteps(c *cluster.Cluster, nodes []*cluster.Node, opts Options) []workflow.Step {
	var servers, workers []*cluster.Node
	for _, n := range nodes {
		if n.Spec.HasRole(config.RoleControlPlane) {
			servers = append(servers, n)
		} else {
			workers = append(workers, n)
		}
	}
	return []workflow.Step{
		bring(c, servers, workers),
		ControlPlanes(c, servers, opts),
		Workers(c, workers, opts),
		Tidy(c, nodes),
	}
}

// CheckVersion tells whether the cluster may go to the version of its document, from the version that it says it has and
// from those of all API servers that run: a control plane can be ahead of the others. force allows an older patch release.
func CheckVersion(ctx context.Context, c *cluster.Cluster, from string, force bool) error {
	servers, err := apiServers(ctx, c)
	if err != nil {
		return err
	}
	return checkTargets(append(servers, from), c.Config.Spec.KubernetesVersion, force)
}

// CheckNodes is CheckVersion for single hosts, and refuses to take them out of turn: a worker's kubelet must not be newer
// than any API server.
func CheckNodes(ctx context.Context, c *cluster.Cluster, from string, nodes []*cluster.Node, force bool) error {
	to := c.Config.Spec.KubernetesVersion
	servers, err := apiServers(ctx, c)
	if err != nil {
		return err
	}
	if err := checkTargets(append(servers, from), to, force); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Spec.HasRole(config.RoleControlPlane) {
			continue
		}
		for _, v := range servers {
			if err := CheckKubelet(v, to); err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
		}
	}
	return nil
}

// checkTargets is CheckTarget from several versions.
func checkTargets(from []string, to string, force bool) error {
	for _, v := range from {
		if err := CheckTarget(v, to, force); err != nil {
			return err
		}
	}
	return nil
}

// apiServers are the versions of the API servers that run, in the order of the control planes.
func apiServers(ctx context.Context, c *cluster.Cluster) ([]string, error) {
	servers := c.ControlPlanes()
	found := make([]*semver.Version, len(servers))
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range servers {
		g.Go(func() error {
			p, err := staticpod.Running(ctx, n)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
			found[i] = p.Versions[manifests.APIServerName]
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var versions []string
	for _, v := range found {
		if v != nil {
			versions = append(versions, "v"+v.String())
		}
	}
	return versions, nil
}

// snapshotFolder keeps the snapshots of etcd that are taken before upgrades. They stay.
const snapshotFolder = "/var/backups/myadm"

// Snapshot keeps a snapshot of etcd on the first control plane before anything is replaced: whole and verified. An upgrade
// that is carried on keeps the one that was taken before it began. An external etcd is backed up by whoever runs it.
func Snapshot(c *cluster.Cluster, from string) workflow.Phase {
	servers := c.ControlPlanes()
	if len(servers) > 1 {
		servers = servers[:1]
	}
	if c.Config.Spec.Etcd.External != nil {
		servers = nil
	}
	to := c.Config.Spec.KubernetesVersion
	file := fmt.Sprintf("%s/etcd-before-%s.db", snapshotFolder, to)
	return workflow.Phase{
		Name:  "snapshot",
		Short: "take a snapshot of etcd",
		Hosts: cluster.Hosts(servers),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			if from == to {
				return nil, nil
			}
			begun, err := begun(ctx, c)
			if err != nil {
				return nil, err
			}
			infos, err := r.Stat(ctx, file)
			if err != nil || infos[0].Exists && begun {
				return nil, err
			}
			if taken, err := fresh(ctx, r, file); err != nil || taken {
				return nil, err
			}
			return []workflow.Change{{Action: workflow.Create, Object: file}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			client, err := c.Etcd(ctx)
			if err != nil {
				return err
			}
			if _, err := h.Run(ctx, host.Command("install", "-d", "-m", "0700", snapshotFolder)); err != nil {
				return fmt.Errorf("make %s: %w", snapshotFolder, err)
			}
			return phases.SaveOnHost(h, file)(ctx, func(w io.Writer) error {
				_, err := client.Snapshot(ctx, w, func(n, total int64) { workflow.ReportProgress(ctx, "received", n, total) })
				return err
			})
		},
	}
}

// snapshotAge is how old a snapshot may be for an upgrade that begins.
const snapshotAge = "5" // minutes

// fresh tells whether a snapshot was taken within the last minutes, by the host's own clock: by this run.
func fresh(ctx context.Context, r host.Reader, file string) (bool, error) {
	out, err := r.Query(ctx, host.Command("sh", "-c", `find "$1" -mmin -"$2" 2>/dev/null; true`, "sh", file, snapshotAge))
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", file, err)
	}
	return len(out) > 0, nil
}

// begun tells whether any control plane has the API server of the new version already.
func begun(ctx context.Context, c *cluster.Cluster) (bool, error) {
	for _, n := range c.ControlPlanes() {
		pods, err := readPods(ctx, c, n)
		if err != nil {
			return false, fmt.Errorf("%s: %w", n.Name(), err)
		}
		for _, p := range pods {
			if p.name == manifests.APIServerName && !p.changes() {
				return true, nil
			}
		}
	}
	return false, nil
}

// Tidy removes what an upgrade needed on the hosts: what was to be put in place, and what was kept in case a host had to be
// put back. The snapshot stays.
func Tidy(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	left := func(ctx context.Context, r host.Reader) ([]string, error) {
		all, err := binaries(ctx, c, r)
		if err != nil {
			return nil, err
		}
		paths := []string{folder}
		if hasStackedEtcd(c, c.Node(r)) {
			copied := etcdCopy(c.Config.Spec.Etcd.DataDir)
			paths = append(paths, copied, copied+".part", c.Config.Spec.Etcd.DataDir+"/member.failed")
		}
		for _, b := range all {
			paths = append(paths, b.staged, b.previous)
		}
		infos, err := r.Stat(ctx, paths...)
		if err != nil {
			return nil, err
		}
		var there []string
		for _, i := range infos {
			if i.Exists {
				there = append(there, i.Path)
			}
		}
		return there, nil
	}
	return workflow.Phase{
		Name:  "tidy",
		Short: "remove what the upgrade needed on the hosts",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			paths, err := left(ctx, r)
			var changes []workflow.Change
			for _, p := range paths {
				changes = append(changes, workflow.Change{Action: workflow.Delete, Object: p})
			}
			return changes, err
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			paths, err := left(ctx, h)
			if err != nil {
				return err
			}
			return h.Remove(ctx, paths...)
		},
	}
}
