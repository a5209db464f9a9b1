package cri_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/myadm/myadm/cri"
	"github.com/myadm/myadm/host/local"
)

// server is a runtime with a few images. It pulls from a registry that wants a password.
type server struct {
	runtime.UnimplementedRuntimeServiceServer
	runtime.UnimplementedImageServiceServer
	api    string
	driver *runtime.RuntimeConfigResponse // nil: it does not tell
	config string                         // that it adds to its status
	images []*runtime.Image
	pods   []string
	asked  []string // of pods, in order
}

func (s *server) Version(context.Context, *runtime.VersionRequest) (*runtime.VersionResponse, error) {
	return &runtime.VersionResponse{RuntimeName: "containerd", RuntimeVersion: "v2.4.2", RuntimeApiVersion: s.api}, nil
}

func (s *server) Status(_ context.Context, r *runtime.StatusRequest) (*runtime.StatusResponse, error) {
	info := map[string]string{"golang": `"go1.19.8"`}
	if r.Verbose && s.config != "" {
		info["config"] = s.config
	}
	return &runtime.StatusResponse{Info: info, Status: &runtime.RuntimeStatus{Conditions: []*runtime.RuntimeCondition{
		{Type: "RuntimeReady", Status: true},
		{Type: "NetworkReady", Reason: "NetworkPluginNotReady", Message: "cni plugin not initialized"},
	}}}, nil
}

func (s *server) RuntimeConfig(ctx context.Context, r *runtime.RuntimeConfigRequest) (*runtime.RuntimeConfigResponse, error) {
	if s.driver == nil {
		return s.UnimplementedRuntimeServiceServer.RuntimeConfig(ctx, r)
	}
	return s.driver, nil
}

func (s *server) ListImages(context.Context, *runtime.ListImagesRequest) (*runtime.ListImagesResponse, error) {
	return &runtime.ListImagesResponse{Images: s.images}, nil
}

func (s *server) ImageStatus(_ context.Context, r *runtime.ImageStatusRequest) (*runtime.ImageStatusResponse, error) {
	for _, i := range s.images {
		if i.RepoTags[0] == r.Image.Image {
			return &runtime.ImageStatusResponse{Image: i}, nil
		}
	}
	return &runtime.ImageStatusResponse{}, nil
}

func (s *server) PullImage(ctx context.Context, r *runtime.PullImageRequest) (*runtime.PullImageResponse, error) {
	switch {
	case r.Image.Image == "registry.example/hangs:1":
		<-ctx.Done()
		return nil, ctx.Err()
	case r.Auth.GetUsername() != "user" || r.Auth.GetPassword() != "secret":
		return nil, status.Error(codes.Unknown, "401 Unauthorized")
	}
	return &runtime.PullImageResponse{ImageRef: "sha256:pulled"}, nil
}

func (s *server) ListPodSandbox(context.Context, *runtime.ListPodSandboxRequest) (*runtime.ListPodSandboxResponse, error) {
	answer := &runtime.ListPodSandboxResponse{}
	for _, id := range s.pods {
		answer.Items = append(answer.Items, &runtime.PodSandbox{Id: id})
	}
	return answer, nil
}

func (s *server) StopPodSandbox(_ context.Context, r *runtime.StopPodSandboxRequest) (*runtime.StopPodSandboxResponse, error) {
	s.asked = append(s.asked, "stop "+r.PodSandboxId)
	if r.PodSandboxId == "stuck" {
		return nil, status.Error(codes.Unknown, "failed to destroy network")
	}
	return &runtime.StopPodSandboxResponse{}, nil
}

func (s *server) RemovePodSandbox(_ context.Context, r *runtime.RemovePodSandboxRequest) (*runtime.RemovePodSandboxResponse, error) {
	s.asked = append(s.asked, "remove "+r.PodSandboxId)
	return &runtime.RemovePodSandboxResponse{}, nil
}

// listen serves on a unix socket and returns its path.
func listen(t *testing.T, register func(*grpc.Server)) string {
	socket := filepath.Join(t.TempDir(), "cri.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	register(g)
	go g.Serve(listener) //nolint:errcheck // it ends with the test
	t.Cleanup(g.Stop)
	return socket
}

func (s *server) register(g *grpc.Server) {
	runtime.RegisterRuntimeServiceServer(g, s)
	runtime.RegisterImageServiceServer(g, s)
}

func dial(t *testing.T) cri.Dial {
	h, err := local.New()
	if err != nil {
		t.Fatal(err)
	}
	return h.Dial
}

func open(t *testing.T, s *server) *cri.Client {
	c, err := cri.Open(t.Context(), "unix://"+listen(t, s.register), dial(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRuntime(t *testing.T) {
	c := open(t, &server{api: "v1"})
	want := cri.Version{RuntimeName: "containerd", RuntimeVersion: "v2.4.2", RuntimeAPIVersion: "v1"}
	if diff := cmp.Diff(want, c.Version()); diff != "" {
		t.Error(diff)
	}
	got, err := c.Conditions(t.Context())
	conditions := []cri.Condition{
		{Type: "RuntimeReady", Ready: true},
		{Type: "NetworkReady", Reason: "NetworkPluginNotReady", Message: "cni plugin not initialized"},
	}
	if diff := cmp.Diff(conditions, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestCgroupDriver(t *testing.T) {
	linux := func(d runtime.CgroupDriver) *runtime.RuntimeConfigResponse {
		return &runtime.RuntimeConfigResponse{Linux: &runtime.LinuxRuntimeConfiguration{CgroupDriver: d}}
	}
	old := func(options string) string {
		return `{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":` + options + `,"crun":{"options":{"SystemdCgroup":true}}}},"systemdCgroup":false}`
	}
	for _, test := range []struct {
		name   string
		answer *runtime.RuntimeConfigResponse
		config string
		want   string
	}{
		{"systemd", linux(runtime.CgroupDriver_SYSTEMD), "", "systemd"},
		{"cgroupfs", linux(runtime.CgroupDriver_CGROUPFS), "", "cgroupfs"},
		{"told, whatever the configuration is", linux(runtime.CgroupDriver_SYSTEMD), old(`{"runtimeType":"io.containerd.runc.v2"}`), "systemd"},
		{"nothing of Linux", &runtime.RuntimeConfigResponse{}, "", ""},
		{"not told", nil, "", ""},
		{"containerd 1.6 as it comes", nil, old(`{"runtimeType":"io.containerd.runc.v2","options":{"BinaryName":"","SystemdCgroup":false}}`), "cgroupfs"},
		{"no options", nil, old(`{"runtimeType":"io.containerd.runc.v2","options":null}`), "cgroupfs"},
		{"containerd 1.6 with systemd", nil, old(`{"runtimeType":"io.containerd.runc.v2","options":{"SystemdCgroup":true}}`), "systemd"},
		{"a runtime of another kind", nil, old(`{"runtimeType":"io.containerd.kata.v2","options":null}`), ""},
		{"no such runtime", nil, `{"containerd":{"defaultRuntimeName":"x"}}`, ""},
		{"another form", nil, `{"containerd":[]}`, ""},
		{"no JSON", nil, `containerd`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := open(t, &server{api: "v1", driver: test.answer, config: test.config}).CgroupDriver(t.Context())
			if got != test.want || err != nil {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func TestImages(t *testing.T) {
	s := &server{api: "v1"}
	var want []cri.Image
	for i := range 30_000 { // more than gRPC's own 4 MiB
		name, digest := fmt.Sprintf("registry.example/image-%d:1", i), "registry.example/image@sha256:"+strings.Repeat("0", 64)
		s.images = append(s.images, &runtime.Image{
			Id: "sha256:1", RepoTags: []string{name}, RepoDigests: []string{digest}, Size: 5, Pinned: true,
		})
		want = append(want, cri.Image{ID: "sha256:1", Tags: []string{name}, Digests: []string{digest}, Size: 5, Pinned: true})
	}
	c := open(t, s)
	got, err := c.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(want, got) {
		t.Errorf("%d images, of which the first is %+v", len(got), got[0])
	}
	one, found, err := c.Image(t.Context(), "registry.example/image-7:1")
	if diff := cmp.Diff(want[7], one); diff != "" || !found || err != nil {
		t.Errorf("%v, %v\n%s", found, err, diff)
	}
	if _, found, err := c.Image(t.Context(), "registry.example/none:1"); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
}

func TestPull(t *testing.T) {
	c := open(t, &server{api: "v1"})
	got, err := c.Pull(t.Context(), "registry.example/a:1", cri.Auth{Username: "user", Password: "secret"})
	if got != "sha256:pulled" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, auth := range []cri.Auth{{}, {Username: "user", Password: "wrong-secret"}} {
		_, err := c.Pull(t.Context(), "registry.example/a:1", auth)
		if text := fmt.Sprint(err); !strings.Contains(text, "pull registry.example/a:1: ") ||
			!strings.Contains(text, "401 Unauthorized") || strings.Contains(text, "secret") {
			t.Errorf("%v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Pull(ctx, "registry.example/hangs:1", cri.Auth{}); status.Code(errors.Unwrap(err)) != codes.Canceled {
		t.Errorf("%v", err)
	}
}

func TestPods(t *testing.T) {
	s := &server{api: "v1", pods: []string{"etcd", "stuck"}}
	c := open(t, s)
	got, err := c.Pods(t.Context())
	if diff := cmp.Diff(s.pods, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if err := c.RemovePod(t.Context(), "etcd"); err != nil {
		t.Error(err)
	}
	if err := c.RemovePod(t.Context(), "stuck"); err == nil || !strings.Contains(err.Error(), "stop pod stuck: ") || !strings.Contains(err.Error(), "destroy network") {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{"stop etcd", "remove etcd", "stop stuck"}, s.asked); diff != "" {
		t.Error(diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, test := range []struct{ name, socket, want string }{
		{"a relative path", "containerd.sock", "is not an absolute path; hint: "},
		{"a Windows pipe", "npipe:////./pipe/containerd", "is not an absolute path"},
		{"nobody there", filepath.Join(t.TempDir(), "none.sock"), "no such file or directory\"; hint: see whether the runtime runs"},
		{"CRI is switched off", listen(t, func(*grpc.Server) {}), "hint: CRI v1 is not served there"},
		{"an old runtime", listen(t, (&server{api: "v1alpha2"}).register), `speaks CRI "v1alpha2", and Kubernetes v1; hint: `},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := cri.Open(t.Context(), test.socket, dial(t))
			if err == nil {
				c.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want %s", err, test.want)
			}
		})
	}
}
