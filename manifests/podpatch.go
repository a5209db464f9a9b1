package manifests

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
)

// patched is the pod with the user's patch, by the rules of `kubectl patch --type strategic`: containers, volumes and
// mounts are found by their names, and flags are one list that a patch replaces as a whole.
func patched(pod *corev1.Pod, patch map[string]any) (*corev1.Pod, error) {
	if len(patch) == 0 {
		return pod, nil
	}
	original, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return nil, err
	}
	merged, err := strategicpatch.StrategicMergeMapPatch(original, runtime.DeepCopyJSON(patch), corev1.Pod{})
	if err != nil {
		return nil, err
	}
	out := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(merged, out); err != nil {
		return nil, err
	}
	return out, nil
}

// filesAnnotation has a static pod be another one when the files that myadm places for it are others: its kubelet starts
// it anew.
const filesAnnotation = "myadm.dev/files"

// withFilesSum adds the sum of all files of the mounts, if there are any.
func withFilesSum(annotations map[string]string, mounts []config.HostPathMount) map[string]string {
	sum, any := sha256.New(), false
	for _, m := range mounts {
		if m.File != "" {
			any = true
			fmt.Fprintf(sum, "%s %d\n", m.HostPath, len(m.Content))
			sum.Write(m.Content)
		}
	}
	if !any {
		return annotations
	}
	annotations = maps.Clone(annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[filesAnnotation] = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return annotations
}

// ExtraFiles are the files that the document has for a component of the control plane.
func ExtraFiles(p Params, component string) []host.File {
	spec := p.Cluster.Spec
	var files []host.File
	for _, m := range map[string]config.Component{
		APIServerName: spec.APIServer, ControllerManagerName: spec.ControllerManager, SchedulerName: spec.Scheduler,
	}[component].ExtraVolumes {
		if m.File != "" {
			files = append(files, host.File{Path: m.HostPath, Mode: secretMode, Data: m.Content})
		}
	}
	return files
}
