package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// Etcd places etcd's static pod, and makes the folder of its data. Where etcd is external there is none.
func Etcd(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	dir := c.Config.Spec.Etcd.DataDir
	if c.Config.Spec.Etcd.External != nil {
		nodes = nil
	}
	return workflow.Phase{
		Name:  "etcd",
		Short: "place etcd's static pod",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			return atOnce(ctx,
				func(ctx context.Context) ([]workflow.Change, error) { return diffFolder(ctx, r, dir, etcdDataMode) },
				func(ctx context.Context) ([]workflow.Change, error) { return diffRendered(ctx, r, etcdPod(c)) },
			)
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			if err := makeFolder(ctx, h, dir, etcdDataMode, changes); err != nil {
				return err
			}
			return writeRendered(ctx, h, etcdPod(c), changes)
		},
	}
}

// etcdPod renders etcd's static pod. The members that etcd was started with stay what they are on a host that has a pod
// already: they were true then, and etcd does not read them again.
func etcdPod(c *cluster.Cluster) renderer {
	return func(ctx context.Context, r host.Reader) ([]host.File, error) {
		node := nodeOf(c.Node(r))
		have, err := r.ReadFile(ctx, manifests.StaticPodPath(manifests.EtcdName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if members, existing := manifests.EtcdInitialCluster(have); existing {
			node.InitialCluster = members
		}
		f, err := manifests.Etcd(params(c), node)
		return []host.File{f}, err
	}
}

// etcdDataMode is what etcd asks for: it warns of a folder that others can read.
const etcdDataMode fs.FileMode = 0o700

// manifestsMode is kubeadm's: whoever may write there has what runs as root.
const manifestsMode fs.FileMode = 0o700

// ControlPlane places the static pods of the API server, the controller manager and the scheduler.
func ControlPlane(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	pods := controlPlanePods(c)
	render := func(ctx context.Context, r host.Reader) ([]host.File, error) {
		files, err := pods(ctx, r)
		return append(extraFiles(c), files...), err // which are there before the pods
	}
	return workflow.Phase{
		Name:  "control-plane",
		Short: "place the control plane's static pods",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			return atOnce(ctx,
				func(ctx context.Context) ([]workflow.Change, error) {
					return diffFolder(ctx, r, config.ManifestsDir, manifestsMode)
				},
				func(ctx context.Context) ([]workflow.Change, error) { return diffRendered(ctx, r, render) },
			)
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			if err := makeFolder(ctx, h, config.ManifestsDir, manifestsMode, changes); err != nil {
				return err
			}
			return writeRendered(ctx, h, render, changes)
		},
	}
}

// controlPlanePods renders the static pods of the API server, the controller manager and the scheduler.
func controlPlanePods(c *cluster.Cluster) renderer {
	return func(ctx context.Context, r host.Reader) ([]host.File, error) {
		node := nodeOf(c.Node(r))
		infos, err := r.Stat(ctx, manifests.CADirs()...)
		if err != nil {
			return nil, err
		}
		for _, info := range infos {
			if info.Exists {
				node.CADirs = append(node.CADirs, info.Path)
			}
		}
		apiServer, err := manifests.APIServer(params(c), node)
		if err != nil {
			return nil, err
		}
		controllerManager, err := manifests.ControllerManager(params(c), node)
		if err != nil {
			return nil, err
		}
		scheduler, err := manifests.Scheduler(params(c))
		return []host.File{apiServer, controllerManager, scheduler}, err
	}
}

// extraFiles are what the document has for components to read.
func extraFiles(c *cluster.Cluster) []host.File {
	var files []host.File
	for _, name := range []string{manifests.APIServerName, manifests.ControllerManagerName, manifests.SchedulerName} {
		files = append(files, manifests.ExtraFiles(params(c), name)...)
	}
	return files
}

// renderer makes files for a host after a look at it.
type renderer func(ctx context.Context, r host.Reader) ([]host.File, error)

func diffRendered(ctx context.Context, r host.Reader, render renderer) ([]workflow.Change, error) {
	files, err := render(ctx, r)
	if err != nil {
		return nil, err
	}
	return diffFiles(ctx, r, files)
}

func writeRendered(ctx context.Context, h host.Host, render renderer, changes []workflow.Change) error {
	files, err := render(ctx, h)
	if err != nil {
		return err
	}
	return writeChanged(ctx, h, files, changes)
}

func diffFolder(ctx context.Context, r host.Reader, path string, mode fs.FileMode) ([]workflow.Change, error) {
	infos, err := r.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	switch info := infos[0]; {
	case !info.Exists:
		return []workflow.Change{{Action: workflow.Create, Object: path, Detail: "folder"}}, nil
	case info.Mode.Perm() != mode:
		return []workflow.Change{{Action: workflow.Update, Object: path, Detail: fmt.Sprintf("mode %04o to %04o", info.Mode.Perm(), mode)}}, nil
	}
	return nil, nil
}

// makeFolder makes a folder, or sets its mode, if it is among the changes.
func makeFolder(ctx context.Context, h host.Host, path string, mode fs.FileMode, changes []workflow.Change) error {
	if !hasObject(changes, path) {
		return nil
	}
	if _, err := h.Run(ctx, host.Command("install", "-d", "-m", fmt.Sprintf("%04o", mode), path)); err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return nil
}
