package manifests

import (
	"maps"
	"slices"

	"github.com/myadm/myadm/config"
	corev1 "k8s.io/api/core/v1"
)

// ControlPlaneLabel is the label, and the key of the taint, of control-plane nodes.
const ControlPlaneLabel = "node-role.kubernetes.io/control-plane"

// ControlPlaneLabels are the labels of every control-plane node; their values are empty.
func ControlPlaneLabels() map[string]string {
	return map[string]string{ControlPlaneLabel: "", corev1.LabelNodeExcludeBalancers: ""}
}

// ControlPlaneTaint keeps workloads off control planes that are not workers too.
func ControlPlaneTaint() corev1.Taint {
	return corev1.Taint{Key: ControlPlaneLabel, Effect: corev1.TaintEffectNoSchedule}
}

// NodeMarks are the labels and taints of a host's node: those of its roles, and what the document says of the host, which
// wins over a label of the same name and a taint of the same key and effect.
func NodeMarks(h config.Host) (labels map[string]string, taints []corev1.Taint) {
	labels = map[string]string{}
	if h.HasRole(config.RoleControlPlane) {
		maps.Copy(labels, ControlPlaneLabels())
		own := ControlPlaneTaint()
		none := h.Taints != nil && len(h.Taints) == 0 // the document says so
		if !none && !h.HasRole(config.RoleWorker) && !slices.ContainsFunc(h.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&own) }) {
			taints = append(taints, own)
		}
	}
	maps.Copy(labels, h.Labels)
	return labels, append(taints, h.Taints...)
}

// kubeletLabels are the labels that every kubelet gives its Node, and gives it back when it starts (kubelet's
// initialNode and updateDefaultLabels).
var kubeletLabels = []string{corev1.LabelHostname, corev1.LabelOSStable, corev1.LabelArchStable, "beta.kubernetes.io/os", "beta.kubernetes.io/arch"}

// RevocableMarks are those of NodeMarks that a node loses when the document does not give them any more: all taints, and the
// labels but for those that its role or its kubelet gives it, or a command line.
func RevocableMarks(h config.Host) (labels map[string]string, taints []corev1.Taint) {
	labels = maps.Clone(h.Labels)
	maps.DeleteFunc(labels, func(key, _ string) bool {
		_, role := ControlPlaneLabels()[key]
		return role || slices.Contains(kubeletLabels, key) || slices.Contains(h.FlagLabels, key)
	})
	_, taints = NodeMarks(h)
	return labels, taints
}
