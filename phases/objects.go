package phases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/unified"
	"github.com/myadm/myadm/workflow"
)

// objectPhase is a phase on the cluster that applies objects server-side. want makes them; it is asked anew every time.
func objectPhase(c *cluster.Cluster, name, short string, want func(ctx context.Context) ([]*unstructured.Unstructured, error)) workflow.Phase {
	return workflow.Phase{
		Name:  name,
		Short: short,
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			objects, err := want(ctx)
			if err != nil {
				return nil, err
			}
			client, err := c.Kube(ctx)
			if err == nil {
				return diffObjects(ctx, client, objects)
			}
			if !errors.Is(err, cluster.ErrNoCluster) {
				return nil, err
			}
			return createAll(ctx, objects)
		},
		Apply: func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
			objects, err := want(ctx)
			if err != nil {
				return err
			}
			client, err := c.Kube(ctx)
			if err != nil {
				return err
			}
			return client.Apply(ctx, objects)
		},
	}
}

func diffObjects(ctx context.Context, r kube.Reader, objects []*unstructured.Unstructured) ([]workflow.Change, error) {
	differences, err := kube.Diff(ctx, r, objects)
	changes, showErr := changesOf(ctx, differences)
	return changes, errors.Join(err, showErr)
}

// changesOf tells differences as changes, and shows how the objects differ if the plan is to.
func changesOf(ctx context.Context, differences []kube.Difference) ([]workflow.Change, error) {
	var changes []workflow.Change
	for _, d := range differences {
		change := workflow.Change{Action: workflow.Update, Object: d.Object.String(), Detail: differs(d)}
		if d.Create {
			change.Action, change.Detail = workflow.Create, ""
		}
		if workflow.WantsDiffs(ctx) {
			was, is, err := d.Texts()
			if err != nil {
				return nil, err
			}
			change.Diff = unified.Diff(change.Object, was, is)
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// differs names what would be another one: its fields, or, of what goes, its name.
func differs(d kube.Difference) string {
	words := slices.Clone(d.Paths)
	for i, path := range words {
		if name, ok := d.Removes[path]; ok {
			words[i] = "remove " + name
		}
	}
	return strings.Join(words, ", ")
}

// createAll is all objects as changes, for a cluster that is not there yet.
func createAll(ctx context.Context, objects []*unstructured.Unstructured) ([]workflow.Change, error) {
	differences := make([]kube.Difference, len(objects))
	for i, o := range objects {
		differences[i] = kube.New(o)
	}
	return changesOf(ctx, differences)
}

// UploadConfig stores the cluster's configuration in it, for kubeadm, for joining nodes and for myadm itself.
func UploadConfig(c *cluster.Cluster) workflow.Phase {
	return objectPhase(c, "upload-config", "store the configuration in the cluster",
		func(context.Context) ([]*unstructured.Unstructured, error) {
			data, err := config.ToKubeadm(c.Config)
			if err != nil {
				return nil, err
			}
			kubeadm, err := manifests.KubeadmConfig(data)
			if err != nil {
				return nil, err
			}
			kubelet, err := manifests.KubeletConfigMap(params(c))
			if err != nil {
				return nil, err
			}
			return together([][]*unstructured.Unstructured{kubeadm, kubelet},
				manifests.ConfigRBAC, manifests.ClusterAdminBinding, manifests.APIServerKubeletClientBinding)
		})
}

// Addons applies CoreDNS and kube-proxy.
func Addons(c *cluster.Cluster) workflow.Phase {
	return objectPhase(c, "addons", "apply CoreDNS and kube-proxy",
		func(context.Context) ([]*unstructured.Unstructured, error) {
			return together(nil,
				func() ([]*unstructured.Unstructured, error) { return manifests.CoreDNS(params(c)) },
				func() ([]*unstructured.Unstructured, error) { return manifests.KubeProxy(params(c)) })
		})
}

// together joins groups of objects, those that are there and those still to be made.
func together(groups [][]*unstructured.Unstructured, more ...func() ([]*unstructured.Unstructured, error)) ([]*unstructured.Unstructured, error) {
	for _, make := range more {
		group, err := make()
		if err != nil {
			return nil, err
		}
		groups = append(groups, group)
	}
	return slices.Concat(groups...), nil
}

// Network applies the network plugin and the user's manifests.
func Network(c *cluster.Cluster) workflow.Phase {
	return objectPhase(c, "network", "apply the pod network",
		func(context.Context) ([]*unstructured.Unstructured, error) {
			var all []*unstructured.Unstructured
			if c.Config.Spec.Networking.Plugin == config.PluginFlannel {
				flannel, err := manifests.Flannel(params(c))
				if err != nil {
					return nil, err
				}
				all = flannel
			}
			for _, path := range c.Config.Spec.Networking.Manifests {
				data, err := os.ReadFile(path)
				if err != nil {
					return nil, fmt.Errorf("spec.networking.manifests: %w", err)
				}
				objects, err := kube.ParseManifests(path, data)
				if err != nil {
					return nil, err
				}
				all = append(all, objects...)
			}
			return all, nil
		})
}
