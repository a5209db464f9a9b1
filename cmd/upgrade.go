package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/upgrade"
)

func newUpgradeCommand(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Take a running cluster to another version of Kubernetes",
		Long: `Take a running cluster to another version of Kubernetes, without an outage and with a way back.

plan says what runs where, what an upgrade would change, and what stands in its way. apply makes it. What users have
changed stays: of static pods and addons only the images change, of the cluster's configuration the version.

A cluster that kubeadm made is upgraded likewise, given a document or --host for each of its hosts.`,
	}
	cmd.AddCommand(newUpgradePlanCommand(streams), newUpgradeApplyCommand(streams), newUpgradeNodeCommand(streams), newUpgradeDiffCommand(streams))
	return group(cmd)
}

// upgradeTarget is the hosts of a cluster that is to be upgraded.
type upgradeTarget struct {
	target
	mend bool // an upgrade that was cut and has left no API behind is brought to an end; a plan only looks
}

// connect opens the hosts of a running cluster and asks the cluster for what the document does not say. The document of the
// cluster it returns has the version that the cluster is to have: the argument's, else the bundle's, else the document's,
// else the cluster's own. from is the version that the cluster says it has; unreached are the errors of hosts that did not
// answer. There may be a cluster to close also with an error.
func (t *upgradeTarget) connect(ctx context.Context, streams Streams, version string) (c *cluster.Cluster, from string, unreached, err error) {
	c, to, unreached, err := t.openHosts(ctx, streams, version)
	if err != nil {
		return c, "", unreached, err
	}
	from, err = t.ask(ctx, c, to)
	return c, from, unreached, err
}

// openHosts is the part of connect that asks hosts alone. to is the version that argument, bundle or document name, if any.
func (t *upgradeTarget) openHosts(ctx context.Context, streams Streams, version string) (c *cluster.Cluster, to string, unreached, err error) {
	cfg, b, to, err := t.document(ctx, streams, version)
	if err != nil {
		return nil, "", nil, err
	}
	c, unreached = t.open(ctx, cfg, b, streams)
	if err := joined(ctx, c, t.file == ""); err != nil {
		return c, "", unreached, err
	}
	if len(c.ControlPlanes()) == 0 {
		return c, "", unreached, errors.New("there is no control plane among the hosts; hint: -f with the cluster's document, or --host for each of its hosts")
	}
	return c, to, unreached, nil
}

// ask is the part of connect that asks the cluster, and may bring it back first.
func (t *upgradeTarget) ask(ctx context.Context, c *cluster.Cluster, to string) (from string, err error) {
	if err := t.learn(ctx, c); err != nil {
		return "", err
	}
	from = c.Config.Spec.KubernetesVersion
	if to != "" {
		c.Config.Spec.KubernetesVersion = to
	}
	return from, nil
}

// document reads the document, with its defaults, and opens the bundle. to is the version that argument, bundle or document
// name, of a label what it stands for; empty: none of them names one.
func (t *upgradeTarget) document(ctx context.Context, streams Streams, version string) (cfg *config.Cluster, b *bundle.Bundle, to string, err error) {
	t.version = version
	if cfg, err = t.load(config.RoleControlPlane); err != nil { // a document without one is refused; joined corrects it
		return nil, nil, "", err
	}
	if t.file != "" && version == "" && t.bundle != "" {
		cfg.Spec.KubernetesVersion = "" // a bundle on the command line says more than the document
	}
	if b, err = openBundle(cfg); err != nil {
		return nil, nil, "", err
	}
	named := cfg.Spec.KubernetesVersion != ""
	config.SetDefaults(cfg)
	if err := errors.Join(config.Validate(cfg), config.ValidateFiles(cfg)); err != nil {
		return nil, nil, "", err
	}
	if err := resolveVersion(ctx, streams, cfg); err != nil {
		return nil, nil, "", err
	}
	if named {
		to = cfg.Spec.KubernetesVersion
	}
	return cfg, b, to, nil
}

// learn asks the cluster for its configuration. Where the API does not answer because an upgrade was cut, the cluster is
// brought back first, to one version or the other.
func (t *upgradeTarget) learn(ctx context.Context, c *cluster.Cluster) error {
	ask := func() error {
		client, err := c.Kube(ctx)
		if err == nil {
			_, err = c.Learn(ctx, client)
		}
		return err
	}
	err := ask()
	var answered apierrors.APIStatus
	if err == nil || errors.As(err, &answered) || ctx.Err() != nil || !t.mend {
		return err
	}
	recovered, rerr := upgrade.Recover(ctx, c, false)
	if rerr != nil || !recovered {
		return errors.Join(err, rerr)
	}
	return ask()
}

// joined refuses hosts that are no nodes yet. Where the hosts were named and not described, it sees by what is on them
// which are control planes.
func joined(ctx context.Context, c *cluster.Cluster, ask bool) error {
	var errs []error
	for _, n := range c.Nodes {
		infos, err := n.Stat(ctx, config.KubeletConf, manifests.StaticPodPath(manifests.APIServerName))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
		case !infos[0].Exists:
			errs = append(errs, fmt.Errorf("%s is no node of a cluster: %s: %w; hint: myadm join, or take it out of the hosts", n.Name(), config.KubeletConf, fs.ErrNotExist))
		case ask && !infos[1].Exists:
			n.Spec.Roles = []config.Role{config.RoleWorker}
		}
	}
	for i := range c.Config.Spec.Hosts {
		for _, n := range c.Nodes {
			if c.Config.Spec.Hosts[i].Name == n.Spec.Name {
				c.Config.Spec.Hosts[i].Roles = n.Spec.Roles
			}
		}
	}
	return errors.Join(errs...)
}
