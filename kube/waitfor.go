package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// WaitNodesReady waits until every named node is there and Ready. progress, when not nil, is told what is still missing
// whenever that changes: "node h2 is not Ready: container runtime network not ready: ...".
func (c *Client) WaitNodesReady(ctx context.Context, names []string, progress func(waiting []string)) error {
	var told []string
	return Until(ctx, c, Selector{APIVersion: "v1", Kind: "Node"}, func(nodes []*corev1.Node) []string {
		waiting := notReady(names, nodes)
		if progress != nil && !slices.Equal(waiting, told) {
			told = waiting
			progress(slices.Clone(waiting))
		}
		return waiting
	})
}

func notReady(names []string, nodes []*corev1.Node) []string {
	var waiting []string
	for _, name := range names {
		i := slices.IndexFunc(nodes, func(n *corev1.Node) bool { return n.Name == name })
		if i < 0 {
			waiting = append(waiting, "node "+name+" has not registered")
		} else if ok, why := NodeReady(nodes[i]); !ok {
			waiting = append(waiting, "node "+name+" is not Ready: "+why)
		}
	}
	return waiting
}

// NodeReady tells whether a node is Ready, and if not what its kubelet says.
func NodeReady(node *corev1.Node) (ready bool, why string) {
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return true, ""
		}
		return false, strings.TrimSpace(c.Message)
	}
	return false, "its kubelet has not reported yet"
}

// WaitConfigMap waits until a ConfigMap is there and has a key.
func (c *Client) WaitConfigMap(ctx context.Context, namespace, name, key string) error {
	sel := Selector{APIVersion: "v1", Kind: "ConfigMap", Namespace: namespace, Name: name}
	return Until(ctx, c, sel, func(maps []*corev1.ConfigMap) []string {
		if len(maps) == 0 {
			return []string{fmt.Sprintf("ConfigMap %s/%s is not there", namespace, name)}
		}
		if _, ok := maps[0].Data[key]; !ok {
			return []string{fmt.Sprintf("ConfigMap %s/%s has no %s", namespace, name, key)}
		}
		return nil
	})
}

// WaitRollout waits until Deployments, DaemonSets and StatefulSets run as they are declared: every replica updated and
// available. If ctx ends first, the error also says what is wrong with their pods.
func (c *Client) WaitRollout(ctx context.Context, workloads ...Ref) error {
	for _, ref := range workloads {
		if _, ok := replicaFields[ref.Kind]; !ok || ref.gvk().Group != "apps" {
			return fmt.Errorf("%s does not roll out", ref)
		}
	}
	return each(len(workloads), func(i int) error { return c.waitRollout(ctx, workloads[i]) })
}

// replicaFields of a workload's status: what is wanted, and the counts that have to reach it.
var replicaFields = map[string]struct {
	want   []string
	counts []string
}{
	"Deployment":  {[]string{"spec", "replicas"}, []string{"updatedReplicas", "availableReplicas"}},
	"StatefulSet": {[]string{"spec", "replicas"}, []string{"updatedReplicas", "availableReplicas"}},
	"DaemonSet":   {[]string{"status", "desiredNumberScheduled"}, []string{"updatedNumberScheduled", "numberAvailable"}},
}

func (c *Client) waitRollout(ctx context.Context, ref Ref) error {
	var latest *unstructured.Unstructured
	sel := Selector{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
	w := &waiter{client: c, sel: sel, check: func(objs []*unstructured.Unstructured) ([]string, error) {
		if len(objs) == 0 {
			return []string{ref.String() + " is not there"}, nil
		}
		latest = objs[0]
		if why := Rollout(latest); why != "" {
			return []string{ref.String() + " " + why}, nil
		}
		return nil, nil
	}}
	err := w.wait(ctx)
	var gaveUp *WaitError
	if errors.As(err, &gaveUp) && latest != nil {
		gaveUp.Waiting = append(gaveUp.Waiting, c.podTroubles(ctx, latest)...)
	}
	return err
}

// Rollout says what is missing of a Deployment, DaemonSet or StatefulSet: "has updatedReplicas 1 of 2". It is empty if
// the workload runs as declared.
func Rollout(obj *unstructured.Unstructured) string {
	number := func(fields ...string) int64 {
		n, _, _ := unstructured.NestedInt64(obj.Object, fields...)
		return n
	}
	if number("status", "observedGeneration") < obj.GetGeneration() || obj.Object["status"] == nil {
		return "has not been seen by its controller"
	}
	fields := replicaFields[obj.GetKind()]
	want := number(fields.want...)
	for _, count := range fields.counts {
		if got := number("status", count); got < want {
			return fmt.Sprintf("has %s %d of %d", count, got, want)
		}
	}
	// Until they are gone, pods as declared before count as available, too.
	if old := number("status", "replicas") - number("status", "updatedReplicas"); old > 0 && obj.GetKind() == "Deployment" {
		return fmt.Sprintf("has %d replicas that are not updated", old)
	}
	return ""
}

// podTroubles says why pods of a workload do not run. It is the last word of a wait that failed, so it has a little time
// of its own, and an error here adds nothing.
func (c *Client) podTroubles(ctx context.Context, workload *unstructured.Unstructured) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	match, _, _ := unstructured.NestedStringMap(workload.Object, "spec", "selector", "matchLabels")
	pods, err := List[corev1.Pod](ctx, c, Selector{
		APIVersion: "v1", Kind: "Pod", Namespace: workload.GetNamespace(), Labels: labels.SelectorFromSet(match).String(),
	})
	if err != nil || len(match) == 0 {
		return nil
	}
	var troubles []string
	for _, pod := range pods {
		if why := podTrouble(pod); why != "" {
			name := "pod " + pod.Name
			if pod.Spec.NodeName != "" {
				name += " on " + pod.Spec.NodeName
			}
			troubles = append(troubles, name+": "+why)
		}
	}
	return troubles
}

func podTrouble(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return "it has not ended" // its node may be gone
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
			return strings.TrimSuffix(w.Reason+": "+w.Message, ": ")
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Type != corev1.ContainersReady {
			return strings.TrimSuffix(cmp.Or(c.Reason, "it is not "+string(c.Type))+": "+c.Message, ": ")
		}
	}
	return ""
}
