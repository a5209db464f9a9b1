package phases

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// initToken marks the token that init makes, by its description.
const initToken = "made by myadm init"

// BootstrapToken lets hosts join: what a token may do, what a host can learn before it trusts anything, and a token, as
// long as there is no sound one of init's.
func BootstrapToken(c *cluster.Cluster, n *cluster.Node, ttl time.Duration) workflow.Phase {
	objects := BootstrapAccess(c, n)
	check, apply := objects.Check, objects.Apply
	objects.Check = func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
		changes, err := check(ctx, r)
		if err != nil {
			return nil, err
		}
		client, err := c.Kube(ctx)
		if err == nil {
			if _, err = InitToken(ctx, client, c.Now()); err == nil {
				return changes, nil
			}
		}
		if errors.Is(err, ErrNoToken) || errors.Is(err, cluster.ErrNoCluster) {
			return append(changes, workflow.Change{Action: workflow.Create, Object: "bootstrap token", Detail: "for " + ttl.String()}), nil
		}
		return nil, err
	}
	objects.Apply = func(ctx context.Context, h host.Host, changes []workflow.Change) error {
		if err := apply(ctx, h, changes); err != nil {
			return err
		}
		if !hasObject(changes, "bootstrap token") {
			return nil
		}
		client, err := c.Kube(ctx)
		if err != nil {
			return err
		}
		token, err := kube.NewToken(c.Rand)
		if err != nil {
			return err
		}
		return client.CreateToken(ctx, kube.TokenSpec{Token: token, TTL: ttl, Usages: kube.DefaultTokenUsages(), Groups: []string{kube.DefaultTokenGroup}, Description: initToken}, c.Now())
	}
	return objects
}

// BootstrapAccess is BootstrapToken without a token, for a cluster that has been made: whether it is to have one is for its
// administrator to say.
func BootstrapAccess(c *cluster.Cluster, n *cluster.Node) workflow.Phase {
	return objectPhase(c, "bootstrap-token", "let hosts join by token", func(ctx context.Context) ([]*unstructured.Unstructured, error) {
		ca, err := ReadFiles(ctx, n, []string{config.PKIDir + "/ca.crt"})
		if err != nil {
			return nil, err
		}
		info, err := manifests.ClusterInfo(c.Config.Endpoint(), ca[config.PKIDir+"/ca.crt"])
		if err != nil {
			return nil, err
		}
		return together([][]*unstructured.Unstructured{info}, manifests.BootstrapRBAC)
	})
}

// ErrNoToken says that init's token has expired or was deleted.
var ErrNoToken = errors.New("there is no token; hint: myadm token create --print-join-command")

// InitToken finds the token that init made, as long as it can be used.
func InitToken(ctx context.Context, r kube.Reader, now time.Time) (kube.Token, error) {
	tokens, err := kube.ListTokens(ctx, r)
	if err != nil {
		return kube.Token{}, err
	}
	for _, t := range tokens {
		if t.Description == initToken && t.Invalid == "" && !t.Expired(now) {
			return t.Token, nil
		}
	}
	return kube.Token{}, ErrNoToken
}
