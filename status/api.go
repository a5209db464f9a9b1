package status

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
)

// apiAnswer is what the API says.
type apiAnswer struct {
	nodes   []Node
	version string          // of Kubernetes; empty: the cluster does not say
	config  *config.Cluster // the document, as the cluster has it; nil: the cluster does not say
	err     error           // why the nodes are not known
}

// askAPI asks an API server that works for the nodes and for what the cluster says of itself.
func askAPI(ctx context.Context, c *cluster.Cluster) (a apiAnswer) {
	choosing, chosen := context.WithTimeoutCause(ctx, 2*answerTimeout, errNoAnswer) // Kube gives control planes as long as that
	defer chosen()
	client, err := c.Kube(choosing)
	if err != nil {
		return apiAnswer{err: reached(choosing, c, err)}
	}
	bounded, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		list, err := kube.List[corev1.Node](bounded, client, kube.Selector{APIVersion: "v1", Kind: "Node"})
		a.err = cause(bounded, err)
		for _, n := range list {
			a.nodes = append(a.nodes, nodeOf(n))
		}
	})
	wg.Go(func() { a.config, a.version = learn(bounded, client, c.Config) })
	wg.Wait()
	return a
}

// cause puts the reason for which ctx ended in the place of what a library makes of it.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// learn lays over a copy of the document what the cluster says of itself; nil when it does not. A cluster that kubeadm made
// says nothing of load balancers.
func learn(ctx context.Context, client kube.Reader, document *config.Cluster) (cfg *config.Cluster, version string) {
	copied := *document
	cfg = &copied
	cfg.Spec.ControlPlaneEndpoint, cfg.Spec.KubernetesVersion = "", ""
	kubeadm, err := configMap(ctx, client, manifests.KubeadmConfigName)
	if err != nil || config.FromKubeadm([]byte(kubeadm.Data[manifests.KubeadmConfigKey]), cfg) != nil {
		return nil, ""
	}
	version = cfg.Spec.KubernetesVersion
	var settings manifests.MyadmSettings
	ours, err := configMap(ctx, client, manifests.MyadmConfigName)
	if err == nil {
		settings, err = manifests.ReadMyadmConfig(ours.Data)
	}
	if err != nil && !kube.NotFound(err) {
		return nil, version
	}
	cfg.Spec.LoadBalancer = settings.LoadBalancer
	if cfg.Spec.LoadBalancer.Type == "" && cfg.Spec.ControlPlaneEndpoint != "" {
		cfg.Spec.LoadBalancer.Type = config.LoadBalancerExternal
	}
	if len(settings.APIServers) > 0 {
		cfg.Spec.APIServerPort = int32(settings.APIServers[0].Port())
	}
	return cfg, version
}

func configMap(ctx context.Context, client kube.Reader, name string) (*corev1.ConfigMap, error) {
	return kube.Get[corev1.ConfigMap](ctx, client, kube.Ref{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: name})
}

func nodeOf(n *corev1.Node) Node {
	node := Node{
		Name: n.Name, Registered: true, Roles: roles(n), Unschedulable: n.Spec.Unschedulable,
		KubeletVersion: n.Status.NodeInfo.KubeletVersion, Runtime: n.Status.NodeInfo.ContainerRuntimeVersion,
	}
	node.Ready, node.Reason = kube.NodeReady(n)
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			node.Address = a.Address
			break
		}
	}
	return node
}

// roleLabel is followed by the role's name.
const roleLabel = "node-role.kubernetes.io/"

// roles are a node's roles by its labels, and worker for one without any. A control plane that takes any pod is a worker
// as well.
func roles(n *corev1.Node) []string {
	var list []string
	for label := range n.Labels {
		if role, ok := strings.CutPrefix(label, roleLabel); ok && role != "" {
			list = append(list, role)
		}
	}
	slices.Sort(list)
	reserved := slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return strings.HasPrefix(t.Key, roleLabel) })
	worker := string(config.RoleWorker)
	if !slices.Contains(list, worker) && !reserved {
		list = append(list, worker)
	}
	return list
}

// askEndpoint asks for an API server at the endpoint, as a program on the host reaches it. That one answers is enough:
// without credentials it may not say more.
func askEndpoint(ctx context.Context, n *cluster.Node, address string) Answer {
	if address == "" {
		return Answer{Host: n.Spec.Name, Error: "it is not known"}
	}
	err := ask(ctx, n, fmt.Sprintf("https://%s/readyz", address))
	if refused(err) {
		err = nil
	}
	return Answer{Host: n.Spec.Name, OK: err == nil, Error: text(err)}
}
