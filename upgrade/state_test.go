package upgrade

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/bundle"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/staticpod"
)

var errNoSpace = errors.New("no space left on device")

func TestTagOf(t *testing.T) {
	for image, want := range map[string]string{
		"registry.k8s.io/etcd:3.7.0-0":                       "3.7.0-0",
		"registry.k8s.io/kube-apiserver:v1.37.2":             "v1.37.2",
		"localhost:5000/kube-apiserver:v1.37.2_lab.1":        "v1.37.2+lab.1",
		"localhost:5000/kube-apiserver":                      "",
		"kube-apiserver":                                     "",
		"registry.k8s.io/kube-apiserver:v1.37.2@sha256:0a0b": "v1.37.2",
		"registry.k8s.io/kube-apiserver@sha256:0a0b":         "",
		"localhost:5000/kube-apiserver@sha256:0a0b":          "",
		"": "",
	} {
		if got := staticpod.ImageVersion(image); got != want {
			t.Errorf("%q: got %q, want %q", image, got, want)
		}
	}
}

// A static pod gets the image and nothing else; an etcd that is as new or newer stays.
func TestTargetOfAPod(t *testing.T) {
	for _, tt := range []struct {
		name, from, to string
		want           string // image; empty: an error
	}{
		{"kube-apiserver", "r/kube-apiserver:v1.36.3", "r/kube-apiserver:v1.37.2", "r/kube-apiserver:v1.37.2"},
		{"kube-apiserver", "mirror/kube-apiserver:v1.37.2", "r/kube-apiserver:v1.37.2", "r/kube-apiserver:v1.37.2"},
		{"kube-apiserver", "r/kube-apiserver:v1.37.3", "r/kube-apiserver:v1.37.2", "r/kube-apiserver:v1.37.2"},
		{"etcd", "r/etcd:3.6.8-0", "r/etcd:3.7.0-0", "r/etcd:3.7.0-0"},
		{"etcd", "r/etcd:3.7.0-0", "r/etcd:3.7.0-1", "r/etcd:3.7.0-1"},
		{"etcd", "mirror/etcd:3.7.1-0", "r/etcd:3.7.0-0", "mirror/etcd:3.7.1-0"},
		{"etcd", "mirror/etcd:3.7.0-0", "r/etcd:3.7.0-0", "mirror/etcd:3.7.0-0"},
		{"etcd", "r/etcd:3.5.1-0", "r/etcd:3.7.0-0", ""},
		{"etcd", "r/etcd:latest", "r/etcd:3.7.0-0", ""},
	} {
		t.Run(tt.from+" to "+tt.to, func(t *testing.T) {
			p, err := target(tt.name, manifestOf(tt.name, tt.from, "--theirs"), tt.to)
			if tt.want == "" {
				if err == nil {
					t.Errorf("got %+v", p)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.image != tt.want || p.from != tt.from || p.changes() != (tt.from != tt.want) || string(p.manifest) != string(manifestOf(tt.name, tt.want, "--theirs")) {
				t.Errorf("got %s from %s:\n%s", p.image, p.from, p.manifest)
			}
		})
	}
	if p, err := target("etcd", []byte("kind: ConfigMap\n"), "r/etcd:3.7.0-0"); err == nil {
		t.Errorf("what is no pod is %+v", p)
	}
}

func names(pods []pod) []string {
	var all []string
	for _, p := range pods {
		all = append(all, p.name)
	}
	return all
}

func TestReadPods(t *testing.T) {
	r := newRig(t, "w-1")
	cp, worker := r.ControlPlanes()[0], r.Workers()[0]
	pods, err := readPods(t.Context(), r.Cluster, cp)
	if err != nil || !slices.Equal(names(pods), staticpod.Names) {
		t.Errorf("got %q, %v", names(pods), err)
	}
	if pods, err := readPods(t.Context(), r.Cluster, worker); err != nil || len(pods) > 0 {
		t.Errorf("of a worker: %q, %v", names(pods), err)
	}
	path := manifests.StaticPodPath(manifests.EtcdName)
	r.hosts["cp-1"].Delete(path)
	if _, err := readPods(t.Context(), r.Cluster, cp); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without etcd's manifest: %v", err)
	}
	r.Config.Spec.Etcd.External = &config.ExternalEtcd{Endpoints: []string{"https://etcd.example:2379"}}
	pods, err = readPods(t.Context(), r.Cluster, cp)
	if err != nil || slices.Contains(names(pods), manifests.EtcdName) || len(pods) != 3 {
		t.Errorf("with an external etcd: %q, %v", names(pods), err)
	}
}

func TestMachineExchange(t *testing.T) {
	placed := func(name, target string, runtime bool) binary {
		return place(bundle.Artifact{Name: name, Target: target}, runtime)
	}
	changed, same := pod{name: "kube-scheduler", image: "b", from: "a", manifest: []byte("new"), differs: true}, pod{name: "etcd", image: "a", from: "a"}
	tools := placed("kubectl", "/b/kubectl", false)
	for _, tt := range []struct {
		name  string
		m     machine
		end   []string
		moves []staticpod.Move
		run   bool // the runtime is started anew
	}{
		{"nothing", machine{pods: []pod{same}, all: []binary{tools}}, nil, nil, false},
		{"a pod", machine{pods: []pod{changed, same}}, []string{"kube-scheduler"}, []staticpod.Move{
			{From: folder + "/kube-scheduler.yaml", To: config.ManifestsDir + "/kube-scheduler.yaml", Keep: folder + "/previous-kube-scheduler.yaml"},
		}, false},
		{"a tool", machine{pods: []pod{same}, stale: []binary{tools}}, nil, []staticpod.Move{{From: "/b/.kubectl.myadm-staged", To: "/b/kubectl", Keep: "/b/.kubectl.myadm-previous"}}, false},
		{"the runtime", machine{stale: []binary{placed("runc", "/b/runc", true), tools}}, nil, []staticpod.Move{
			{From: "/b/.runc.myadm-staged", To: "/b/runc", Keep: "/b/.runc.myadm-previous"}, {From: "/b/.kubectl.myadm-staged", To: "/b/kubectl", Keep: "/b/.kubectl.myadm-previous"},
		}, true},
		{"the kubelet, with which all pods end", machine{pods: []pod{changed, same}, stale: []binary{placed("kubelet", "/k", false)}}, []string{"kube-scheduler", "etcd"}, []staticpod.Move{
			{From: folder + "/kube-scheduler.yaml", To: config.ManifestsDir + "/kube-scheduler.yaml", Keep: folder + "/previous-kube-scheduler.yaml"}, {From: "/.k.myadm-staged", To: "/k", Keep: "/.k.myadm-previous"},
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, files := tt.m.exchange()
			if diff := cmp.Diff(tt.moves, e.Moves); diff != "" {
				t.Errorf("moves (-want +got):\n%s", diff)
			}
			if !slices.Equal(e.End, tt.end) || e.Runtime != tt.run {
				t.Errorf("ends %q, the runtime %t", e.End, e.Runtime)
			}
			for _, f := range files {
				if f.Path != folder+"/kube-scheduler.yaml" || string(f.Data) != "new" || f.Mode != 0o600 {
					t.Errorf("file %s %v %q", f.Path, f.Mode, f.Data)
				}
			}
			if (len(files) == 1) != strings.Contains(strings.Join(tt.end, " "), "scheduler") {
				t.Errorf("%d files", len(files))
			}
			if len(tt.m.changes()) != len(tt.moves) {
				t.Errorf("changes %v", tt.m.changes())
			}
		})
	}
}
