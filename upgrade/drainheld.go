package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/myadm/myadm/kube"
)

// heldPod is one that does not leave its node.
type heldPod struct {
	pod   *corev1.Pod
	why   string   // what follows the pod's name: "has no controller ..."
	hints []string // what the user can do
}

// assess lists the pods that a drain has to move, and those of them that it cannot: never, without another choice, or not
// as long as their budget is as it is.
func assess(ctx context.Context, client *kube.Client, node string, opts DrainOptions) (pods []*corev1.Pod, never, notNow []heldPod, err error) {
	list, errs := opts.helper(ctx, client).GetPodsForDeletion(node)
	if len(errs) > 0 {
		return nil, nil, nil, errors.Join(errs...)
	}
	var budgets []*policyv1.PodDisruptionBudget
	if !opts.DisableEviction {
		if budgets, err = listBudgets(ctx, client); err != nil {
			return nil, nil, nil, err
		}
	}
	for _, pod := range list.Pods() {
		pods = append(pods, &pod)
		if h, ok := held(&pod, opts); ok {
			never = append(never, h)
			continue
		}
		switch why, forever := budgetHolds(budgets, &pod); {
		case forever:
			never = append(never, heldPod{&pod, why, []string{"--drain-disable-eviction deletes pods whatever their budgets say"}})
		case why != "":
			notNow = append(notNow, heldPod{&pod, why, []string{"another replica"}})
		}
	}
	return pods, never, notNow, nil
}

// refusal is the error for pods that would never go.
func refusal(node string, never []heldPod) *DrainError {
	e := &DrainError{Node: node}
	for _, h := range never {
		e.Left = append(e.Left, podClause(h.pod, h.why))
		for _, hint := range h.hints {
			if !slices.Contains(e.Hints, hint) {
				e.Hints = append(e.Hints, hint)
			}
		}
	}
	return e
}

// held tells whether a pod that the drain has to move stays for want of a choice. The rules are kubectl drain's.
func held(pod *corev1.Pod, opts DrainOptions) (heldPod, bool) {
	if finished(pod) {
		return heldPod{}, false
	}
	h := heldPod{pod: pod}
	var why []string
	if owner := metav1.GetControllerOf(pod); !opts.Force {
		const hint = "--drain-force moves pods that have no controller"
		switch {
		case owner == nil:
			why, h.hints = append(why, "has no controller that would replace it"), append(h.hints, hint)
		case owner.Kind == "DaemonSet": // pods of one that is there are none to be moved
			why, h.hints = append(why, "is of DaemonSet "+owner.Name+", which is gone"), append(h.hints, hint)
		}
	}
	if !opts.DeleteEmptyDirData && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil }) {
		why = append(why, "has emptyDir volumes, whose data would be lost")
		h.hints = append(h.hints, "--drain-delete-emptydir-data moves pods that have emptyDir volumes")
	}
	h.why = strings.Join(why, " and ")
	return h, len(why) > 0
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func listBudgets(ctx context.Context, client *kube.Client) ([]*policyv1.PodDisruptionBudget, error) {
	return kube.List[policyv1.PodDisruptionBudget](ctx, client, kube.Selector{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"})
}

// budgetHolds says why the API server would not evict a pod at this moment, and whether that is forever; nothing if it
// would. The rules are those of the eviction API.
// Source: https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
func budgetHolds(budgets []*policyv1.PodDisruptionBudget, pod *corev1.Pod) (why string, forever bool) {
	if finished(pod) || pod.Status.Phase == corev1.PodPending || pod.DeletionTimestamp != nil {
		return "", false
	}
	var its []*policyv1.PodDisruptionBudget
	var names []string
	for _, b := range budgets {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && b.Namespace == pod.Namespace && selector.Matches(labels.Set(pod.Labels)) {
			its, names = append(its, b), append(names, b.Name)
		}
	}
	switch {
	case len(its) == 0:
		return "", false
	case len(its) > 1:
		return "has more than one PodDisruptionBudget (" + strings.Join(names, ", ") + "), which eviction does not support", true
	}
	b := its[0]
	if b.Status.DisruptionsAllowed > 0 || !ready(pod) && sparesUnready(b) {
		return "", false
	}
	return fmt.Sprintf("is held by PodDisruptionBudget %s, which allows no disruption (%d healthy pods, %d needed)",
		b.Name, b.Status.CurrentHealthy, b.Status.DesiredHealthy), false
}

// sparesUnready tells whether a budget lets pods go that are not Ready.
func sparesUnready(b *policyv1.PodDisruptionBudget) bool {
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.DesiredHealthy > 0 && b.Status.CurrentHealthy >= b.Status.DesiredHealthy
}

func ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func podName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

func podClause(pod *corev1.Pod, why string) string { return "pod " + podName(pod) + " " + why }
