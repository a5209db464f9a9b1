package phases

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// What a host that is in its cluster has of the files that its programs are started with, beside what the document wants.
// New hosts get these files by the phases of init and join; here they have programs that run on them, so that they are
// placed by what replaces those (package upgrade).

// MemberFiles are files as the document wants them, and which of them differ.
type MemberFiles struct {
	Files   []host.File
	Changes []workflow.Change
}

// StaticPodFiles are the static pods of a control plane.
func StaticPodFiles(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]host.File, error) {
	var pods, etcd []host.File
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		pods, err = controlPlanePods(c)(ctx, r)
		return err
	})
	if c.Config.Spec.Etcd.External == nil {
		g.Go(func() (err error) {
			etcd, err = etcdPod(c)(ctx, r)
			return err
		})
	}
	err := g.Wait()
	return append(etcd, pods...), err
}

// MemberPKI is what a control plane has to change of its certificates, keys and kubeconfigs; of those that are right there
// are no files. shared is nil for the one that all others have theirs from. Certificates are made anew with each call.
func MemberPKI(ctx context.Context, c *cluster.Cluster, r host.Reader, shared PKI) (MemberFiles, error) {
	mine := func(path string) bool { return path != config.KubeletConf && path != config.KubeletClientCert } // the kubelet's own
	have, _, err := readPKI(ctx, r, shared)
	if err != nil {
		return MemberFiles{}, err
	}
	for _, path := range certs.SharedPaths(c.Config.Spec.Etcd.External != nil) {
		if have[path] == nil && !strings.HasSuffix(path, "ca.key") && !strings.HasSuffix(path, "sa.pub") {
			return MemberFiles{}, fmt.Errorf("%s is gone, and no other control plane has it; hint: put it back from a backup: with a new one nothing in the cluster would believe this control plane", path)
		}
	}
	changes, err := diffPKI(ctx, c, r, shared, mine)
	if err != nil || len(changes) == 0 {
		return MemberFiles{}, err
	}
	stages, err := makePKI(ctx, c, r, shared, mine, changes)
	return MemberFiles{Files: slices.Concat(stages...), Changes: changes}, err
}

// MemberExtraFiles are the files that the document has for a component of the control plane.
func MemberExtraFiles(ctx context.Context, c *cluster.Cluster, r host.Reader, component string) (MemberFiles, error) {
	files := manifests.ExtraFiles(params(c), component)
	if len(files) == 0 {
		return MemberFiles{}, nil
	}
	changes, err := diffFiles(ctx, r, files)
	return MemberFiles{Files: files, Changes: changes}, err
}

// KubeletFiles are what the document has a host's kubelet started with.
func KubeletFiles(ctx context.Context, c *cluster.Cluster, r host.Reader) ([]host.File, error) {
	shared, err := KubeletConfig(c)()
	if err != nil {
		return nil, err
	}
	return kubeletFiles(ctx, c, r, shared)
}

// MemberKubelet is what a host's kubelet is started with, and why it is to be started anew if it is not what it reads:
// it does not run, say; empty when it runs as it should.
func MemberKubelet(ctx context.Context, c *cluster.Cluster, r host.Reader) (files MemberFiles, start string, err error) {
	if files.Files, err = KubeletFiles(ctx, c, r); err != nil {
		return files, "", err
	}
	if files.Changes, err = diffFiles(ctx, r, files.Files); err != nil {
		return files, "", err
	}
	state, err := readUnit(ctx, r, kubeletService.name, kubeletService.files...)
	return files, state.todo(), err
}

// KubeletStarted is when a host's kubelet was started, on the host's clock, to the second.
func KubeletStarted(ctx context.Context, r host.Reader) (time.Time, error) {
	state, err := readUnit(ctx, r, kubeletService.name)
	return state.started, err
}

// ResumeKubelet starts kubelets that do not run, on hosts that are in their cluster: somebody has stopped them, or another
// phase has, or a run that was cut.
func ResumeKubelet(nodes []*cluster.Node) workflow.Phase {
	return workflow.Phase{
		Name:  "resume-kubelet",
		Short: "start kubelets that were stopped",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			state, err := readUnit(ctx, r, kubeletService.name)
			if err != nil || state.load != "loaded" || state.running() {
				return nil, err
			}
			return []workflow.Change{{Action: workflow.Run, Object: kubeletService.object(), Detail: "start"}}, nil
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			if _, err := h.Run(ctx, host.Command("systemctl", "start", kubeletService.name)); err != nil {
				return fmt.Errorf("start the kubelet: %w; hint: journalctl -u kubelet on the host", err)
			}
			return nil
		},
	}
}

// EnableKubelet has systemd start the kubelet with the host.
func EnableKubelet(ctx context.Context, h host.Host) error {
	_, err := h.Run(ctx, host.Command("systemctl", "enable", kubeletService.name))
	return err
}

// Folders gives the folders of static pods and of etcd's data their modes, on hosts that are in their cluster.
func Folders(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	folders := func(r host.Reader) map[string]fs.FileMode {
		all := map[string]fs.FileMode{config.ManifestsDir: manifestsMode}
		if c.Node(r).Spec.HasRole(config.RoleControlPlane) && c.Config.Spec.Etcd.External == nil {
			all[c.Config.Spec.Etcd.DataDir] = etcdDataMode
		}
		return all
	}
	return workflow.Phase{
		Name:  "folders",
		Short: "close the folders of static pods and etcd",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			var changes []workflow.Change
			all := folders(r)
			for _, path := range slices.Sorted(maps.Keys(all)) {
				change, err := diffFolder(ctx, r, path, all[path])
				if err != nil {
					return nil, err
				}
				changes = append(changes, change...)
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, h host.Host, changes []workflow.Change) error {
			for path, mode := range folders(h) {
				if err := makeFolder(ctx, h, path, mode, changes); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
