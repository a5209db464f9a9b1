package phases

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// MarkControlPlane gives the control plane's node the labels and taints of its roles and of the document.
func MarkControlPlane(c *cluster.Cluster, n *cluster.Node, patience time.Duration) workflow.Phase {
	p := markNodes(c, []*cluster.Node{n}, patience)
	p.Name, p.Short = "mark-control-plane", "label and taint the control plane's node"
	return p
}

// MarkNodes gives nodes the labels and taints of the document; their kubelets set them only once, at registration.
func MarkNodes(c *cluster.Cluster, nodes []*cluster.Node) workflow.Phase {
	return markNodes(c, nodes, 0)
}

// markNodes marks nodes as the administrator. A node that has not registered yet is waited for, as long as patience.
func markNodes(c *cluster.Cluster, nodes []*cluster.Node, patience time.Duration) workflow.Phase {
	return workflow.Phase{
		Name:  "mark-nodes",
		Short: "label and taint the nodes",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			name, marks := marksOf(c.Node(r))
			client, err := c.Kube(ctx)
			if errors.Is(err, cluster.ErrNoCluster) {
				return []workflow.Change{{Action: workflow.Update, Object: "Node " + name, Detail: "labels and taints"}}, nil
			}
			if err != nil {
				return nil, err
			}
			differences, err := kube.DiffNode(ctx, client, name, marks)
			return changesOf(differences), err
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			name, marks := marksOf(c.Node(h))
			client, err := c.Kube(ctx)
			if err != nil {
				return err
			}
			if err := waitNode(ctx, client, name, patience, func(*corev1.Node) string { return "" }); err != nil {
				return err
			}
			return client.MarkNode(ctx, name, marks)
		},
	}
}

func marksOf(n *cluster.Node) (name string, marks kube.NodeMarks) {
	labels, taints := manifests.NodeMarks(n.Spec)
	return n.Spec.Name, kube.NodeMarks{Labels: labels, Taints: taints}
}

// nodeRef names a Node.
func nodeRef(name string) kube.Ref { return kube.Ref{APIVersion: "v1", Kind: "Node", Name: name} }

// IsRegistered tells whether a node's kubelet has made its Node.
func IsRegistered(ctx context.Context, r kube.Reader, name string) (bool, error) {
	_, err := r.Get(ctx, nodeRef(name))
	if kube.NotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// IsReady tells whether a node is registered and Ready.
func IsReady(ctx context.Context, r kube.Reader, name string) (bool, error) {
	node, err := kube.Get[corev1.Node](ctx, r, nodeRef(name))
	if kube.NotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ready, _ := kube.NodeReady(node)
	return ready, nil
}

// WaitReady waits until a node is Ready. The client may be the node's own kubelet's, which sees no other node.
func WaitReady(ctx context.Context, client *kube.Client, n *cluster.Node, patience time.Duration) error {
	err := waitNode(ctx, client, n.Spec.Name, patience, func(node *corev1.Node) string {
		if ready, why := kube.NodeReady(node); !ready {
			return "it is not Ready: " + why
		}
		return ""
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w%s", err, LastWords(ctx, n, "kubelet"))
	}
	return err
}

// waitNode watches one node until it is there and missing has nothing to say of it. A patience of zero is for good.
func waitNode(ctx context.Context, client *kube.Client, name string, patience time.Duration, missing func(*corev1.Node) string) error {
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	only := kube.Selector{APIVersion: "v1", Kind: "Node", Name: name}
	return kube.Until(ctx, client, only, func(nodes []*corev1.Node) []string {
		if len(nodes) == 0 {
			return []string{"node " + name + " has not registered"}
		}
		if why := missing(nodes[0]); why != "" {
			return []string{"node " + name + ": " + why}
		}
		return nil
	})
}
