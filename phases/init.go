// Package phases holds the phases of which myadm's workflows are made, one per file, and the list that makes init.
//
// A phase is a function that takes the cluster and gives a workflow.Phase: data and two functions, to look and to act.
// What it places comes from the pure packages certs and manifests; here is only when and where.
package phases

import (
	"time"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// InitOptions are the user's word on init.
type InitOptions struct {
	IgnorePreflight []string
	Patience        time.Duration // for the control plane to become healthy, and for the node to become Ready
	TokenTTL        time.Duration // of the token for the join command
}

// Init is the list of phases that makes a control plane of n and a cluster of the control plane. What the kubelet needs
// is brought at the same time: the runtime with its images, the binaries, and the PKI with the static pods. And as soon
// as the API answers, nothing there waits for anything else, not even for the API server to call itself ready.
func Init(c *cluster.Cluster, n *cluster.Node, opts InitOptions) []workflow.Step {
	nodes := []*cluster.Node{n}
	return []workflow.Step{
		Preflight(c, nodes, PreflightOptions{Ignore: opts.IgnorePreflight}),
		workflow.Parallel(
			Kernel(c, nodes),
			workflow.Sequence(
				Runtime(c, nodes),
				Images(c, nodes),
			),
			Binaries(c, nodes),
			workflow.Sequence(
				Certs(c, n),
				Kubeconfigs(c, n),
				workflow.Parallel(
					Etcd(c, n),
					ControlPlane(c, n),
				),
			),
		),
		Kubelet(c, nodes, func() ([]byte, error) { return manifests.KubeletConfig(params(c)) }),
		WaitAPI(c, n, opts.Patience),
		workflow.Parallel(
			WaitControlPlane(c, n, opts.Patience),
			UploadConfig(c),
			BootstrapToken(c, n, opts.TokenTTL),
			Addons(c),
			Network(c),
			workflow.Sequence(
				MarkControlPlane(c, n, opts.Patience),
				KubeletFinalize(n, opts.Patience),
				NodeReady(c, n, opts.Patience),
			),
		),
	}
}
