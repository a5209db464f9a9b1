package phases

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// withSocket is a machine on which a socket stands at a path; the fake's file system knows none.
type withSocket struct {
	*machine
	path string
}

func (w withSocket) Stat(ctx context.Context, paths ...string) ([]host.Info, error) {
	infos, err := w.machine.Stat(ctx, paths...)
	for i := range infos {
		if infos[i].Path == w.path {
			infos[i] = host.Info{Path: w.path, Exists: true, Mode: fs.ModeSocket | 0o660}
		}
	}
	return infos, err
}

func TestExistingRuntimeIsOnlyLookedFor(t *testing.T) {
	const socket = "/run/crio/crio.sock"
	tests := []struct {
		name    string
		arrange func(m *machine) host.Host
		ok      bool
	}{
		{"it listens", func(m *machine) host.Host { return withSocket{m, socket} }, true},
		{"it is not there", func(m *machine) host.Host { return m }, false},
		{"a file in its place", func(m *machine) host.Host { m.touch(socket, 0o644, ""); return m }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, machines := testCluster(t, "h1")
			c.Config.Spec.Runtime = config.Runtime{Type: config.RuntimeExisting, Socket: socket}
			c.Nodes[0].Host = tt.arrange(machines[0])
			machines[0].ResetRecord()
			_, err := new(workflow.Runner).Run(t.Context(), Runtime(c, c.Nodes))
			if tt.ok != (err == nil) {
				t.Errorf("got %v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), "no container runtime listens at "+socket) || !strings.Contains(err.Error(), "hint: ")) {
				t.Errorf("got %v", err)
			}
			if n := len(machines[0].Writes()) + len(machines[0].Runs()); n > 0 {
				t.Errorf("%d things were done to the host", n)
			}
		})
	}
}

// A runtime of the user's that is containerd is given the images of the bundle.
func TestImagesOfAnExistingRuntime(t *testing.T) {
	const socket = "/run/k3s/containerd/containerd.sock"
	c, machines := testCluster(t, "h1")
	m := machines[0]
	c.Config.Spec.Runtime = config.Runtime{Type: config.RuntimeExisting, Socket: socket}
	address := []string{"ctr", "--namespace", "k8s.io", "--address", socket}
	m.OnPrefix(append(address, "images", "ls")...).Do(m.containerd.locked(m.containerd.listImages))
	m.OnPrefix(append(address, "images", "import", "-")...).Changes().Do(m.containerd.locked(m.containerd.importImage))
	run(t, Images(c, c.Nodes))
	if len(m.containerd.images) != 8 {
		t.Errorf("%d images were imported, want 8", len(m.containerd.images))
	}
}

func TestWithoutABundleTheHostsMustBePrepared(t *testing.T) {
	tests := []struct {
		name string
		step func(c *cluster.Cluster) workflow.Phase
		need string
	}{
		{"runtime", func(c *cluster.Cluster) workflow.Phase { return Runtime(c, c.Nodes) }, manifests.BinDir + "/containerd"},
		{"binaries", func(c *cluster.Cluster) workflow.Phase { return Binaries(c, c.Nodes) }, manifests.BinDir + "/kubelet"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, machines := testCluster(t, "h1")
			c.Bundle = nil
			p := tt.step(c)
			_, err := p.Check(t.Context(), c.Nodes[0])
			if err == nil || !strings.Contains(err.Error(), tt.need+" is missing and there is no bundle to take it from; hint: --bundle") {
				t.Errorf("got %v", err)
			}
			machines[0].touch(tt.need, 0o755, "prepared")
			run(t, p)
			settled(t, p, c.Nodes[0])
		})
	}
}

// A second run without the bundle, as an administrator may do, leaves the units as they are: they name what reset removes.
func TestUnitsKeepTheirBinariesWithoutTheBundle(t *testing.T) {
	c, _ := testCluster(t, "h1")
	run(t, Runtime(c, c.Nodes), Binaries(c, c.Nodes), testKubelet(c, c.Nodes[0]))
	c.Bundle = nil
	settled(t, Runtime(c, c.Nodes), c.Nodes[0])
	settled(t, testKubelet(c, c.Nodes[0]), c.Nodes[0])
}

func TestBundleOfAnotherArchitecture(t *testing.T) {
	c, _ := testCluster(t, "h1")
	c.Nodes[0].Facts.Arch = "arm64"
	for _, p := range []workflow.Phase{Runtime(c, c.Nodes), Binaries(c, c.Nodes), Images(c, c.Nodes)} {
		_, err := p.Check(t.Context(), c.Nodes[0])
		if err == nil || !strings.Contains(err.Error(), "not for arm64; hint: ") {
			t.Errorf("%s: got %v", p.Name, err)
		}
	}
}

// A host is sent only what its roles need.
func TestHostsGetWhatTheirRolesNeed(t *testing.T) {
	c, machines := testCluster(t, "cp-1", "w-1")
	run(t, Runtime(c, c.Nodes), workflow.Parallel(Binaries(c, c.Nodes), Images(c, c.Nodes)))
	for i, want := range []struct{ writes, images int }{{10, 8}, {10, 4}} {
		if got := len(machines[i].Writes()); got != want.writes {
			t.Errorf("%s: %d files, want %d: %q", machines[i].Name(), got, want.writes, machines[i].Writes())
		}
		if got := len(machines[i].containerd.images); got != want.images {
			t.Errorf("%s: %d images, want %d", machines[i].Name(), got, want.images)
		}
	}
	c, machines = testCluster(t, "cp-1")
	c.Config.Spec.Networking.Plugin = config.PluginNone
	run(t, Runtime(c, c.Nodes), Binaries(c, c.Nodes))
	for _, path := range machines[0].Writes() {
		if strings.Contains(path, "cni") {
			t.Errorf("%s was sent, although the network is the user's", path)
		}
	}
}

// A node is sent the images of the load balancers that run on it, with its others or, when it has those, alone.
func TestImagesOfLoadBalancers(t *testing.T) {
	const haproxy, keepalived = "docker.io/library/haproxy:2.6", "docker.io/osixia/keepalived:2.0.20"
	for _, tt := range []struct {
		balancer string
		want     [2][]string // of the control plane, and of the worker
	}{
		{"", [2][]string{}},
		{config.LoadBalancerExternal, [2][]string{}},
		{config.LoadBalancerNodeLocal, [2][]string{{haproxy}, {haproxy}}},
		{config.LoadBalancerKeepalived, [2][]string{{haproxy, keepalived}, nil}},
	} {
		c, machines := testCluster(t, "cp-1", "w-1")
		run(t, Runtime(c, c.Nodes), Images(c, c.Nodes))
		c.Config.Spec.LoadBalancer.Type = tt.balancer
		for i, n := range c.Nodes {
			images := machines[i].containerd.images
			before := slices.Collect(maps.Keys(images))
			p := LoadBalancerImages(c, one(n))
			run(t, p)
			var added []string
			for _, name := range slices.Sorted(maps.Keys(images)) {
				if !slices.Contains(before, name) {
					added = append(added, name)
				}
			}
			if diff := cmp.Diff(tt.want[i], added); diff != "" {
				t.Errorf("%q: %s (-want +got):\n%s", tt.balancer, n.Name(), diff)
			}
			settled(t, p, n)
			settled(t, Images(c, one(n)), n)
			delete(images, "registry.k8s.io/pause:3.10.2") // is for the other phase to bring
			settled(t, p, n)
		}
	}
}

func TestProgressOfWhatIsSent(t *testing.T) {
	c, _ := testCluster(t, "h1")
	last := map[string]workflow.Event{}
	r := workflow.Runner{Report: serial(func(e workflow.Event) {
		if e.Kind == workflow.Progress {
			if e.Done < last[e.Phase].Done {
				t.Errorf("%s goes back from %d to %d", e.Phase, last[e.Phase].Done, e.Done)
			}
			last[e.Phase] = e
		}
	})}
	if _, err := r.Run(t.Context(), Runtime(c, c.Nodes), Binaries(c, c.Nodes), Images(c, c.Nodes)); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []string{"runtime", "binaries", "images"} {
		if e := last[phase]; e.Total == 0 || e.Done != e.Total || e.Host != "h1" {
			t.Errorf("%s ends at %d of %d on %q", phase, e.Done, e.Total, e.Host)
		}
	}
}

func TestAModuleThatIsNotThere(t *testing.T) {
	c, machines := testCluster(t, "h1")
	machines[0].On("modprobe", "vxlan").Changes().Fail(1, "modprobe: FATAL: Module vxlan not found in directory /lib/modules/6.1.0")
	_, err := new(workflow.Runner).Run(t.Context(), Kernel(c, c.Nodes))
	if err == nil || !strings.Contains(err.Error(), "load module vxlan: ") || !strings.Contains(err.Error(), "; hint: install the kernel's modules") {
		t.Errorf("got %v", err)
	}
}

func TestDualStackForwardsBoth(t *testing.T) {
	c, machines := testCluster(t, "h1")
	c.Config.Spec.Networking.PodSubnet = "10.244.0.0/16,fd00:244::/48"
	answerKernel(c, machines)
	run(t, Kernel(c, c.Nodes))
	if got := machines[0].kernel.settings["net.ipv6.conf.all.forwarding"]; got != "1" {
		t.Errorf("IPv6 forwarding is %q", got)
	}
}

// A host that is lost in the middle is an error that says so, and not an image that failed to unpack.
func TestImagesOfAHostThatIsLost(t *testing.T) {
	c, machines := testCluster(t, "h1")
	gone := errors.New("gone")
	machines[0].Lose(gone)
	_, err := Images(c, c.Nodes).Check(t.Context(), c.Nodes[0])
	if !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestParseImages(t *testing.T) {
	const digest = "sha256:4b3f2c8d6a9e1f5b7c0d3e2a1b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e"
	tests := []struct {
		name string
		in   string
		want map[string]string
	}{
		{"nothing", "", map[string]string{}},
		{"the heading", "REF TYPE DIGEST SIZE PLATFORMS LABELS \n", map[string]string{}},
		{"two images", "REF                       TYPE                                       DIGEST " + "SIZE PLATFORMS LABELS \n" +
			"registry.k8s.io/pause:3.10.2 application/vnd.oci.image.manifest.v1+json " + digest + " 318.0 KiB linux/amd64 io.cri-containerd.image=managed \n" +
			"docker.io/flannel/flannel:v1 application/vnd.docker.distribution.manifest.list.v2+json " + digest + " 1.0 MiB linux/amd64,linux/arm64 - \n",
			map[string]string{"registry.k8s.io/pause:3.10.2": digest, "docker.io/flannel/flannel:v1": digest}},
		{"an image by its digest, as the CRI keeps it", digest + " application/x " + digest + " 1 MiB linux/amd64 -\n", map[string]string{digest: digest}},
		{"lines of something else", "time=... level=warning msg=x\na b\n", map[string]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseImages([]byte(tt.in))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
