package phases

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/kube"
)

// marking is what MarkNodes would change on a node, with its details.
func marking(t *testing.T, c *cluster.Cluster, n *cluster.Node) []string {
	t.Helper()
	changes, err := MarkNodes(c, []*cluster.Node{n}, time.Minute).Check(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range changes {
		lines = append(lines, fmt.Sprintf("%s %s (%s)", c.Action, c.Object, c.Detail))
	}
	return lines
}

// A node follows the document from edit to edit: what is taken out of it goes, what others have set stays.
func TestMarkNodesFollowTheDocument(t *testing.T) {
	const theRole, other = "node-role.kubernetes.io/control-plane:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule"
	c, s := withAPI(t)
	described(t, c, nil)
	n := node("cp-1", corev1.ConditionTrue)
	n.Labels = map[string]string{"theirs": "x", "kubernetes.io/hostname": "cp-1", "disk": "ssd"} // disk: its kubelet has registered with it
	n.Spec.Taints = []corev1.Taint{{Key: "node.kubernetes.io/not-ready", Effect: corev1.TaintEffectNoSchedule}}
	s.Put(t, n)
	gpu := corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}
	for _, step := range []struct {
		name   string
		edit   func(h *config.Host)
		detail string
		labels []string
		taints []string
	}{
		{
			"made by the document", func(h *config.Host) {
				h.Labels, h.Taints = map[string]string{"disk": "ssd", "kubernetes.io/hostname": "cp-1"}, []corev1.Taint{gpu}
			},
			"metadata.labels[node-role.kubernetes.io/control-plane], metadata.labels[node.kubernetes.io/exclude-from-external-load-balancers], spec.taints[gpu:NoSchedule], spec.taints[" + theRole + "]",
			[]string{"disk", "kubernetes.io/hostname", "theirs"}, []string{other, theRole, "gpu:NoSchedule"},
		},
		{
			"without a label and a taint", func(h *config.Host) { h.Labels, h.Taints = nil, nil },
			"remove label disk, remove taint gpu:NoSchedule", []string{"kubernetes.io/hostname", "theirs"}, []string{other, theRole},
		},
		{
			"a worker, too", func(h *config.Host) { h.Roles = append(h.Roles, config.RoleWorker) },
			"remove taint " + theRole, []string{"kubernetes.io/hostname", "theirs"}, []string{other},
		},
		{
			"a control plane alone again", func(h *config.Host) { h.Roles = h.Roles[:1] },
			"spec.taints[" + theRole + "]", []string{"kubernetes.io/hostname", "theirs"}, []string{other, theRole},
		},
		{
			"without taints at all", func(h *config.Host) { h.Taints = []corev1.Taint{} },
			"remove taint " + theRole, []string{"kubernetes.io/hostname", "theirs"}, []string{other},
		},
	} {
		step.edit(&c.Nodes[0].Spec)
		p := MarkNodes(c, c.Nodes, time.Minute)
		if diff := cmp.Diff([]string{"update Node cp-1 (" + step.detail + ")"}, marking(t, c, c.Nodes[0])); diff != "" {
			t.Errorf("%s: the plan (-want +got):\n%s", step.name, diff)
		}
		run(t, p)
		got, err := kube.Get[corev1.Node](t.Context(), s.Client(t, kube.Options{}), nodeRef("cp-1"))
		if err != nil {
			t.Fatal(err)
		}
		var labels, taints []string
		for name := range got.Labels {
			labels = append(labels, name)
		}
		for _, taint := range got.Spec.Taints {
			taints = append(taints, fmt.Sprintf("%s:%s", taint.Key, taint.Effect))
		}
		slices.Sort(labels)
		slices.Sort(taints)
		want := append(step.labels, "node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers")
		slices.Sort(want)
		slices.Sort(step.taints)
		if diff := cmp.Diff(want, labels); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", step.name, diff)
		}
		if diff := cmp.Diff(step.taints, taints); diff != "" {
			t.Errorf("%s: taints (-want +got):\n%s", step.name, diff)
		}
		version := s.Version()
		if summary := run(t, p); summary.Changes != 0 || s.Version() != version {
			t.Errorf("%s: running it again makes %d changes", step.name, summary.Changes)
		}
	}
}

// A node of an older myadm's or of kubeadm's does not say which of its marks a document gave.
func TestMarkNodesKeepWhatNothingIsSaidOf(t *testing.T) {
	c, s := withAPI(t, "w-1")
	described(t, c, nil)
	n := node("w-1", corev1.ConditionTrue)
	n.Labels = map[string]string{"disk": "ssd"}
	n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
	s.Put(t, n)
	worker := c.Nodes[1:]
	worker[0].Spec.Roles = []config.Role{config.RoleWorker}
	version := s.Version()
	if summary := run(t, MarkNodes(c, worker, time.Minute)); summary.Changes != 0 || s.Version() != version {
		t.Errorf("%d changes", summary.Changes)
	}

	worker[0].Spec.Labels = map[string]string{"disk": "ssd"} // from here on it is the document's
	if diff := cmp.Diff([]string{"update Node w-1 (metadata.annotations[myadm.dev/marks])"}, marking(t, c, worker[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run(t, MarkNodes(c, worker, time.Minute))
	worker[0].Spec.Labels = nil
	if diff := cmp.Diff([]string{"update Node w-1 (remove label disk)"}, marking(t, c, worker[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Flags say what is to be, and nothing of what is not: a host that is taken up again without its document keeps all.
func TestMarkNodesWithoutADocument(t *testing.T) {
	c, s := withAPI(t, "w-1")
	worker := c.Nodes[1:]
	const record = `{"labels":{"disk":"ssd"}}`
	n := node("w-1", corev1.ConditionTrue)
	n.Labels, n.Annotations = map[string]string{"disk": "ssd"}, map[string]string{"myadm.dev/marks": record}
	s.Put(t, n)
	worker[0].Spec.Labels, worker[0].Spec.FlagLabels = map[string]string{"zone": "a"}, []string{"zone"}
	if diff := cmp.Diff([]string{"update Node w-1 (metadata.labels[zone])"}, marking(t, c, worker[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run(t, MarkNodes(c, worker, time.Minute))
	got := s.Object(nodeRef("w-1"))
	if diff := cmp.Diff(map[string]string{"disk": "ssd", "zone": "a"}, got.GetLabels()); diff != "" || got.GetAnnotations()["myadm.dev/marks"] != record {
		t.Errorf("it remembers %v (-want +got):\n%s", got.GetAnnotations(), diff)
	}

	// With the document the flag's label is nobody's to take away, neither now nor when the flag is gone.
	described(t, c, nil)
	worker[0].Spec.Labels = map[string]string{"disk": "ssd", "zone": "a"}
	if left := marking(t, c, worker[0]); len(left) > 0 {
		t.Errorf("there is left %q", left)
	}
	worker[0].Spec.Labels, worker[0].Spec.FlagLabels = nil, nil
	if diff := cmp.Diff([]string{"update Node w-1 (remove label disk)"}, marking(t, c, worker[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
