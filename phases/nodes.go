package phases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/kube"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// MarkNodes gives nodes the labels and taints of their roles and of the document; their kubelets set some of them, and
// only once, at registration. What the document does not give any more goes, if the Node's record says that a document gave
// it; without a document nothing does. A node that has not registered yet is waited for, as long as patience.
func MarkNodes(c *cluster.Cluster, nodes []*cluster.Node, patience time.Duration) workflow.Phase {
	return workflow.Phase{
		Name:  "mark-nodes",
		Short: "label and taint the nodes",
		Hosts: cluster.Hosts(nodes),
		Check: func(ctx context.Context, r host.Reader) ([]workflow.Change, error) {
			name, marks := marksOf(c, c.Node(r))
			client, err := c.Kube(ctx)
			if errors.Is(err, cluster.ErrNoCluster) {
				return []workflow.Change{{Action: workflow.Update, Object: "Node " + name, Detail: "labels and taints"}}, nil
			}
			if err != nil {
				return nil, err
			}
			differences, err := kube.DiffNode(ctx, client, name, marks)
			if err != nil {
				return nil, err
			}
			return changesOf(ctx, differences)
		},
		Apply: func(ctx context.Context, h host.Host, _ []workflow.Change) error {
			name, marks := marksOf(c, c.Node(h))
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

func marksOf(c *cluster.Cluster, n *cluster.Node) (name string, marks kube.NodeMarks) {
	marks.Labels, marks.Taints = manifests.NodeMarks(n.Spec)
	if c.Config.Described() { // else what is not said is not meant to go
		labels, taints := manifests.RevocableMarks(n.Spec)
		marks.Given = &kube.GivenMarks{Labels: labels, Taints: taints}
	}
	return n.Spec.Name, marks
}

// nodeRef names a Node.
func nodeRef(name string) kube.Ref { return kube.Ref{APIVersion: "v1", Kind: "Node", Name: name} }

// IsReady tells whether a node is registered and Ready by the word of a kubelet that was started at since; the zero time
// takes any. A node whose load balancer has no API server to offer, as when one is started anew, is not: it can be waited
// for.
func IsReady(ctx context.Context, r kube.Reader, name string, since time.Time) (bool, error) {
	node, err := kube.Get[corev1.Node](ctx, r, nodeRef(name))
	var judged apierrors.APIStatus
	switch {
	case err == nil:
	case kube.NotFound(err), ctx.Err() == nil && !errors.As(err, &judged):
		return false, nil
	default:
		return false, err
	}
	ready, _ := ReadySince(node, since)
	return ready, nil
}

// Reported tells whether a node's kubelet has told the API of itself since a moment. Where no API server can be asked, as
// while the node's load balancer has none to offer, nothing says that it has not.
func Reported(ctx context.Context, r kube.Reader, name string, since time.Time) (bool, error) {
	node, err := kube.Get[corev1.Node](ctx, r, nodeRef(name))
	var judged apierrors.APIStatus
	switch {
	case err == nil:
		return !silent(node, since), nil
	case kube.NotFound(err):
		return false, nil
	case ctx.Err() == nil && !errors.As(err, &judged):
		return true, nil
	}
	return false, err
}

// ReadySince tells whether a node is Ready by the word of a kubelet that was started at since, on the host's clock. A Node
// that a host has left behind, because it was reset without the cluster's knowledge, says Ready for most of a minute.
func ReadySince(node *corev1.Node, since time.Time) (ready bool, why string) {
	if silent(node, since) {
		return false, "its kubelet has not reported since it was started"
	}
	return kube.NodeReady(node)
}

func silent(node *corev1.Node, since time.Time) bool {
	return !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && !c.LastHeartbeatTime.Time.Before(since)
	})
}

// WaitReady waits until a node is Ready by the word of a kubelet that was started at since; the zero time takes any. The
// client may be the node's own kubelet's, which sees no other node.
func WaitReady(ctx context.Context, client *kube.Client, n *cluster.Node, since time.Time, patience time.Duration) error {
	err := waitNode(ctx, client, n.Spec.Name, patience, func(node *corev1.Node) string {
		if ready, why := ReadySince(node, since); !ready {
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
