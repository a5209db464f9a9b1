package upgrade

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// edit is a change of one object in the cluster. do makes it, on whatever the object is by then.
type edit struct {
	ref    kube.Ref
	detail string
	do     func(obj *unstructured.Unstructured) error
	create *unstructured.Unstructured // what is not there yet, instead of do
}

func (e edit) change() workflow.Change {
	if e.create != nil {
		return workflow.Change{Action: workflow.Create, Object: e.ref.String()}
	}
	return workflow.Change{Action: workflow.Update, Object: e.ref.String(), Detail: e.detail}
}

func (e edit) apply(ctx context.Context, client *kube.Client) error {
	if e.create != nil {
		return client.Apply(ctx, []*unstructured.Unstructured{e.create})
	}
	return client.Update(ctx, e.ref, e.do)
}

// UploadConfig tells the cluster its new version, for kubeadm and for nodes that join, and gives nodes the rights that they
// need at that version. All else that the cluster keeps of its configuration is the user's, kubelet-config included, in
// which nothing goes by the version.
func UploadConfig(c *cluster.Cluster) workflow.Phase {
	return workflow.Phase{
		Name:  "upload-config",
		Short: "tell the cluster its new version",
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			client, err := c.Kube(ctx)
			if err != nil {
				return nil, err
			}
			edits, err := configEdits(ctx, client, c.Config.Spec.KubernetesVersion)
			if err != nil {
				return nil, err
			}
			return showEdits(ctx, client, edits)
		},
		Apply: func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
			client, err := c.Kube(ctx)
			if err != nil {
				return err
			}
			edits, err := configEdits(ctx, client, c.Config.Spec.KubernetesVersion)
			if err != nil {
				return err
			}
			for _, e := range edits {
				if err := e.apply(ctx, client); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func changesOf(edits []edit) []workflow.Change {
	var changes []workflow.Change
	for _, e := range edits {
		changes = append(changes, e.change())
	}
	return changes
}

func configEdits(ctx context.Context, r kube.Reader, version string) ([]edit, error) {
	ref := kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: metav1.NamespaceSystem, Name: manifests.KubeadmConfigName}
	have, err := r.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	do := func(obj *unstructured.Unstructured) error { return setVersion(obj, version) }
	told := have.DeepCopy()
	if err := do(told); err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	rights, err := rightsEdits(ctx, r)
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(have, told) {
		return rights, nil
	}
	return append(rights, edit{ref: ref, detail: "kubernetesVersion: " + version, do: do}), nil
}

func setVersion(obj *unstructured.Unstructured, version string) error {
	text, _, _ := unstructured.NestedString(obj.Object, "data", manifests.KubeadmConfigKey)
	data, err := config.SetKubernetesVersion([]byte(text), version)
	if err != nil {
		return err
	}
	return unstructured.SetNestedField(obj.Object, string(data), "data", manifests.KubeadmConfigKey)
}

// rightsEdits add what is missing of the rights that kubeadm and myadm give to nodes, tokens and administrators. Rules and
// subjects that the user has added stay. What strangers may read stays taken away if somebody took it away.
func rightsEdits(ctx context.Context, r kube.Reader) ([]edit, error) {
	var want []*unstructured.Unstructured
	for _, make := range []func() ([]*unstructured.Unstructured, error){
		manifests.ConfigRBAC, manifests.ClusterAdminBinding, manifests.APIServerKubeletClientBinding, manifests.BootstrapRBAC,
	} {
		objects, err := make()
		if err != nil {
			return nil, err
		}
		want = append(want, objects...)
	}
	slots := make([]edit, len(want))
	group, ctx := errgroup.WithContext(ctx)
	for i, w := range want {
		group.Go(func() error {
			have, err := r.Get(ctx, kube.RefOf(w))
			switch {
			case kube.NotFound(err) && w.GetNamespace() == metav1.NamespacePublic:
			case kube.NotFound(err):
				slots[i] = edit{ref: kube.RefOf(w), create: w}
			case err != nil:
				return err
			default:
				if fields := addRights(have, w); len(fields) > 0 {
					do := func(obj *unstructured.Unstructured) error {
						addRights(obj, w)
						return nil
					}
					slots[i] = edit{ref: kube.RefOf(w), detail: strings.Join(fields, ", "), do: do}
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return slices.DeleteFunc(slots, func(e edit) bool { return e.ref == kube.Ref{} }), err
}

// addRights adds to a role or binding what another has, and names the lists that have grown. They are atomic for server-side
// apply, which would take away what the user has added.
func addRights(obj, more *unstructured.Unstructured) (fields []string) {
	for _, field := range []string{"rules", "subjects"} {
		wanted, _ := more.Object[field].([]any)
		all, _ := obj.Object[field].([]any)
		have := len(all)
		for _, w := range wanted {
			if !slices.ContainsFunc(all, func(a any) bool { return reflect.DeepEqual(a, w) }) {
				all = append(all, w)
			}
		}
		if len(all) > have {
			obj.Object[field] = all
			fields = append(fields, field)
		}
	}
	return fields
}
