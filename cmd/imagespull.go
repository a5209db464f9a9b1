package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/phases"
)

// imagesPullFlags are those of images pull.
type imagesPullFlags struct {
	target
	output outputFlag
}

func newImagesPullCommand(streams Streams) *cobra.Command {
	var flags imagesPullFlags
	cmd := &cobra.Command{
		Use:   "pull",
		Short: "Bring the images of a version to hosts ahead of time",
		Long: `Bring the images of a version to hosts ahead of time, to all at once: what the phase images of init, join and upgrade would
bring, so that they find it there. Nothing else on the hosts changes, and nothing that runs does.

Hosts get what their roles ask for: the document's, or else a control plane's, unless a host is a worker already. They need
a container runtime. Running it again changes nothing.`,
		Example: `  # ahead of an upgrade
  myadm images pull -f cluster.yaml --kubernetes-version v1.37.2 --mirror https://mirror.example.org/k8s

  # hosts without a document, from a bundle
  myadm images pull --host root@10.0.0.1 --host root@10.0.0.4 --bundle kubernetes-v1.37.2.tar`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runImagesPull(cmd.Context(), streams, flags) },
	}
	keep(cmd)
	flags.target.register(cmd)
	flags.registerArtifacts(cmd)
	flags.output.register(cmd)
	return cmd
}

func runImagesPull(ctx context.Context, streams Streams, flags imagesPullFlags) error {
	c, unreached, err := flags.connect(ctx, streams)
	if err != nil {
		return err
	}
	defer c.Close()
	if flags.file == "" {
		if err := guessRoles(ctx, c.Nodes); err != nil {
			return errors.Join(unreached, err)
		}
	}
	if len(c.Nodes) == 0 {
		return unreached
	}
	release, err := flags.provide(ctx, streams, c, len(c.Nodes), true)
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer release()
	summary, err := runSteps(ctx, streams, selection{}, flags.verbose, phases.Pull(c, c.Nodes))
	if err := errors.Join(unreached, err); err != nil {
		return err
	}
	if flags.output.json() {
		return writeJSON(streams.Out, struct {
			Version string   `json:"kubernetesVersion"`
			Hosts   []string `json:"hosts"`
			Changes int      `json:"changes"`
			Seconds float64  `json:"seconds"`
		}{c.Config.Spec.KubernetesVersion, names(c.Nodes), summary.Changes, summary.Elapsed.Seconds()})
	}
	_, err = fmt.Fprintf(streams.Out, "\nThe images of Kubernetes %s are on %s, after %.1f s with %d changes.\n",
		c.Config.Spec.KubernetesVersion, strings.Join(names(c.Nodes), ", "), summary.Elapsed.Seconds(), summary.Changes)
	return err
}

// connect reads the document and connects to its hosts. The errors of those that cannot be reached are returned apart.
func (f *imagesPullFlags) connect(ctx context.Context, streams Streams) (c *cluster.Cluster, unreached, err error) {
	cfg, err := f.load(config.RoleControlPlane)
	if err != nil {
		return nil, nil, err
	}
	b, err := openBundle(cfg)
	if err != nil {
		return nil, nil, err
	}
	config.SetDefaults(cfg)
	if err := cmp.Or(config.ValidateJoin(cfg), config.ValidateFiles(cfg)); err != nil {
		return nil, nil, err
	}
	if a := cfg.Spec.Artifacts; a.Bundle == "" && a.Mirror == "" && cfg.Spec.Runtime.Type != config.RuntimeExisting {
		return nil, nil, usageError{errors.New("there is nothing to take images from; hint: --bundle PATH, --mirror URL, or spec.artifacts in the document")}
	}
	if err := resolveVersion(ctx, streams, cfg); err != nil {
		return nil, nil, err
	}
	c, unreached = f.open(ctx, cfg, b, streams)
	return c, unreached, nil
}

// guessRoles makes workers of nodes of a cluster that have no API server.
func guessRoles(ctx context.Context, nodes []*cluster.Node) error {
	var errs []error
	for _, n := range nodes {
		infos, err := n.Stat(ctx, config.KubeletConf, manifests.StaticPodPath(manifests.APIServerName))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
		} else if infos[0].Exists && !infos[1].Exists {
			n.Spec.Roles = []config.Role{config.RoleWorker}
		}
	}
	return errors.Join(errs...)
}
