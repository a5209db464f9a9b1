package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/myadm/myadm/apply"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/workflow"
)

// applyFlags are apply's.
type applyFlags struct {
	documentFlags
	lockFlags
	output        outputFlag
	kubeconfigOut string
}

func newApplyCommand(streams Streams) *cobra.Command {
	var flags applyFlags
	cmd := &cobra.Command{
		Use:   "apply -f DOCUMENT",
		Short: "Make the cluster what a document says",
		Long: `Make the cluster that a document describes: all its control planes and workers, at the same time. The command ends when
all nodes are Ready. Running it again changes nothing, or carries on where it was stopped.

Where there is no cluster it does what init and join do, in one run: the first control plane starts the cluster, the others
join its etcd, and every node runs a load balancer of its own in front of all API servers, unless the document names
another endpoint. A host that fails does not keep the others from becoming nodes.

Where there is one, it changes what differs from the document, because the document was edited or the hosts were, and
nothing else; myadm plan tells what that is. Control planes follow one after the other: static pods, certificates and the
kubelet's configuration are replaced together and, when something does not become healthy, put back, and the run ends
there. Workers follow, --max-unavailable at a time. Users' pods stay where they are, unless the version changes: then it
begins with what upgrade apply does. Hosts that are new in the document join. What a running cluster cannot change, such as
its subnets, is refused before anything is done. Nodes that the document does not name stay, unless --prune names them.

What hosts lack comes from --bundle, from a --mirror, or from the makers' servers, and is always verified. --delivery says
how it reaches them: they download, pass it on to each other, or are sent all of it.`,
		Example: `  myadm apply -f cluster.yaml --kubeconfig-out admin.conf

  # from a mirror, downloaded by the hosts
  myadm apply -f cluster.yaml --mirror https://mirror.example/k8s --delivery download

  # host w-2 was taken out of the document
  myadm apply -f cluster.yaml --prune w-2

  # what it did, for a script
  myadm apply -f cluster.yaml -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runApply(cmd.Context(), streams, flags) },
	}
	keep(cmd)
	flags.documentFlags.register(cmd)
	flags.registerLock(cmd)
	flags.output.register(cmd)
	cmd.Flags().StringVar(&flags.kubeconfigOut, "kubeconfig-out", "", "`file` to write the administrator's kubeconfig to (0600)")
	return cmd
}

func runApply(ctx context.Context, streams Streams, flags applyFlags) (err error) {
	a, err := flags.connect(ctx, streams)
	if a != nil {
		defer a.close()
	}
	if err != nil {
		return err
	}
	ctx, unlock, err := flags.lock(ctx, streams, a.c)
	if err != nil {
		return errors.Join(a.unreached, err)
	}
	defer unlock(&err)
	if err := apply.Recover(ctx, a.c); err != nil {
		return errors.Join(a.unreached, err)
	}
	if err := flags.survey(ctx, streams, a); err != nil {
		return err
	}
	release, err := flags.provide(ctx, streams, a.c, len(a.c.Nodes), flags.sends())
	if err != nil {
		return errors.Join(a.unreached, err)
	}
	defer release()
	opts := flags.options()
	opts.Settle = min(settleTime, opts.Patience)
	summary, err := runSteps(ctx, streams, flags.selection, flags.verbose, a.steps(opts))
	if err := errors.Join(a.unreached, err); err != nil {
		return err
	}
	if flags.kubeconfigOut != "" {
		if err := saveKubeconfig(ctx, a.state.Founder, flags.kubeconfigOut); err != nil {
			return err
		}
	}
	return flags.tell(streams, a.c, summary)
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
