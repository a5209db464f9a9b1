package phases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// sharedTTL is how long the cluster keeps what control planes share: kubeadm's two hours.
const sharedTTL = 2 * time.Hour

// UploadCerts keeps what all control planes share in Secret kube-system/kubeadm-certs, encrypted with the key, for hosts
// that join as control planes by token. The Secret is owned by a token that serves for nothing else and ends with it.
// Without a key there is nothing to do.
func UploadCerts(c *cluster.Cluster, n *cluster.Node, key certs.CertificateKey) workflow.Phase {
	ref := kube.Ref{APIVersion: "v1", Kind: "Secret", Namespace: "kube-system", Name: manifests.KubeadmCertsName}
	external := c.Config.Spec.Etcd.External != nil
	shared := SharedPKI(c, n)
	return workflow.Phase{
		Name:  "upload-certs",
		Short: "keep in the cluster what further control planes need",
		Check: func(ctx context.Context, _ host.Reader) ([]workflow.Change, error) {
			if key == (certs.CertificateKey{}) {
				return nil, nil
			}
			client, err := c.Kube(ctx)
			if errors.Is(err, cluster.ErrNoCluster) {
				return []workflow.Change{{Action: workflow.Create, Object: ref.String()}}, nil
			}
			if err != nil {
				return nil, err
			}
			want, err := shared(ctx)
			if err != nil {
				return nil, err
			}
			secret, err := kube.Get[corev1.Secret](ctx, client, ref)
			switch {
			case kube.NotFound(err):
				return []workflow.Change{{Action: workflow.Create, Object: ref.String()}}, nil
			case err != nil:
				return nil, err
			}
			have, err := certs.Decrypt(secret.Data, key, external)
			if err != nil || !maps.EqualFunc(have, want, bytes.Equal) {
				return []workflow.Change{{Action: workflow.Update, Object: ref.String(), Detail: "for this key"}}, nil
			}
			return nil, nil
		},
		Apply: func(ctx context.Context, _ host.Host, _ []workflow.Change) error {
			files, err := shared(ctx)
			if err != nil {
				return err
			}
			data, err := certs.Encrypt(files, key, external, c.Rand)
			if err != nil {
				return err
			}
			client, err := c.Kube(ctx)
			if err != nil {
				return err
			}
			owner, err := ttlToken(ctx, c, client)
			if err != nil {
				return err
			}
			return applySecret(ctx, client, &corev1.Secret{
				TypeMeta:   metav1.TypeMeta{APIVersion: ref.APIVersion, Kind: ref.Kind},
				ObjectMeta: metav1.ObjectMeta{Namespace: ref.Namespace, Name: ref.Name, OwnerReferences: []metav1.OwnerReference{owner}},
				Data:       data,
			})
		},
	}
}

// ttlToken makes a token that lets nobody in: the controller that removes expired tokens removes what it owns as well.
func ttlToken(ctx context.Context, c *cluster.Cluster, client *kube.Client) (metav1.OwnerReference, error) {
	token, err := kube.NewToken(c.Rand)
	if err != nil {
		return metav1.OwnerReference{}, err
	}
	secret := kube.TokenSpec{Token: token, TTL: sharedTTL, Description: "ends what control planes share in Secret " + manifests.KubeadmCertsName}.Secret(c.Now())
	if err := applySecret(ctx, client, secret); err != nil {
		return metav1.OwnerReference{}, err
	}
	made, err := client.Get(ctx, kube.Ref{APIVersion: "v1", Kind: "Secret", Namespace: secret.Namespace, Name: secret.Name})
	if err != nil {
		return metav1.OwnerReference{}, err
	}
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Secret", Name: made.GetName(), UID: made.GetUID(), Controller: new(true)}, nil
}

func applySecret(ctx context.Context, client *kube.Client, secret *corev1.Secret) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(secret)
	if err != nil {
		return fmt.Errorf("encode Secret %s: %w", secret.Name, err)
	}
	return client.Apply(ctx, []*unstructured.Unstructured{{Object: content}})
}
