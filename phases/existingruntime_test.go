package phases

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/myadm/myadm/cluster"
	"github.com/myadm/myadm/config"
	"github.com/myadm/myadm/host"
	"github.com/myadm/myadm/manifests"
	"github.com/myadm/myadm/workflow"
)

// theirs is a container runtime of the user's, whose socket machines can open.
type theirs struct {
	runtime.UnimplementedRuntimeServiceServer
	runtime.UnimplementedImageServiceServer
	name, version, api string
	driver             runtime.CgroupDriver
	notReady           string // the reason; empty: it is ready
	off                bool   // CRI is not served
	wrong              string // an image that no registry has

	mu     sync.Mutex
	images []string
	pulls  []string
	pods   []string
}

const theirSocket = "/run/theirs/runtime.sock"

// install starts the runtime and has the machine reach it, besides all that it reaches anyway.
func (r *theirs) install(t testing.TB, c *cluster.Cluster, machines ...*machine) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // it is a temporary folder
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	if !r.off {
		runtime.RegisterRuntimeServiceServer(server, r)
		runtime.RegisterImageServiceServer(server, r)
	}
	go server.Serve(listener) //nolint:errcheck // it ends with the test
	t.Cleanup(server.Stop)
	c.Config.Spec.Runtime = config.Runtime{Type: config.RuntimeExisting, Socket: theirSocket}
	for _, m := range machines {
		m.OnDial(func(ctx context.Context, network, address string) (net.Conn, error) {
			switch {
			case network == "unix" && address == theirSocket:
				return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
			case network == "unix":
				return nil, errors.New("No such file or directory")
			}
			near, far := net.Pipe()
			return near, far.Close()
		})
	}
}

func (r *theirs) Version(context.Context, *runtime.VersionRequest) (*runtime.VersionResponse, error) {
	return &runtime.VersionResponse{RuntimeName: r.name, RuntimeVersion: r.version, RuntimeApiVersion: r.api}, nil
}

func (r *theirs) Status(context.Context, *runtime.StatusRequest) (*runtime.StatusResponse, error) {
	return &runtime.StatusResponse{Status: &runtime.RuntimeStatus{Conditions: []*runtime.RuntimeCondition{
		{Type: "RuntimeReady", Status: r.notReady == "", Reason: r.notReady, Message: "of the machine"},
		{Type: "NetworkReady", Reason: "NetworkPluginNotReady", Message: "cni plugin not initialized"},
	}}}, nil
}

func (r *theirs) RuntimeConfig(context.Context, *runtime.RuntimeConfigRequest) (*runtime.RuntimeConfigResponse, error) {
	return &runtime.RuntimeConfigResponse{Linux: &runtime.LinuxRuntimeConfiguration{CgroupDriver: r.driver}}, nil
}

func (r *theirs) ListImages(context.Context, *runtime.ListImagesRequest) (*runtime.ListImagesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := &runtime.ListImagesResponse{}
	for _, name := range r.images {
		answer.Images = append(answer.Images, &runtime.Image{Id: name, RepoTags: []string{name}})
	}
	return answer, nil
}

func (r *theirs) PullImage(_ context.Context, q *runtime.PullImageRequest) (*runtime.PullImageResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.Image.Image == r.wrong {
		return nil, status.Error(codes.NotFound, "manifest unknown")
	}
	r.pulls, r.images = append(r.pulls, q.Image.Image), append(r.images, q.Image.Image)
	return &runtime.PullImageResponse{ImageRef: q.Image.Image}, nil
}

func (r *theirs) ListPodSandbox(context.Context, *runtime.ListPodSandboxRequest) (*runtime.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := &runtime.ListPodSandboxResponse{}
	for _, id := range r.pods {
		answer.Items = append(answer.Items, &runtime.PodSandbox{Id: id})
	}
	return answer, nil
}

func (r *theirs) StopPodSandbox(context.Context, *runtime.StopPodSandboxRequest) (*runtime.StopPodSandboxResponse, error) {
	return &runtime.StopPodSandboxResponse{}, nil
}

func (r *theirs) RemovePodSandbox(_ context.Context, q *runtime.RemovePodSandboxRequest) (*runtime.RemovePodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods = slices.DeleteFunc(r.pods, func(id string) bool { return id == q.PodSandboxId })
	return &runtime.RemovePodSandboxResponse{}, nil
}

// aContainerd is a runtime that fits.
func aContainerd() *theirs {
	return &theirs{name: "containerd", version: "v2.4.2", api: "v1", driver: runtime.CgroupDriver_SYSTEMD}
}

func TestPreflightOfARuntime(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(r *theirs, spec *config.Spec)
		finding string // empty: it fits
		message []string
	}{
		{"a containerd that fits", func(*theirs, *config.Spec) {}, "", nil},
		{"a CRI-O that fits", func(r *theirs, _ *config.Spec) { r.name, r.version = "cri-o", "1.36.1" }, "", nil},
		{"an old containerd", func(r *theirs, _ *config.Spec) { r.version = "1.4.13~ds1" }, findingRuntimeVersion,
			[]string{"containerd 1.4.13 is too old for Kubernetes 1.37", "; hint: update containerd to 1.6.15 or later"}},
		{"a new CRI-O", func(r *theirs, _ *config.Spec) { r.name, r.version = "cri-o", "1.39.0" }, findingRuntimeVersion,
			[]string{"CRI-O 1.39.0 does not go with Kubernetes 1.37", "; hint: ", "install CRI-O 1.37"}},
		{"something else", func(r *theirs, _ *config.Spec) { r.name = "docker" }, findingRuntimeVersion, []string{`"docker" is neither containerd nor cri-o, of which myadm knows what fits; hint: `}},
		{"not ready", func(r *theirs, _ *config.Spec) { r.notReady = "OutOfOrder" }, findingCRI,
			[]string{"containerd v2.4.2 at " + theirSocket + " is not ready (OutOfOrder: of the machine); hint: "}},
		{"cgroupfs", func(r *theirs, _ *config.Spec) { r.driver = runtime.CgroupDriver_CGROUPFS }, findingCgroupDriver,
			[]string{"containerd v2.4.2 at " + theirSocket + " has the cgroup driver cgroupfs, and the kubelet is to have systemd; hint: set SystemdCgroup = true in",
				"or set spec.kubelet.cgroupDriver: cgroupfs"}},
		{"cgroupfs, as the document wants", func(r *theirs, s *config.Spec) {
			r.driver, s.Kubelet = runtime.CgroupDriver_CGROUPFS, map[string]any{"cgroupDriver": "cgroupfs"}
		}, "", nil},
		{"CRI-O with cgroupfs", func(r *theirs, _ *config.Spec) {
			r.name, r.version, r.driver = "cri-o", "1.37.0", runtime.CgroupDriver_CGROUPFS
		}, findingCgroupDriver, []string{`cri-o 1.37.0 at`, `cgroup_manager = "systemd"`}},
		{"no CRI", func(r *theirs, _ *config.Spec) { r.off = true }, findingCRI,
			[]string{"runtime at " + theirSocket, "CRI v1 is not served there", "disabled_plugins in /etc/containerd/config.toml"}},
		{"an old CRI", func(r *theirs, _ *config.Spec) { r.api = "v1alpha2" }, findingCRI, []string{`speaks CRI "v1alpha2"`}},
		{"nobody there", func(_ *theirs, s *config.Spec) { s.Runtime.Socket = "/run/none.sock" }, findingCRI,
			[]string{"runtime at /run/none.sock", "No such file or directory", "; hint: see whether the runtime runs"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGround(t)
			r := aContainerd()
			g.c.Config.Spec.KubernetesVersion = "v1.37.2"
			spec := &g.c.Config.Spec
			test.change(r, spec)
			socket := spec.Runtime.Socket
			r.install(t, g.c, g.cm, g.wm)
			if socket != config.ContainerdSocket {
				spec.Runtime.Socket = socket
			}
			refused, warnings := preflighted(t, g)
			if len(warnings) > 0 {
				t.Errorf("warned of %v", warnings)
			}
			for _, on := range []string{"cp-1", "w-1"} {
				if refused[on].Name != test.finding {
					t.Errorf("%s: %+v, want %q", on, refused[on], test.finding)
				}
				for _, part := range test.message {
					if !strings.Contains(refused[on].Message, part) {
						t.Errorf("%s: %q does not hold %q", on, refused[on].Message, part)
					}
				}
			}
		})
	}
}

// A user may know better; and a runtime of ours is not asked.
func TestPreflightOfARuntimeIsIgnored(t *testing.T) {
	g := newGround(t)
	r := aContainerd()
	r.version = "1.4.13"
	r.install(t, g.c, g.cm, g.wm)
	g.opts.Ignore = []string{findingRuntimeVersion}
	refused, warnings := preflighted(t, g)
	if len(refused) > 0 || warnings["cp-1"].Name != findingRuntimeVersion {
		t.Errorf("refused %v, warned of %v", refused, warnings)
	}
	g.c.Config.Spec.Runtime.Type, g.opts.Ignore = config.RuntimeContainerd, nil
	if refused, warnings := preflighted(t, g); len(refused)+len(warnings) > 0 {
		t.Errorf("refused %v, warned of %v", refused, warnings)
	}
}

// A runtime that imports nothing pulls what the pods of a node need, also without a bundle, and nothing twice.
func TestImagesThatARuntimePulls(t *testing.T) {
	c, machines := testCluster(t, "cp-1", "w-1")
	r := &theirs{name: "cri-o", version: "1.37.0", api: "v1", images: []string{"registry.example/coredns:" + corednsOf(t, c), "registry.example/other:1"}}
	r.install(t, c, machines...)
	for _, m := range machines {
		m.OnPrefix("ctr", "--namespace", "k8s.io", "--address", theirSocket).Fail(127, "ctr: not found")
	}
	c.Bundle, c.Config.Spec.ImageRepository = nil, "registry.example"
	cp, w := c.Nodes[:1], c.Nodes[1:]

	var told []string
	runner := workflow.Runner{Report: serial(func(e workflow.Event) {
		if e.Kind == workflow.Doing && e.Message != "" {
			told = append(told, e.Message)
		}
	})}
	for _, step := range []struct {
		nodes []*cluster.Node
		want  []string
	}{
		{w, []string{"flannel", "kube-proxy"}},
		{w, nil},
		{cp, []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}}, // the runtime is the same one
	} {
		r.pulls, told = nil, nil
		sum, err := runner.Run(t.Context(), Images(c, step.nodes))
		if err != nil || sum.Changes != len(step.want) {
			t.Fatalf("%d changes, %v; want %d", sum.Changes, err, len(step.want))
		}
		var names []string
		for _, pull := range r.pulls {
			name, found := strings.CutPrefix(pull, "registry.example/")
			if name, _, _ = strings.Cut(name, ":"); !found {
				t.Errorf("%s is pulled from elsewhere", pull)
			}
			names = append(names, name)
			if !slices.ContainsFunc(told, func(s string) bool { return strings.HasPrefix(s, "pulled "+pull+" (") }) {
				t.Errorf("nobody was told of %s: %q", pull, told)
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff(step.want, names); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	settled(t, Images(c, c.Nodes), c.Nodes[0])
	for _, m := range machines {
		if len(m.Runs())+len(m.Writes()) > 0 {
			t.Errorf("%s was changed: %q %q", m.Name(), m.Runs(), m.Writes())
		}
	}
}

func corednsOf(t *testing.T, c *cluster.Cluster) string {
	versions, err := config.VersionsOf(c.Config.Spec.KubernetesVersion)
	if err != nil {
		t.Fatal(err)
	}
	return versions.CoreDNS
}

// The load balancer's image alone is pulled for those nodes that are to get one.
func TestBalancerImageThatARuntimePulls(t *testing.T) {
	c, machines := testCluster(t, "cp-1", "w-1")
	r := &theirs{name: "cri-o", version: "1.37.0", api: "v1"}
	r.install(t, c, machines...)
	for _, m := range machines {
		m.OnPrefix("ctr", "--namespace", "k8s.io", "--address", theirSocket).Fail(127, "ctr: not found")
	}
	c.Config.Spec.LoadBalancer.Type = config.LoadBalancerNodeLocal
	run(t, LoadBalancerImages(c, c.Nodes[1:]))
	if len(r.pulls) != 1 || !strings.HasPrefix(r.pulls[0], "docker.io/library/haproxy:") {
		t.Errorf("pulled %q", r.pulls)
	}
}

func TestImageThatARuntimeCannotPull(t *testing.T) {
	c, machines := testCluster(t, "cp-1")
	images, err := config.ImagesOf(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	r := &theirs{name: "cri-o", version: "1.37.0", api: "v1", wrong: images.Etcd}
	r.install(t, c, machines...)
	machines[0].OnPrefix("ctr", "--namespace", "k8s.io", "--address", theirSocket).Fail(127, "ctr: not found")
	_, err = new(workflow.Runner).Run(t.Context(), Images(c, c.Nodes))
	for _, part := range []string{"cp-1", "pull " + images.Etcd, "manifest unknown", "; hint: the host's own runtime pulls: "} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v; want %s", err, part)
		}
	}
	if slices.Contains(r.images, images.Etcd) {
		t.Error("it was pulled")
	}
}

// A runtime that stays removes its pods itself; the containers of one that does not speak are ended all the same, and those of
// ours, which goes.
func TestPodsThatARuntimeRemoves(t *testing.T) {
	for _, test := range []struct {
		name       string
		arrange    func(r *theirs, c *cluster.Cluster, m *machine)
		pods       []string // that are left
		containers []string // likewise
	}{
		{"theirs", func(*theirs, *cluster.Cluster, *machine) {}, nil, []string{"one", "two"}},
		{"no CRI", func(r *theirs, _ *cluster.Cluster, _ *machine) { r.off = true }, []string{"a", "b"}, nil},
		{"ours", func(_ *theirs, _ *cluster.Cluster, m *machine) { m.Put(manifests.ContainerdUnit(nil)) }, []string{"a", "b"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, machines := testCluster(t, "h1")
			r, m := aContainerd(), machines[0]
			test.arrange(r, c, m)
			r.pods = []string{"a", "b"}
			r.install(t, c, m)
			m.containerd.containers = []string{"one", "two"}
			c.Nodes[0].Host = withSocket{m, theirSocket}
			address := []string{"ctr", "--namespace", "k8s.io", "--address", theirSocket}
			m.OnPrefix(append(address, "containers", "ls", "-q")...).Do(m.containerd.locked(func(host.Cmd) ([]byte, error) { return lines(m.containerd.containers), nil }))
			m.OnPrefix(append(address, "tasks", "rm", "--force")...).Changes().Do(m.containerd.locked(m.containerd.removeTask))
			m.OnPrefix(append(address, "containers", "rm")...).Changes().Do(m.containerd.locked(m.containerd.removeContainer))
			p := StopContainers(c, c.Nodes)
			run(t, p)
			if changes, err := p.Check(t.Context(), c.Nodes[0]); err != nil || len(changes) > 0 {
				t.Errorf("left to do: %v, %v", changes, err)
			}
			if diff := cmp.Diff([][]string{test.pods, test.containers}, [][]string{r.pods, m.containerd.containers}, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
