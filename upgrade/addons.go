package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/workflow"
)

// workload is an addon that goes by the version of Kubernetes, and the one container of it that does. Where the user has
// removed or replaced it, nothing is to be done.
type workload struct {
	ref       kube.Ref
	container string
	image     string // at the version that is upgraded to
	homes     []string

	found *unstructured.Unstructured // nil: it is not there
}

// The parts of CoreDNS, under the names that kubeadm gave them.
const (
	coreDNS        = "coredns"
	corefileField  = "Corefile"
	corefileBackup = "Corefile-backup" // the key under which kubeadm, too, keeps the one before
)

var corefileRef = kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: metav1.NamespaceSystem, Name: coreDNS}

// formerRepositories are those from which kubeadm took images by default.
var formerRepositories = []string{config.DefaultImageRepository, "k8s.gcr.io"}

// Addons gives CoreDNS and kube-proxy the images of the cluster's new version, and CoreDNS a Corefile that its new version
// takes, and waits until all their pods run so, no longer than patience. Nothing else of them changes: what the user has
// set stays, and images of the user's own and newer ones stay, too (preflight names them).
func Addons(c *cluster.Cluster, patience time.Duration) workflow.Phase {
	return workflow.Phase{
		Name:  "addons",
		Short: "bring CoreDNS and kube-proxy to the new version",
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			client, err := c.Kube(ctx)
			if err != nil {
				return nil, err
			}
			all, err := workloads(ctx, client, c)
			if err != nil {
				return nil, err
			}
			var changes []workflow.Change
			edits, err := addonEdits(ctx, client, all)
			if err == nil {
				changes, err = showEdits(ctx, client, edits)
			}
			away, awayErr := absent(ctx, client)
			if err := errors.Join(err, awayErr); err != nil {
				return nil, err
			}
			for _, w := range all {
				if next, kept := w.next(); next != "" || kept != "" || w.found == nil {
					continue
				}
				if why := kube.Rollout(w.found); why != "" && !w.heldUp(away) {
					changes = append(changes, workflow.Change{Action: workflow.Run, Object: w.ref.String(), Detail: "roll out: it " + why})
				}
			}
			return changes, nil
		},
		Apply: func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
			client, err := c.Kube(ctx)
			if err != nil {
				return err
			}
			all, err := workloads(ctx, client, c)
			if err != nil {
				return err
			}
			edits, err := addonEdits(ctx, client, all)
			if err != nil {
				return err
			}
			for _, e := range edits {
				if err := e.apply(ctx, client); err != nil {
					return err
				}
			}
			away, err := absent(ctx, client)
			if err != nil {
				return err
			}
			var refs []kube.Ref
			for _, w := range all {
				switch _, kept := w.next(); {
				case kept != "" || w.found == nil:
				case w.heldUp(away):
					workflow.Warn(ctx, fmt.Sprintf("%s is not waited for, since a pod of it can start on no node that is not Ready: %s", w.ref, strings.Join(away, ", ")))
				default:
					refs = append(refs, w.ref)
				}
			}
			waiting, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("after %s", patience))
			defer cancel()
			err = client.WaitRollout(waiting, refs...)
			if err != nil && waiting.Err() != nil && ctx.Err() == nil {
				return fmt.Errorf("%w; hint: see to these pods and to the nodes that they are on, and run it again", err)
			}
			return err
		},
	}
}

// absent are the nodes that are not Ready.
func absent(ctx context.Context, r kube.Reader) ([]string, error) {
	nodes, err := kube.List[corev1.Node](ctx, r, kube.Selector{APIVersion: "v1", Kind: "Node"})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range nodes {
		if ready, _ := kube.NodeReady(n); !ready {
			names = append(names, n.Name)
		}
	}
	return names, nil
}

// heldUp tells whether the roll-out would wait for nodes that are away: a DaemonSet has a pod on each. What comes after it
// does not wait for them: a kube-proxy may be as old as a kubelet.
func (w workload) heldUp(away []string) bool { return w.ref.Kind == "DaemonSet" && len(away) > 0 }

// workloads are CoreDNS and kube-proxy as they are in the cluster.
func workloads(ctx context.Context, r kube.Reader, c *cluster.Cluster) ([]workload, error) {
	images, err := config.ImagesOf(c.Config)
	if err != nil {
		return nil, err
	}
	homes := append([]string{c.Config.Spec.ImageRepository}, formerRepositories...)
	inSystem := func(kind, name string) kube.Ref {
		return kube.Ref{APIVersion: "apps/v1", Kind: kind, Namespace: metav1.NamespaceSystem, Name: name}
	}
	all := []workload{
		{ref: inSystem("Deployment", coreDNS), container: coreDNS, image: images.CoreDNS, homes: homes},
		{ref: inSystem("DaemonSet", "kube-proxy"), container: "kube-proxy", image: images.Proxy, homes: homes},
	}
	for i := range all {
		found, err := r.Get(ctx, all[i].ref)
		if err != nil && !kube.NotFound(err) {
			return nil, err
		}
		if err == nil {
			all[i].found = found
		}
	}
	return all, nil
}

// addonEdits are the changes, in the order in which they are to be made: what CoreDNS reads comes before CoreDNS.
func addonEdits(ctx context.Context, r kube.Reader, all []workload) ([]edit, error) {
	var edits []edit
	for _, w := range all {
		next, _ := w.next()
		if next == "" {
			continue
		}
		if w.ref.Name == coreDNS {
			e, err := w.corefileEdit(ctx, r)
			if err != nil {
				return nil, err
			}
			edits = append(edits, e...)
		}
		edits = append(edits, edit{ref: w.ref, detail: "image " + next + " instead of " + w.has(), do: func(obj *unstructured.Unstructured) error {
			w.found = obj // as it is by now
			if next, _ := w.next(); next != "" {
				return setImage(obj, w.container, next)
			}
			return nil
		}})
	}
	return edits, nil
}

// corefileEdit rewrites the Corefile, if the new CoreDNS would not take it. None is fine: CoreDNS then reads something else.
func (w workload) corefileEdit(ctx context.Context, r kube.Reader) ([]edit, error) {
	have, err := r.Get(ctx, corefileRef)
	if kube.NotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	from, to := versionIn(w.has()), versionIn(w.image)
	rewrite := func(obj *unstructured.Unstructured) (changed bool, err error) {
		text, ok, _ := unstructured.NestedString(obj.Object, "data", corefileField)
		if !ok {
			return false, nil
		}
		migrated, changed, err := migrateCorefile(from, to, text)
		if err != nil || !changed {
			return false, err
		}
		return true, errors.Join(
			unstructured.SetNestedField(obj.Object, text, "data", corefileBackup),
			unstructured.SetNestedField(obj.Object, migrated, "data", corefileField))
	}
	changed, err := rewrite(have.DeepCopy())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", corefileRef, err)
	}
	if !changed {
		return nil, nil
	}
	detail := fmt.Sprintf("Corefile for CoreDNS %s, the one before under %s", to, corefileBackup)
	return []edit{{ref: corefileRef, detail: detail, do: func(obj *unstructured.Unstructured) error {
		_, err := rewrite(obj)
		return err
	}}}, nil
}

// next is the image that the workload is to get, empty if it has it; or why it keeps another.
func (w workload) next() (image, kept string) {
	if w.found == nil {
		return "", ""
	}
	has := w.has()
	version, target := versionIn(has), versionIn(w.image)
	switch {
	case has == w.image:
		return "", ""
	case has == "":
		return "", "stays as it is: it has no container " + w.container
	case version == nil, target == nil, !w.ours(has):
		return "", "keeps " + has + ", an image of your own; the version asks for " + w.image
	case version.GreaterThan(target):
		return "", "keeps " + has + ", which is newer than " + w.image
	}
	return w.image, ""
}

// has is the image that the workload has; empty if it has no such container.
func (w workload) has() string {
	containers, _, _ := unstructured.NestedSlice(w.found.Object, "spec", "template", "spec", "containers")
	for _, c := range containers {
		if container, ok := c.(map[string]any); ok && container["name"] == w.container {
			image, _ := container["image"].(string)
			return image
		}
	}
	return ""
}

// ours tells whether an image is kubeadm's or myadm's by its name, from the cluster's repository or a default one.
func (w workload) ours(image string) bool {
	name, _ := splitTag(image)
	return slices.ContainsFunc(w.homes, func(home string) bool {
		return name == home+"/"+w.container || name == home+"/"+w.container+"/"+w.container
	})
}

func setImage(obj *unstructured.Unstructured, container, image string) error {
	path := []string{"spec", "template", "spec", "containers"}
	containers, _, err := unstructured.NestedSlice(obj.Object, path...)
	if err != nil {
		return err
	}
	for _, c := range containers {
		if c, ok := c.(map[string]any); ok && c["name"] == container {
			c["image"] = image
		}
	}
	return unstructured.SetNestedSlice(obj.Object, containers, path...)
}

// versionIn is the version in an image's tag, nil when it is none. A digest says nothing of versions.
func versionIn(image string) *semver.Version {
	_, tag := splitTag(image)
	v, err := semver.NewVersion(strings.ReplaceAll(tag, "_", "+")) // as config.ImagesOf writes it
	if err != nil {
		return nil
	}
	return v
}

// splitTag takes an image apart. One with a digest, or without a tag, has none.
func splitTag(image string) (name, tag string) {
	colon := strings.LastIndexByte(image, ':')
	if strings.Contains(image, "@") || colon < strings.LastIndexByte(image, '/') {
		return image, ""
	}
	return image[:max(colon, 0)], image[colon+1:]
}
