// Package phases holds the phases of which myadm's workflows are made, one per file, and the list that makes init.
//
// A phase is a function that takes the cluster and gives a workflow.Phase: data and two functions, to look and to act.
// What it places comes from the pure packages certs and manifests; here is only when and where.
package phases

import (
	"time"

	"github.com/myadm/myadm/certs"
	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/workflow"
)

// InitOptions are the user's word on init.
type InitOptions struct {
	IgnorePreflight []string
	Patience        time.Duration // for the control plane to become healthy, and for the node to become Ready
	TokenTTL        time.Duration // of the token for the join command

	CertificateKey certs.CertificateKey // to keep in the cluster what further control planes need; the zero key: don't
}

// Init is the list of phases that makes a control plane of n and a cluster of the control plane. What the kubelet needs
// is brought at the same time: the runtime with its images, the binaries, and the PKI with the static pods. And as soon
// as the API answers, nothing there waits for anything else, not even for the API server to call itself ready.
func Init(c *cluster.Cluster, n *cluster.Node, opts InitOptions) []workflow.Step {
	nodes := []*cluster.Node{n}
	return []workflow.Step{
		Preflight(c, nodes, PreflightOptions{Ignore: opts.IgnorePreflight}),
		workflow.Parallel(
			Prepare(c, nodes),
			workflow.Sequence(
				workflow.Pipeline(ExternalEtcd(c, nodes)),
				Certs(c, n),
				Kubeconfigs(c, n),
				StaticPods(c, n),
			),
		),
		Start(c, n, opts),
	}
}

// Prepare brings to hosts what a kubelet needs: each host goes its own way, and all of it comes at the same time.
func Prepare(c *cluster.Cluster, nodes []*cluster.Node) workflow.Step {
	return workflow.Pipeline(
		workflow.Parallel(
			Kernel(c, nodes),
			workflow.Sequence(
				workflow.Parallel(
					Registries(c, nodes),
					Proxy(c, nodes),
				),
				Runtime(c, nodes),
				Images(c, nodes),
				LoadBalancer(c, nodes), // once its image is there
			),
			Binaries(c, nodes),
		),
	)
}

// StaticPods places the control plane that starts a cluster.
func StaticPods(c *cluster.Cluster, n *cluster.Node) workflow.Step {
	return workflow.Pipeline(
		workflow.Parallel(
			Etcd(c, []*cluster.Node{n}),
			ControlPlane(c, []*cluster.Node{n}),
		),
	)
}

// Start starts a control plane that has all it needs, and makes what the cluster needs in its API.
func Start(c *cluster.Cluster, n *cluster.Node, opts InitOptions) workflow.Step {
	nodes := []*cluster.Node{n}
	return workflow.Sequence(
		Kubelet(c, nodes, KubeletConfig(c)),
		WaitAPI(c, n, opts.Patience),
		workflow.Parallel(
			WaitControlPlane(c, nodes, opts.Patience),
			UploadConfig(c),
			BootstrapToken(c, n, opts.TokenTTL),
			UploadCerts(c, n, opts.CertificateKey),
			Addons(c),
			Network(c),
			Endpoint(c),
			workflow.Sequence(
				MarkNodes(c, nodes, opts.Patience),
				KubeletFinalize(c, nodes, opts.Patience),
				NodeReady(c, n, opts.Patience),
			),
		),
	)
}
