package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

func newUpgradeCommand(streams Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Take a running cluster to another version of Kubernetes",
		Long: `Take a running cluster to another version of Kubernetes, without an outage and with a way back.

plan says what runs where, what an upgrade would change, and what stands in its way. apply makes it. What users have
changed stays: of static pods and addons only the images change, of the cluster's configuration the version.

A cluster that kubeadm made is upgraded likewise, given a document or --host for each of its hosts.`,
		Args: noArgs,
	}
	cmd.AddCommand(newUpgradePlanCommand(streams), newUpgradeApplyCommand(streams), newUpgradeNodeCommand(streams), newUpgradeDiffCommand(streams))
	return cmd
}

// upgradeTarget is the hosts of a cluster that is to be upgraded.
type upgradeTarget struct{ target }

// connect opens the hosts of a running cluster and asks the cluster for what the document does not say. The document of the
// cluster it returns has the version that the cluster is to have: the argument's, else the bundle's, else the document's,
// else the cluster's own. from is the version that the cluster says it has. An error may come with a cluster of the hosts
// that did answer.
func (t *upgradeTarget) connect(ctx context.Context, streams Streams, version string) (c *cluster.Cluster, from string, err error) {
	t.version = version
	cfg, err := t.load(config.RoleWorker)
	if err != nil {
		return nil, "", err
	}
	if t.file != "" && version == "" && t.bundle != "" {
		cfg.Spec.KubernetesVersion = "" // a bundle on the command line says more than the document
	}
	b, err := openBundle(cfg)
	if err != nil {
		return nil, "", err
	}
	to := cfg.Spec.KubernetesVersion
	config.SetDefaults(cfg)
	if err := errors.Join(config.Validate(cfg), config.ValidateFiles(cfg)); err != nil {
		return nil, "", err
	}
	c, unreached := t.open(ctx, cfg, b, streams)
	if err := joined(ctx, c, t.file == ""); err != nil {
		return c, "", errors.Join(unreached, err)
	}
	if len(c.ControlPlanes()) == 0 {
		return c, "", errors.Join(unreached, errors.New("there is no control plane among the hosts; hint: -f with the cluster's document, or --host for each of its hosts"))
	}
	client, err := c.Kube(ctx)
	if err != nil {
		return c, "", errors.Join(unreached, err)
	}
	if _, err := c.Learn(ctx, client); err != nil {
		return c, "", errors.Join(unreached, err)
	}
	from = c.Config.Spec.KubernetesVersion
	if to != "" {
		c.Config.Spec.KubernetesVersion = to
	}
	return c, from, unreached
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
		case ask && infos[1].Exists:
			n.Spec.Roles = []config.Role{config.RoleControlPlane}
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
