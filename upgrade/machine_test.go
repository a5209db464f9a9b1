package upgrade

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
)

func TestKubeletPath(t *testing.T) {
	for _, tt := range []struct{ name, show, want string }{
		{"ours", "ExecStart={ path=/usr/local/bin/kubelet ; argv[]=/usr/local/bin/kubelet $KUBELET_ARGS ; ignore_errors=no ; pid=7 ; }\n", "/usr/local/bin/kubelet"},
		{"a package's", "ExecStart={ path=/usr/bin/kubelet ; argv[]=/usr/bin/kubelet --root-path=/x ; }\n", "/usr/bin/kubelet"},
		{"with a blank", "ExecStart={ path=/opt/my kubelet ; argv[]=/opt/my kubelet ; }\n", "/opt/my kubelet"},
		{"no unit", "", ""},
		{"a unit that starts nothing", "ExecStart=\n", ""},
		{"no path", "ExecStart={ path= ; argv[]= ; }\n", ""},
		{"a relative one", "ExecStart={ path=kubelet ; argv[]=kubelet ; }\n", ""},
		{"one that leads elsewhere", "ExecStart={ path=/usr/bin/../../tmp/kubelet ; }\n", ""},
		{"cut off", "ExecStart={ path=", ""},
	} {
		if got := kubeletPath([]byte(tt.show)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzKubeletPath(f *testing.F) {
	f.Add([]byte("ExecStart={ path=/usr/local/bin/kubelet ; argv[]=/usr/local/bin/kubelet ; }\n"))
	f.Add([]byte("path=/ ;path=a"))
	f.Fuzz(func(t *testing.T, show []byte) {
		if at := kubeletPath(show); at != "" && host.CheckPath(at) != nil {
			t.Errorf("the kubelet is at %q", at)
		}
	})
}

// targets are where the binaries of a host are, with what replaces a runtime marked.
func targets(all []binary) []string {
	var paths []string
	for _, b := range all {
		if b.runtime {
			paths = append(paths, "runtime "+b.Target)
		} else {
			paths = append(paths, b.Target)
		}
	}
	slices.Sort(paths)
	return paths
}

// What a host has is replaced where it has it; what it has not is not brought, and a runtime of somebody else's stays.
func TestBinaries(t *testing.T) {
	const kubectl = "/usr/local/bin/kubectl"
	for _, tt := range []struct {
		name    string
		arrange func(r *rig, h *rigHost)
		want    []string
	}{
		{"a kubelet elsewhere, and no runc", func(*rig, *rigHost) {}, []string{rigKubelet, "runtime " + rigContainerd, kubectl}},
		{"no kubectl", func(_ *rig, h *rigHost) { h.Delete(kubectl) }, []string{rigKubelet, "runtime " + rigContainerd}},
		{"a runtime without a unit of ours", func(_ *rig, h *rigHost) { h.Delete(manifests.ContainerdUnitPath) }, []string{rigKubelet, kubectl}},
		{"a runtime with a unit of theirs", func(_ *rig, h *rigHost) {
			h.Put(host.File{Path: manifests.ContainerdUnitPath, Mode: 0o644, Data: []byte("[Service]\n")})
		}, []string{rigKubelet, kubectl}},
		{"a runtime that the document says is theirs", func(r *rig, _ *rigHost) { r.Config.Spec.Runtime.Type = config.RuntimeExisting }, []string{rigKubelet, kubectl}},
		{"a unit that names no kubelet", func(_ *rig, h *rigHost) {
			h.On("sh", "-c", machineScript).Return("ExecStart=\n")
			h.Put(host.File{Path: "/usr/local/bin/kubelet", Mode: 0o755})
		}, []string{"runtime " + rigContainerd, kubectl, "/usr/local/bin/kubelet"}},
		{"no bundle", func(r *rig, _ *rigHost) { r.Bundle = nil }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "w-1")
			tt.arrange(r, r.hosts["w-1"])
			all, err := binaries(t.Context(), r.Cluster, r.Workers()[0])
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, targets(all)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A host that cannot be asked is an error, and not one without binaries.
func TestBinariesOfALostHost(t *testing.T) {
	r := newRig(t, "w-1")
	gone := errors.New("no route to host")
	r.hosts["w-1"].Lose(gone)
	if all, err := binaries(t.Context(), r.Cluster, r.Workers()[0]); !errors.Is(err, gone) {
		t.Errorf("got %v, %v", all, err)
	}
}
