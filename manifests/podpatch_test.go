package manifests_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
)

func TestPatchOfAStaticPod(t *testing.T) {
	p := manifests.Params{Cluster: &config.Cluster{}}
	config.SetDefaults(p.Cluster)
	plain, err := manifests.Scheduler(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Cluster.Spec.Scheduler.Patch = map[string]any{"spec": map[string]any{"containers": []any{
		map[string]any{"name": "kube-scheduler", "resources": map[string]any{"requests": map[string]any{"cpu": "7m"}}},
	}}}
	f, err := manifests.Scheduler(p)
	if err != nil {
		t.Fatal(err)
	}
	var was, pod corev1.Pod
	if err := yaml.UnmarshalStrict(plain.Data, &was); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(f.Data, &pod); err != nil {
		t.Fatal(err)
	}
	if got := pod.Spec.Containers[0].Resources.Requests.Cpu().String(); got != "7m" {
		t.Errorf("the request is %s", got)
	}
	was.Spec.Containers[0].Resources = pod.Spec.Containers[0].Resources
	if len(pod.Spec.Containers) != 1 || was.String() != pod.String() {
		t.Errorf("more has changed:\n%s", f.Data)
	}
	p.Cluster.Spec.Scheduler.Patch = map[string]any{"spec": map[string]any{"containers": "none"}}
	if _, err := manifests.Scheduler(p); err == nil || !strings.HasPrefix(err.Error(), "patch of kube-scheduler: ") {
		t.Errorf("of a patch that fits nothing: %v", err)
	}
}

// A file's content is part of the pod, which its kubelet starts anew when it changes.
func TestFilesOfAStaticPod(t *testing.T) {
	render := func(content string) (pod string, files int) {
		p := manifests.Params{Cluster: &config.Cluster{}}
		config.SetDefaults(p.Cluster)
		p.Cluster.Spec.Scheduler.ExtraVolumes = []config.HostPathMount{
			{Name: "s", File: "s.yaml", HostPath: "/etc/s.yaml", MountPath: "/s.yaml", Content: []byte(content)},
			{Name: "t", HostPath: "/t", MountPath: "/t"},
		}
		f, err := manifests.Scheduler(p)
		if err != nil {
			t.Fatal(err)
		}
		all := manifests.ExtraFiles(p, manifests.SchedulerName)
		if len(all) == 1 && (all[0].Path != "/etc/s.yaml" || all[0].Mode != 0o600 || string(all[0].Data) != content) {
			t.Errorf("the file is %s %v %q", all[0].Path, all[0].Mode, all[0].Data)
		}
		return string(f.Data), len(all)
	}
	one, files := render("one")
	two, _ := render("two")
	again, _ := render("one")
	if one == two || one != again || files != 1 || strings.Contains(one, "s.yaml: one") {
		t.Errorf("%d files, and the pod\n%s", files, one)
	}
}
