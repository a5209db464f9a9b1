package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/apply"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/workflow"
)

// applyFlags are apply's.
type applyFlags struct {
	target
	selection
	output        outputFlag
	kubeconfigOut string
	tokenTTL      time.Duration
}

func newApplyCommand(streams Streams) *cobra.Command {
	var flags applyFlags
	cmd := &cobra.Command{
		Use:   "apply -f DOCUMENT",
		Short: "Make the whole cluster of a document",
		Long: `Make the cluster that a document describes: all its control planes and workers, at the same time.

It does what init and join do, in one run: the first control plane starts the cluster, the others join its etcd, and
every node runs a load balancer of its own in front of all API servers, unless the document names another endpoint. The
command ends when all nodes are Ready. Running it again changes nothing, or carries on where it was stopped.

A host that fails does not keep the others from becoming nodes.

What hosts lack comes from --bundle, from a --mirror, or from the makers' servers, and is always verified. --delivery says
how it reaches them: they download, pass it on to each other, or are sent all of it.`,
		Example: `  myadm apply -f cluster.yaml --kubeconfig-out admin.conf

  # from a mirror, downloaded by the hosts
  myadm apply -f cluster.yaml --mirror https://mirror.example/k8s --delivery download

  # what it did, for a script
  myadm apply -f cluster.yaml -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runApply(cmd.Context(), streams, flags) },
	}
	flags.target.register(cmd)
	flags.registerArtifacts(cmd)
	flags.selection.register(cmd)
	flags.registerConcurrency(cmd)
	flags.output.register(cmd)
	cmd.Flags().StringVar(&flags.kubeconfigOut, "kubeconfig-out", "", "`file` to write the administrator's kubeconfig to (0600)")
	cmd.Flags().DurationVar(&flags.tokenTTL, "token-ttl", kube.DefaultTokenTTL, "life of the token for hosts that are not in the document")
	return cmd
}

func runApply(ctx context.Context, streams Streams, flags applyFlags) error {
	if flags.file == "" {
		return usageError{errors.New("there is no document; hint: -f cluster.yaml, as `myadm config defaults` prints one")}
	}
	cfg, err := flags.load(config.RoleControlPlane)
	if err != nil {
		return err
	}
	b, err := openBundle(cfg)
	if err != nil {
		return err
	}
	config.SetDefaults(cfg)
	if err := cmp.Or(config.Validate(cfg), config.ValidateFiles(cfg)); err != nil {
		return err
	}
	if err := resolveVersion(ctx, streams, cfg); err != nil {
		return err
	}
	flags.dials = flags.concurrency
	c, unreached := flags.open(ctx, cfg, b, streams)
	defer c.Close() //nolint:staticcheck // there is a cluster also when hosts are missing in it
	if len(c.ControlPlanes()) == 0 {
		return unreached
	}
	founder, err := apply.Founder(ctx, c)
	if err == nil {
		err = errors.Join(apply.CheckVersion(ctx, c, founder), apply.Learn(ctx, c))
	}
	if err != nil {
		return errors.Join(unreached, err)
	}
	release, err := flags.provide(ctx, streams, c, len(c.Nodes), flags.sends())
	if err != nil {
		return errors.Join(unreached, err)
	}
	defer release()
	summary, err := runSteps(ctx, streams, flags.selection, flags.verbose, apply.Steps(c, founder, apply.Options{
		IgnorePreflight: flags.ignorePreflight, Patience: flags.timeout, TokenTTL: flags.tokenTTL,
	}))
	if err := errors.Join(unreached, err); err != nil {
		return err
	}
	if flags.kubeconfigOut != "" {
		if err := saveKubeconfig(ctx, founder, flags.kubeconfigOut); err != nil {
			return err
		}
	}
	return flags.tell(streams, c, summary)
}

func (f *applyFlags) tell(streams Streams, c *cluster.Cluster, summary workflow.Summary) error {
	servers, workers := names(c.ControlPlanes()), names(c.Workers())
	if f.output.json() {
		return writeJSON(streams.Out, struct {
			Cluster       string   `json:"cluster"`
			Endpoint      string   `json:"endpoint"`
			Version       string   `json:"kubernetesVersion"`
			ControlPlanes []string `json:"controlPlanes"`
			Workers       []string `json:"workers"`
			Changes       int      `json:"changes"`
			Seconds       float64  `json:"seconds"`
			Kubeconfig    string   `json:"kubeconfig,omitempty"`
		}{c.Config.Metadata.Name, c.Config.Endpoint(), c.Config.Spec.KubernetesVersion, servers, workers,
			summary.Changes, summary.Elapsed.Seconds(), f.kubeconfigOut})
	}
	_, err := fmt.Fprintf(streams.Out, "\nCluster %s (Kubernetes %s) has %d control planes and %d workers, in %.1f s with %d changes.\n",
		c.Config.Metadata.Name, c.Config.Spec.KubernetesVersion, len(servers), len(workers), summary.Elapsed.Seconds(), summary.Changes)
	if err == nil && f.kubeconfigOut != "" {
		_, err = fmt.Fprintf(streams.Out, "\nUse it:\n  kubectl --kubeconfig %s get nodes\n", f.kubeconfigOut)
	}
	return err
}

// names are the nodes' names, in the document's order.
func names(nodes []*cluster.Node) []string {
	list := make([]string, len(nodes))
	for i, n := range nodes {
		list[i] = n.Spec.Name
	}
	return list
}
